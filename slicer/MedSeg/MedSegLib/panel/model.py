"""Section "Model": which one, and what its makers say about it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from MedSegLib.models import Model, of_json
from MedSegLib.panel import pieces
from MedSegLib.panel.catalogue import Catalogue
from MedSegLib.panel.desk import Desk
from MedSegLib.remote import Remote
from MedSegLib.work import DONE, Event, Outcome

TICKS = 5
"""Of the panel's timer, between the last letter of a path and the look into it."""


class Models:
    """Lists what the backend has; `changed` hears of each choice."""

    def __init__(self, parent: Any, desk: Desk, changed: Callable[[], None]) -> None:
        self.desk, self.changed = desk, changed
        self.models: list[tuple[Model, dict[str, Any]]] = []
        self.section, form = pieces.section(parent, "Model")
        self.runs = pieces.path(
            True,
            desk.settings.runs,
            "A run folder that `medseg train` made or `medseg get` brought, or a folder of those",
        )
        self.refresh = pieces.button("List", self.look, "Look into the folder, or ask the service, once more")
        self.model = pieces.choice((), "", "What is found in the folder, or what the service offers you")
        self.about, self.state = pieces.note(), pieces.note()
        self.accept = pieces.tick(
            "I have read the licence and the intended use",
            False,
            "Asked once for each model. You answer for using it as its makers allow.",
        )
        self._folder_row = pieces.row(self.runs, self.refresh)
        form.addRow(pieces.name("Folder"), self._folder_row)
        form.addRow(pieces.name("Model"), self.model)
        form.addRow(pieces.name(""), pieces.column(self.about, self.accept, self.state))
        self.catalogue = Catalogue(desk)
        form.addRow(self.catalogue.widget)
        self._due = 0
        self.runs.currentPathChanged.connect(self._typed)
        self.model.currentIndexChanged.connect(self._choose)
        self.accept.clicked.connect(self._accepted)
        self._tell()

    def _typed(self, *_: object) -> None:
        self._due = TICKS

    def tick(self) -> None:
        """Called by the panel's timer."""
        if self._due:
            self._due -= 1
            if not self._due:
                self.look()

    def look(self, *_: object) -> None:
        """Ask the backend what there is."""
        self._due = 0
        backend, folder = self.desk.backend, str(self.runs.currentPath or "")
        self.desk.keep(runs=folder)
        self.runs.setEnabled(self.desk.here)
        self.catalogue.widget.setVisible(self.desk.here)
        self.desk.asks.forget("models")
        if backend is None or (self.desk.here and not folder):
            self._fill([])
            nothing = "Choose a folder with models." if backend else "Choose first where it runs."
            pieces.state(self.state, "stop", nothing)
            return
        pieces.state(self.state, "", "Looking for models…")
        run = backend.models() if isinstance(backend, Remote) else self.desk.ask(["info", folder, "--json"])
        self.desk.asks.ask("models", run, self._listed)

    def _listed(self, event: Event) -> None:
        if not isinstance(event, Outcome):
            return
        if event.state != DONE:
            self._fill([])
            pieces.failed(self.state, event.failure)
            return
        answer = event.facts.get("answer")
        told = answer.get("models") if isinstance(answer, dict) else answer
        broken = len(answer.get("broken") or ()) if isinstance(answer, dict) else 0
        entries = [entry for entry in told or () if isinstance(entry, dict) and not entry.get("partial")]
        read = [(model, entry) for entry in entries for model in [_model(entry)]]
        found = [(model, entry) for model, entry in read if model is not None]
        broken += len(read) - len(found)
        self._fill(found)
        level = "look" if broken else "ok" if found else "stop"
        spoilt = f" {broken} cannot be used: `medseg info` says why." if broken else ""
        pieces.state(self.state, level, f"{len(found)} found.{spoilt}")

    def _fill(self, found: list[tuple[Model, dict[str, Any]]]) -> None:
        wanted = self.desk.settings.model
        self.models = found
        self.model.blockSignals(True)
        self.model.clear()
        for model, _entry in found:
            alike = sum(other.name == model.name for other, _ in found) > 1
            self.model.addItem(f"{model.name} ({Path(model.ask).name})" if alike else model.name, model.ask)
        self.model.setCurrentIndex(max(0, self.model.findData(wanted)) if found else -1)
        self.model.blockSignals(False)
        self._choose()

    def _choose(self, *_: object) -> None:
        at = int(pieces.read(self.model, "currentIndex"))
        self.desk.model, self.desk.entry = self.models[at] if 0 <= at < len(self.models) else (None, {})
        if self.desk.model is not None:
            self.desk.keep(model=self.desk.model.ask)
        self._tell()
        self.changed()

    def _tell(self) -> None:
        model = self.desk.model
        self.about.setText(described(model) if model else "")
        self.about.setVisible(model is not None)
        self.accept.setVisible(model is not None)
        self.accept.setChecked(self.accepted)

    @property
    def accepted(self) -> bool:
        """Whether the user has read what this model's makers say, as they say it now."""
        return self.desk.model is not None and stamp(self.desk.model) in self.desk.settings.accepted

    def _accepted(self, *_: object) -> None:
        model = self.desk.model
        if model is None:
            return
        others = tuple(one for one in self.desk.settings.accepted if one != stamp(model))
        ticked = bool(pieces.read(self.accept, "checked"))
        self.desk.keep(accepted=(*others, stamp(model)) if ticked else others)
        self.changed()


def _model(entry: dict[str, Any]) -> Model | None:
    """None: another version of medseg told it, which this module does not understand."""
    try:
        return of_json(entry, str(entry.get("path") or entry["name"]))
    except (KeyError, TypeError, ValueError):
        return None


def stamp(model: Model) -> str:
    """Of the texts, so that other ones under the same name are read again."""
    return hashlib.sha256("\0".join((model.name, model.licence, model.intended_use)).encode()).hexdigest()[:16]


def described(model: Model) -> str:
    """What is good to know before it is run, as HTML."""
    names = [label.name for label in model.labels]
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    spacing = " × ".join(f"{size:g}" for size in model.spacing_mm) + " mm" if model.spacing_mm else "each scan's own"
    known = dict(zip(model.channels, model.modalities))
    found = "Finds" if model.segments else "Tells apart"
    lines = [
        ("Needs", ", ".join(f"{name} ({known[name]})" if known.get(name) else name for name in model.channels)),
        (found, shown),
        ("Voxels", spacing),
        ("Licence", model.licence),
        ("Intended use", model.intended_use),
    ]
    return "".join(f"<b>{pieces.escaped(name)}:</b> {pieces.escaped(text)}<br>" for name, text in lines)[:-4]
