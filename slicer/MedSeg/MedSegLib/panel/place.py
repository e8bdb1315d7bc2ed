"""Section "Where it runs": an environment on this computer, or a service."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt

from MedSegLib.panel import pieces
from MedSegLib.panel.creating import Creating
from MedSegLib.panel.desk import Desk
from MedSegLib.work import DONE, Event, Outcome

PLACES = (("here", "This computer"), ("service", "A medseg service"))

TITLE = "Where it runs"


class Place:
    """Choose it, prove that it answers, and tell `changed`."""

    def __init__(self, parent: Any, desk: Desk, changed: Callable[[], None]) -> None:
        self.desk, self.changed = desk, changed
        self._touched = False
        kept = desk.settings
        self.section, form = pieces.section(parent, TITLE)
        self.place = pieces.choice(
            PLACES,
            kept.place,
            "MedSeg never installs anything into Slicer's own Python. It works in an environment of its own on this "
            "computer, or at a service that your hospital runs.",
        )
        form.addRow(pieces.name("Run on"), self.place)
        self._here = self._local(form, kept.environment)
        self._there = self._service(form)
        self.state = pieces.note()
        form.addRow(pieces.name(""), self.state)
        self.place.currentIndexChanged.connect(self._switched)
        self._show()

    def _local(self, form: Any, folder: str) -> Any:
        self.folder = pieces.path(
            True, folder, "Folder of an environment that has medseg: one that was made here, or any virtual environment"
        )
        self.use = pieces.button("Use it", self._pressed, "See whether medseg is in this environment, and work with it")
        self.creating = Creating(self.desk, self.made)
        holder = qt.QWidget()
        inner = pieces.form_of(holder)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.addRow(pieces.name("Environment"), pieces.row(self.folder, self.use))
        inner.addRow(self.creating.widget)
        form.addRow(holder)
        return holder

    def _service(self, form: Any) -> Any:
        kept = self.desk.settings
        holder = qt.QWidget()
        inner = pieces.form_of(holder)
        inner.setContentsMargins(0, 0, 0, 0)
        self.address = qt.QLineEdit(kept.address)
        self.address.setPlaceholderText("https://medseg.hospital.example")
        self.address.setToolTip("Address of the service, as its administrator gave it to you")
        self.token = qt.QLineEdit(kept.token)
        self.token.setEchoMode(qt.QLineEdit.Password)
        self.token.setToolTip("What the service knows you by. Its administrator makes it with `medseg tokens add`.")
        self.keep = pieces.tick(
            "Keep the token on this computer",
            kept.keep_token,
            "The token is written into Slicer's settings, where programs of your account can read it. "
            "Otherwise it is forgotten when Slicer closes.",
        )
        self.authority = pieces.path(
            False,
            kept.authority,
            "Certificate of the hospital's own authority (PEM), where the service has one; else leave it empty",
        )
        self.keep.clicked.connect(self._kept)
        self.connect = pieces.button(
            "Connect", self._pressed, "Ask the service who you are, and which models it offers"
        )
        inner.addRow(pieces.name("Address"), self.address)
        inner.addRow(pieces.name("Token"), pieces.row(self.token, self.connect))
        inner.addRow(pieces.name(""), self.keep)
        inner.addRow(pieces.name("Authority"), self.authority)
        form.addRow(holder)
        return holder

    def _kept(self, *_: object) -> None:
        """At once: who takes the tick away wants the token out of the settings now."""
        self.desk.keep(keep_token=bool(pieces.read(self.keep, "checked")))

    def look(self, *_: object) -> None:
        """See whether what is filled in works; nothing is asked where nothing is filled in."""
        self.section.text = TITLE
        self.desk.backend = None
        if pieces.chosen(self.place) == "service":
            self._connect()
        else:
            self._existing()
        self.changed()

    def made(self, folder: str) -> None:
        """An environment was made: use it."""
        self.folder.currentPath = folder
        self.look()

    def _existing(self) -> None:
        from MedSegLib import environment

        folder = str(self.folder.currentPath or "")
        self.desk.keep(place="here", environment=folder)
        if not folder:
            self.desk.asks.forget("place")
            pieces.state(self.state, "stop", "Choose an environment, or make one: medseg is not part of Slicer.")
            return
        pieces.state(self.state, "", "Looking for medseg in it…")
        self.desk.asks.ask("place", environment.existing(Path(folder)), self._environment)

    def _environment(self, event: Event) -> None:
        if not isinstance(event, Outcome):
            return
        if event.state == DONE:
            version = str(event.facts.get("version", ""))
            self.desk.use_program(event.facts["program"], version)
            pieces.state(self.state, "ok", f"medseg {version} is ready on this computer.")
            self._fold(f"this computer, medseg {version}")
        else:
            pieces.failed(self.state, event.failure)
        self.changed()

    def _connect(self) -> None:
        address, token = str(pieces.read(self.address, "text")).strip(), str(pieces.read(self.token, "text")).strip()
        authority, keep = str(self.authority.currentPath or ""), bool(pieces.read(self.keep, "checked"))
        self.desk.keep(place="service", address=address, token=token, authority=authority, keep_token=keep)
        if not address or not token:
            self.desk.asks.forget("place")
            pieces.state(self.state, "stop", "Fill in the address and the token of the service.")
            return
        pieces.state(self.state, "", "Asking the service…")
        remote = self.desk.use_service(address, token, authority)
        self.desk.backend = None  # until it has answered
        self.desk.asks.ask("place", remote.me(), lambda event: self._service_said(event, remote))

    def _service_said(self, event: Event, remote: Any) -> None:
        if not isinstance(event, Outcome):
            return
        if event.state == DONE:
            self.desk.backend = remote
            me = event.facts.get("answer") or {}
            who = f"{me.get('name', '?')} ({me.get('role', '?')})"
            self._fold(f"a service, as {who}")
            pieces.state(self.state, "ok", f"The service knows you as {who}. Scans that you Apply are sent there.")
        else:
            pieces.failed(self.state, event.failure)
        self.changed()

    def _fold(self, where: str) -> None:
        """Out of the way, when what was chosen in an earlier session works."""
        self.section.text = f"{TITLE}: {where}"
        self.section.collapsed = not self._touched

    def _pressed(self, *_: object) -> None:
        self._touched = True
        self.look()

    def _switched(self, *_: object) -> None:
        self._touched = True
        self._show()
        self.look()

    def _show(self) -> None:
        service = pieces.chosen(self.place) == "service"
        self._here.setVisible(not service)
        self._there.setVisible(service)
