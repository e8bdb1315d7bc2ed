"""Section "Apply": start, progress, cancel, the queue and its log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt

import slicer
from MedSegLib import report
from MedSegLib.panel import pieces
from MedSegLib.panel.desk import Desk

STATES = {"waiting": "waits", "running": "runs", "done": "done", "failed": "failed", "cancelled": "cancelled"}
ROW = 18
"""Height of a run in the list."""
LEVELS = {"waiting": "", "running": "", "done": "ok", "failed": "stop", "cancelled": "look"}


class Running:
    """`applied` is what its button calls."""

    def __init__(self, parent: Any, desk: Desk, applied: Callable[..., None]) -> None:
        self.desk = desk
        self.section, form = pieces.section(parent, "Apply")
        self.apply = pieces.button("Apply", applied, "Segment in the background: Slicer stays free for other work")
        self.apply.setStyleSheet("font-weight: bold")
        self.cancel = pieces.button(
            "Cancel",
            self._cancelled,
            "End what is chosen in the list; where nothing is, what runs now. Memory is free within seconds.",
        )
        self.bar = qt.QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(True)
        self.stage = pieces.note()
        self.queue = qt.QListWidget()
        self.queue.setToolTip("Runs are worked on one after the other. Choose one to see its log, or to cancel it.")
        self.queue.setHorizontalScrollBarPolicy(qt.Qt.ScrollBarAlwaysOff)  # it would hide the last row
        self.log = pieces.lines(88)
        self.copy = pieces.button(
            "Copy report",
            self._copied,
            "Versions, memory, stages and the failure, for whoever helps you. Names, paths and numbers of patients are "
            "left out.",
        )
        form.addRow(pieces.row(self.apply, self.cancel))
        form.addRow(self.bar)
        form.addRow(self.stage)
        form.addRow(self.queue)
        form.addRow(self.log)
        self.queue.setVisible(False)
        self.log.setVisible(False)
        form.addRow(pieces.row(qt.QLabel(""), self.copy))
        self.queue.currentRowChanged.connect(self._chosen)
        self._logged: tuple[int, int] = (0, 0)
        self._filled = False
        self.show()

    def entry(self) -> Any:
        """The run that is chosen in the list, else the one that runs, else the last; None: there is none."""
        entries = self.desk.runs.entries
        at = int(pieces.read(self.queue, "currentRow"))
        if 0 <= at < len(entries):
            return entries[at]
        running = [entry for entry in entries if entry.state == "running"]
        return running[0] if running else entries[-1] if entries else None

    def follow(self) -> None:
        """Show what runs, whatever was chosen before."""
        self.queue.setCurrentRow(-1)

    def show(self) -> None:
        """What there is to see now; called by the panel's timer."""
        entries = self.desk.runs.entries
        self._list(entries)
        entry = self.entry()
        self.cancel.setEnabled(entry is not None and not entry.over)
        if self._filled != (entry is not None):  # a folded section takes notice of each call
            self._filled = entry is not None
            self.queue.setVisible(self._filled)
            self.log.setVisible(self._filled)
        self.copy.setEnabled(entry is not None)
        if entry is None:
            self.bar.setValue(0)
            self.bar.setFormat("0 %")
            self.stage.setText("")
            return
        percent = entry.progress.percent if entry.progress else 0.0
        self.bar.setValue(int(percent * 10))
        self.bar.setFormat(f"{percent:.0f} %")
        self.stage.setText(told(entry))
        self._tell(entry)

    def _list(self, entries: Any) -> None:
        while int(pieces.read(self.queue, "count")) > len(entries):
            self.queue.takeItem(0)
        while int(pieces.read(self.queue, "count")) < len(entries):
            self.queue.addItem("")
            last = self.queue.item(int(pieces.read(self.queue, "count")) - 1)
            last.setSizeHint(qt.QSize(1, ROW))  # as wide as the list: a long title ends in dots
        pieces.fit(self.queue, 4)
        for at, entry in enumerate(entries):
            item, text = self.queue.item(at), f"{STATES[entry.state]}: {entry.title}"
            if item.text() != text:
                item.setText(text)
                item.setToolTip(text)  # of a long one, the end is cut off
                item.setForeground(qt.QBrush(qt.QColor(pieces.COLOURS[LEVELS[entry.state]])))

    def _tell(self, entry: Any) -> None:
        """Lines that are new are added, so that a log that somebody reads does not jump."""
        number, told = self._logged
        if number != entry.number:
            self.log.clear()
            told = 0
        new = min(entry.said - told, len(entry.log))
        for text in list(entry.log)[len(entry.log) - new :]:
            self.log.appendPlainText(text)
        self._logged = entry.number, entry.said

    def _chosen(self, *_: object) -> None:
        self.show()

    def _cancelled(self, *_: object) -> None:
        entry = self.entry()
        if entry is not None and not entry.over:
            self.desk.runs.cancel(entry.number)
            self.show()

    def _copied(self, *_: object) -> None:
        qt.QApplication.clipboard().setText(reported(self.desk, self.entry()))


def reported(desk: Desk, entry: Any) -> str:
    """What helps others to help, without patients' names, paths and tokens."""
    versions = {"3D Slicer": str(getattr(slicer.app, "applicationVersion", "not known")), "medseg": desk.version}
    return report.report(entry, versions=versions, secrets=desk.secrets())


def told(entry: Any) -> str:
    """How it goes, as HTML: the stage and the time left, or how it ended."""
    if entry.state == "failed":
        failure = entry.outcome.failure if entry.outcome else None
        return pieces.marked("stop", str(failure) if failure else "It failed, and the reason is not known.")
    if entry.state == "running":
        stage = entry.progress.stage if entry.progress else "starting"
        left = entry.progress.seconds_left if entry.progress else None
        return pieces.marked("", stage + (f", about {duration(left)} left" if left else ""))
    words = {"done": "Done.", "cancelled": "Cancelled: the scene is as it was.", "waiting": "Waits for its turn."}
    return pieces.marked(LEVELS[entry.state], words[entry.state])


def duration(seconds: float) -> str:
    """In words, as exact as one needs it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
