"""What the module remembers between sessions. Where it is kept is handed in: in Slicer, a `qt.QSettings`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

PREFIX = "MedSeg/"


class Store(Protocol):
    """The part of QSettings that is used."""

    def value(self, key: str, default: Any = None) -> Any: ...

    def setValue(self, key: str, value: Any) -> None: ...  # Qt's own name

    def remove(self, key: str) -> None: ...


@dataclass(frozen=True)
class Settings:
    """What the user chose last.

    Attributes:
        place: `here` (an environment on this computer) or `service`.
        environment: folder of the environment, or the medseg program itself.
        address: of the service.
        token: of the service; empty unless the user asked to keep it.
        keep_token: whether it is kept.
        authority: file of the certificate authority that the service's certificate comes from; empty: the system's.
        runs: a run folder, or a folder of run folders.
        model: what the backend asks for the chosen one by.
        accepted: models whose licence and intended use were read: their `ask` and what the texts were.
        quality: fast, standard or best.
        device: auto, cpu, cuda or mps.
        uncertainty: whether a volume of the uncertainty is wanted.
        table: whether a table of volumes is wanted.
        harden: whether a volume under a transform is taken as it is shown; else it is refused.
        batch: folder that results of a batch go to.
        cases: folder data set that corrected cases are saved in.
    """

    place: str = "here"
    environment: str = ""
    address: str = ""
    token: str = field(default="", repr=False)
    keep_token: bool = False
    authority: str = ""
    runs: str = ""
    model: str = ""
    accepted: tuple[str, ...] = ()
    quality: str = "standard"
    device: str = "auto"
    uncertainty: bool = False
    table: bool = True
    harden: bool = True
    batch: str = ""
    cases: str = ""


def read(store: Store) -> Settings:
    """What is kept; a value that cannot be read, or is of another kind, is as if it had never been kept."""
    found: dict[str, Any] = {}
    for kept in fields(Settings):
        try:
            value = json.loads(str(store.value(PREFIX + kept.name, "")))
        except ValueError:
            continue
        if isinstance(kept.default, tuple) and isinstance(value, list):
            value = tuple(map(str, value))
        if type(value) is type(kept.default):
            found[kept.name] = value
    return Settings(**found)


def write(store: Store, settings: Settings) -> None:
    """Keep all of it: as JSON, since QSettings gives numbers and truth values back as text, and a list of one as its
    only member. The token goes in only where the user asked for that, and goes out where the user asks no longer."""
    for kept in fields(Settings):
        if kept.name == "token" and not settings.keep_token:
            store.remove(PREFIX + "token")
        else:
            store.setValue(PREFIX + kept.name, json.dumps(getattr(settings, kept.name)))
