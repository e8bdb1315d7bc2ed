"""Make an environment: where, with which Python, and where medseg comes from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt

import slicer
from MedSegLib.panel import pieces
from MedSegLib.panel.desk import Desk
from MedSegLib.work import DONE, Event, Outcome

UV = "uv"
TORCH = (
    ("cpu", "For the processor alone (about 2 GB)"),
    ("usual", "What the package index has (on Linux with NVIDIA's libraries, about 6 GB)"),
    ("cu128", "For NVIDIA cards, from PyTorch's own index (about 6 GB)"),
)


def source_here() -> str:
    """Folder of medseg's source where the extension lies in it; empty: it was installed without. A name at a public
    index is no default: anybody may offer a package under it."""
    root = Path(__file__).parents[4]
    return str(root) if (root / "pyproject.toml").is_file() and (root / "medseg" / "__init__.py").is_file() else ""


class Creating:
    """A box below the environment's field, shown when it is asked for; `made` hears of the folder."""

    def __init__(self, desk: Desk, made: Callable[[str], None]) -> None:
        self.desk, self.made = desk, made
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        self.open = pieces.button("Make an environment…", self._opened, "Install medseg into a folder of its own")
        self.open.setCheckable(True)
        layout.addWidget(self.open)
        self.box = qt.QGroupBox("A new environment")
        layout.addWidget(self.box)
        form = pieces.form_of(self.box)
        self._ask_where(form)
        self._ask_what(form)
        self.start = pieces.button("Make it", self.create, "Starts in the background; it can be cancelled below")
        self.state = pieces.note()
        self.remove = pieces.button(
            "Remove", self.remove_it, "Take away what was made in this folder, and nothing else"
        )
        form.addRow(pieces.name(""), pieces.row(self.start, self.remove))
        form.addRow(self.state)
        self.box.setVisible(False)

    def _ask_where(self, form: Any) -> None:
        form.addRow(
            pieces.note(
                "Packages are downloaded from Python's package index, or from the mirror that your pip is set up for. "
                "Slicer's own Python is not touched."
            )
        )
        self.folder = pieces.path(True, str(Path.home() / "medseg-environment"), "An empty folder, or one to be made")
        self.python = pieces.choice((), "", "medseg needs Python 3.11 or newer, which may be newer than Slicer's own")
        self.consent = pieces.tick(
            "uv may fetch a Python from the internet",
            False,
            "Nothing is downloaded without this tick. uv, a program that brings Python, has to be on this computer.",
        )
        form.addRow(pieces.name("Folder"), self.folder)
        form.addRow(pieces.name("Python"), self.python)
        form.addRow(pieces.name(""), self.consent)
        self.consent.setVisible(False)
        self.python.currentIndexChanged.connect(self._chosen)

    def _ask_what(self, form: Any) -> None:
        self.source = qt.QLineEdit(source_here())
        self.source.setPlaceholderText("a wheel of medseg, or the folder of its source")
        self.source.setToolTip(
            "The path of a wheel, or of the folder with its source. A name such as medseg==0.1.0 is looked up at the "
            "package index of your pip: give one only where you know whose package it is there."
        )
        self.torch = pieces.choice(TORCH, "cpu", "PyTorch does the computing, and is most of the download")
        self.wheels = pieces.path(
            True, "", "Without a network: a folder with the wheels of all packages. Otherwise leave it empty."
        )
        form.addRow(pieces.name("medseg from"), self.source)
        form.addRow(pieces.name("PyTorch"), self.torch)
        form.addRow(pieces.name("Offline from"), self.wheels)

    def _opened(self, *_: object) -> None:
        from MedSegLib import environment, packages

        opened = bool(pieces.read(self.open, "checked"))
        self.box.setVisible(opened)
        if opened and not pieces.read(self.python, "count"):
            self.torch.setCurrentIndex(max(0, self.torch.findData(packages.torch_choice())))
            self.consent.setText(f"uv may fetch a Python from {environment.python_address()}")
            pieces.state(self.state, "", "Looking for Python 3.11 or newer…")
            self.desk.asks.ask("pythons", environment.find_pythons(), self._found)

    def _found(self, event: Event) -> None:
        if not isinstance(event, Outcome):
            return
        self.python.clear()
        for one in event.facts.get("pythons", ()):
            self.python.addItem(str(one), str(one.path))
        self.python.addItem("None of these: uv fetches one", UV)
        self.python.setCurrentIndex(0)
        self.state.setText("")
        self._chosen()

    def _chosen(self, *_: object) -> None:
        self.consent.setVisible(pieces.chosen(self.python) == UV)

    def create(self, *_: object) -> None:
        """Begin, where all is filled in."""
        from MedSegLib import environment

        folder, source = str(self.folder.currentPath or ""), str(pieces.read(self.source, "text")).strip()
        python, wheels = pieces.chosen(self.python), str(self.wheels.currentPath or "")
        if not folder or not source or not python:
            pieces.state(self.state, "stop", "Choose a folder, a Python and where medseg comes from.")
            return
        if python == UV and not pieces.read(self.consent, "checked"):
            pieces.state(self.state, "stop", "Allow uv to fetch a Python, or choose one that is there.")
            return
        interpreter, torch = None if python == UV else Path(python), pieces.chosen(self.torch)
        offline = Path(wheels) if wheels else None
        self.start.setEnabled(False)
        pieces.state(self.state, "", "It is being made: progress, the log and Cancel are below, at Apply.")
        self.desk.runs.add(
            "Make the environment",
            lambda: environment.install(Path(folder), python=interpreter, source=source, torch=torch, wheels=offline),
            lambda outcome: self._ended(outcome, folder),
        )

    def remove_it(self, *_: object) -> None:
        """Remove an environment that was made here, if the user is sure."""
        from MedSegLib import environment

        folder = str(self.folder.currentPath or "")
        if not folder or not slicer.util.confirmYesNoDisplay(f"Remove the environment in {folder}?"):
            return
        self.desk.runs.add("Remove the environment", lambda: environment.remove(Path(folder)), self._removed)

    def _removed(self, outcome: Outcome) -> None:
        if outcome.state == DONE:
            pieces.state(self.state, "ok", "It is removed.")
        else:
            pieces.failed(self.state, outcome.failure)

    def _ended(self, outcome: Outcome, folder: str) -> None:
        self.start.setEnabled(True)
        if outcome.state == DONE:
            pieces.state(self.state, "ok", "It is made.")
            self.open.setChecked(False)
            self.box.setVisible(False)
            self.made(folder)
        elif outcome.failure:
            pieces.failed(self.state, outcome.failure)
        else:
            pieces.state(self.state, "look", "Cancelled. What is there is made anew the next time.")
