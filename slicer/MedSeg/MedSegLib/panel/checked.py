"""Section "Check": whether the inputs suit the model and the computer, before anything is run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from MedSegLib import check, scene, standin
from MedSegLib.panel import pieces
from MedSegLib.panel.desk import Desk
from MedSegLib.work import DONE, Event, Outcome

TICKS = 5
"""Of the panel's timer, between the last change and a trial: several changes in a row are looked at once."""


class Checked:
    """Starts by itself. `changed` hears when Apply may be pressed, or may not."""

    def __init__(self, parent: Any, desk: Desk, changed: Callable[[], None]) -> None:
        self.desk, self.changed = desk, changed
        self.section, form = pieces.section(parent, "Check")
        self.text = pieces.note()
        self.text.setToolTip(
            "Looked at again whenever an input changes. Memory and time are tried out in the background with an "
            "empty image of the same size."
        )
        form.addRow(self.text)
        self.ok = False
        self._model: Any = None
        self._inputs: list[check.Input] = []
        self._words: list[str] = []
        self._due = 0

    def show(self, volumes: dict[str, Any], roi: Any, labels: tuple[str, ...], stop: str) -> None:
        """Judge at once what can be seen, and soon what has to be tried.

        Args:
            volumes: the node of each channel that has one.
            roi: the node of the region, or None.
            labels: that are to be kept; none: all.
            stop: a sentence on what else is missing; empty: nothing.
        """
        self.desk.asks.forget("check")
        self._model, self._due = self.desk.model, 0
        if self._model is None:
            self.stop(stop)
            return
        try:
            self._inputs = [_seen(channel, node) for channel, node in volumes.items()]
            self._words = self._options(volumes, roi, labels)
        except scene.Trouble as trouble:
            self.stop(str(trouble.failure))
            return
        verdict = check.verdict(self._model, self._inputs)
        extra = [("stop", stop)] if stop else []
        self._say(verdict.ok and not stop, [*extra, *verdict.sentences])
        if self.ok and self.desk.here:
            self._due = TICKS

    def stop(self, text: str) -> None:
        """Say why it cannot be run."""
        self._say(False, [("stop", text)])

    def _options(self, volumes: dict[str, Any], roi: Any, labels: tuple[str, ...]) -> list[str]:
        """Those of `medseg predict` that change memory and time."""
        kept = self.desk.settings
        words = ["--quality", kept.quality, "--device", kept.device]
        if labels:
            words += ["--labels", ",".join(labels)]
        text = scene.roi_text(roi, next(iter(volumes.values()))) if roi is not None and volumes else ""
        return [*words, *(["--roi", text] if text else [])]

    def tick(self) -> None:
        """Called by the panel's timer."""
        if self._due:
            self._due -= 1
            if not self._due:
                self._try()

    def _try(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="medseg-check-"))
        try:
            words = ["predict", self._model.ask]
            for number, one in enumerate(self._inputs):
                file = standin.write(folder / f"{number}.nrrd", one.shape, one.spacing_mm)
                words += ["--channel", f"{one.channel}={file}"]
            words += [str(folder / "out"), *self._words, "--dry-run", "--progress", "json"]
            run = _Removing(self.desk.ask(words), folder)
        except OSError:  # the disk is full: the run itself will say so
            shutil.rmtree(folder, ignore_errors=True)
            return
        self.desk.asks.ask("check", run, self._tried)

    def _tried(self, event: Event) -> None:
        if not isinstance(event, Outcome):
            return
        if event.state != DONE:
            return
        verdict = check.verdict(self._model, self._inputs, event.facts.get("answer"))
        self._say(verdict.ok, list(verdict.sentences))

    def _say(self, ok: bool, sentences: list[tuple[str, str]]) -> None:
        self.text.setText("<br>".join(pieces.marked(level, text) for level, text in sentences))
        self.ok = ok
        self.changed()


class _Removing:
    """A run whose folder goes away with it."""

    def __init__(self, run: Any, folder: Path) -> None:
        self._run, self._folder = run, folder

    def poll(self) -> list[Event]:
        events: list[Event] = self._run.poll()
        if any(isinstance(event, Outcome) for event in events):
            shutil.rmtree(self._folder, ignore_errors=True)
        return events

    def cancel(self) -> None:
        self._run.cancel()


def _seen(channel: str, node: Any) -> check.Input:
    scan = scene.described(node)
    return check.Input(channel, scan.name, scan.shape, scan.spacing_mm, scan.modality)
