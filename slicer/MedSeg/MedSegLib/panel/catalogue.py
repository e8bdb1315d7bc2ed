"""Models that others published: what they are, under which licence, and the commands that get each."""

from __future__ import annotations

from typing import Any

import qt

from MedSegLib.panel import pieces
from MedSegLib.panel.desk import Desk
from MedSegLib.work import DONE, Event, Outcome

TOLD = ("about", "licence", "trained_on", "input", "source")


class Catalogue:
    """Shows it when it is asked for. Getting a model is the user's own step, on a command line: its licence has to be
    agreed to, and some have to be fetched by hand."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.entries: list[dict[str, Any]] = []
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        self.open = pieces.button("Published models…", self._opened, "Models that medseg knows, and how to get them")
        self.open.setCheckable(True)
        self.box = qt.QGroupBox("Published models")
        layout.addWidget(self.open)
        layout.addWidget(self.box)
        form = pieces.form_of(self.box)
        self.entry = pieces.choice((), "", "Nothing is downloaded from here")
        self.text = pieces.note()
        self.commands = pieces.lines(64)
        self.commands.setToolTip("Run them on a command line; then choose the folder `models` as the folder above")
        form.addRow(pieces.name("Model"), self.entry)
        form.addRow(self.text)
        form.addRow(self.commands)
        form.addRow(
            pieces.name(""), pieces.button("Copy the commands", self._copied, "Then paste them into a command line")
        )
        self.entry.currentIndexChanged.connect(self._show)
        self.box.setVisible(False)

    def _opened(self, *_: object) -> None:
        opened = bool(pieces.read(self.open, "checked"))
        self.box.setVisible(opened)
        if opened and not self.entries and self.desk.here:
            pieces.state(self.text, "", "Asking medseg…")
            self.desk.asks.ask("catalogue", self.desk.ask(["get", "--json"]), self._listed)

    def _listed(self, event: Event) -> None:
        if not isinstance(event, Outcome):
            return
        if event.state != DONE:
            pieces.failed(self.text, event.failure)
            return
        self.entries = [entry for entry in event.facts.get("answer") or () if isinstance(entry, dict)]
        self.entry.clear()
        for entry in self.entries:
            self.entry.addItem(str(entry.get("name", "?")), str(entry.get("name", "")))
        self._show()

    def _show(self, *_: object) -> None:
        at = int(pieces.read(self.entry, "currentIndex"))
        if not 0 <= at < len(self.entries):
            return
        entry = self.entries[at]
        told = [(name.replace("_", " "), str(entry[name])) for name in TOLD if entry.get(name)]
        self.text.setText("<br>".join(f"<b>{pieces.escaped(name)}:</b> {pieces.escaped(text)}" for name, text in told))
        self.commands.setPlainText("\n".join(commands(entry, self.desk.program)))

    def _copied(self, *_: object) -> None:
        qt.QApplication.clipboard().setText(str(pieces.read(self.commands, "plainText")))


def commands(entry: dict[str, Any], program: tuple[str, ...]) -> list[str]:
    """What to type to get a model of the catalogue, and to bring it in."""
    start = " ".join(f'"{word}"' if " " in word else word for word in program) or "medseg"
    name, file = str(entry.get("name", "")), str(entry.get("file", ""))
    bring = f"{start} import-weights weights/{file} --as {name} --out models/{name}"
    if entry.get("direct"):
        return [f"{start} get {name} --out weights", bring]
    return [f"(download {file} by hand from {entry.get('source', 'its makers')} into the folder weights)", bring]
