"""What the sections of the panel share."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import slicer
from MedSegLib import private, settings
from MedSegLib.local import Local
from MedSegLib.models import Model
from MedSegLib.panel.asks import Asks
from MedSegLib.remote import Remote
from MedSegLib.runs import Runs
from MedSegLib.work import Run

PATIENCE_S = 2.0
"""For what is cancelled, when Slicer closes."""


class Desk:
    """Settings, the queue, the questions beside it, and what is chosen now.

    Attributes:
        backend: where orders go; None: nowhere yet.
        model, entry: the chosen model, and all that was told of it; None: none.
    """

    def __init__(self, store: settings.Store) -> None:
        self._store = store
        self.settings = settings.read(store)
        for place in (None, self.settings.batch):
            private.tidy(Path(place) if place else None)
        self.runs = Runs(self.secrets)
        self.asks = Asks()
        self.backend: Local | Remote | None = None
        self.model: Model | None = None
        self.entry: dict[str, Any] = {}
        self.program: tuple[str, ...] = ()
        self.version = "not known"

    def keep(self, **changes: Any) -> None:
        """Remember what the user chose."""
        self.settings = replace(self.settings, **changes)
        settings.write(self._store, self.settings)

    def secrets(self) -> list[str]:
        """What is known now that nobody else is to read: names in the scene, folders, the address, the token."""
        kept = self.settings
        nodes = [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLDisplayableNode")]
        return [kept.environment, kept.address, kept.token, kept.authority, kept.runs, kept.batch, kept.cases, *nodes]

    @property
    def here(self) -> bool:
        """Whether orders are worked on by this computer."""
        return isinstance(self.backend, Local)

    def use_program(self, words: Sequence[str], version: str) -> None:
        """Work here, with the program that these words start; none: not at all."""
        self.program, self.version = tuple(words), version
        self.backend = self._local() if self.program else None

    def use_service(self, address: str, token: str, authority: str) -> Remote:
        """Work at a service from now on."""
        self.version = "at a service"
        remote = Remote(address, token, authority=Path(authority) if authority else None)
        self.backend = remote
        return remote

    def ask(self, words: Sequence[str]) -> Run:
        """Ask the program on this computer something that it answers in JSON."""
        return self._local().ask(words)

    def _local(self) -> Local:
        """With the variables that Slicer itself was started with: it sets some for its own Python and libraries."""
        return Local(self.program, environment=slicer.util.startupEnvironment())

    def close(self) -> None:
        """End all that runs or waits; it is gone, or at least told so, within two seconds."""
        self.runs.close()
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            self.runs.poll()
            if self.asks.close() and all(entry.over for entry in self.runs.entries):
                break
            time.sleep(0.02)
