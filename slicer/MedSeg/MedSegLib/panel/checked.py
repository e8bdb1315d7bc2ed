"""Section "Check": whether the inputs suit the model and the computer, before anything is run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from MedSegLib import check, private, scene, standin, steps
from MedSegLib.panel import pieces
from MedSegLib.panel.asks import Removing
from MedSegLib.panel.desk import Desk
from MedSegLib.trouble import Trouble
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
            "image of noise of the same size."
        )
        form.addRow(self.text)
        self.ok = False
        self._model: Any = None
        self._inputs: list[check.Input] = []
        self._words: list[str] = []
        self._sentences: list[tuple[str, str]] = []
        self._due = 0
        self._asked: tuple[dict[str, Any], Any, tuple[str, ...], str] = ({}, None, (), "")
        self._seen: Any = None

    def show(self, volumes: dict[str, Any], roi: Any, labels: tuple[str, ...], stop: str) -> None:
        """Judge at once what can be seen, and soon what has to be tried.

        Args:
            volumes: the node of each channel that has one.
            roi: the node of the region, or None.
            labels: that are to be kept; none: all.
            stop: a sentence on what else is missing; empty: nothing.
        """
        self._asked = volumes, roi, labels, stop
        self._forget()
        self._model, self._seen = self.desk.model, self._look()
        if self._model is None:
            self.stop(stop)
            return
        if isinstance(self._seen, str):
            self.stop(self._seen)
            return
        self._inputs, self._words = self._seen
        verdict = check.verdict(self._model, self._inputs)
        extra = [("stop", stop)] if stop else []
        self._sentences = [*extra, *verdict.sentences]
        self._say(verdict.ok and not stop, self._sentences)
        if self.ok and self.desk.here:
            self._due = TICKS

    def stop(self, text: str) -> None:
        """Say why it cannot be run; a trial that goes on would say otherwise."""
        self._forget()
        self._say(False, [("stop", text)])

    def _forget(self) -> None:
        self.desk.asks.forget("check")
        self._due = 0

    def _look(self) -> Any:
        """What the verdict rests on: inputs and options; or why there can be none, in words."""
        volumes, roi, labels, _ = self._asked
        try:
            inputs = [_seen(channel, node, self.desk.settings.harden) for channel, node in volumes.items()]
            return inputs, self._options(volumes, roi, labels)
        except Trouble as trouble:
            return str(trouble.failure)

    def _options(self, volumes: dict[str, Any], roi: Any, labels: tuple[str, ...]) -> list[str]:
        """Those of `medseg predict` that change memory and time."""
        kept = self.desk.settings
        words = ["--quality", kept.quality, "--device", kept.device]
        if labels:
            words += ["--labels", ",".join(labels)]
        text = scene.roi_text(roi, next(iter(volumes.values()))) if roi is not None and volumes else ""
        return [*words, *(["--roi", text] if text else [])]

    def tick(self) -> None:
        """Called by the panel's timer. Volumes and regions are moved in other modules, which tell nobody here."""
        if self._model is not None and self._model is self.desk.model and self._look() != self._seen:
            self.show(*self._asked)
        busy = any(entry.state == "running" for entry in self.desk.runs.entries)
        if self._due and not busy:  # a trial beside a run would find too little memory and too long a time
            self._due -= 1
            if not self._due:
                self._try()

    def _try(self) -> None:
        folder, inputs = private.make(), list(self._inputs)
        files = [folder / f"{number}.nrrd" for number in range(len(inputs))]
        words = ["predict", self._model.ask]
        for one, file in zip(inputs, files):
            words += ["--channel", f"{one.channel}={file}"]
        words += [str(folder / "out"), *self._words, "--dry-run", "--progress", "json"]

        def write(stopped: Callable[[], bool]) -> None:
            for one, file in zip(inputs, files):
                standin.write(file, one.shape, one.spacing_mm, stopped)

        run = steps.After("making a stand-in", write, lambda: self.desk.ask(words))
        self.desk.asks.ask("check", Removing(run, folder), self._tried)

    def _tried(self, event: Event) -> None:
        if not isinstance(event, Outcome):
            return
        if event.state != DONE:
            self._say(True, [*self._sentences, ("look", f"It could not be tried out: {event.failure}")])
            return
        verdict = check.verdict(self._model, self._inputs, event.facts.get("answer"))
        self._say(verdict.ok, list(verdict.sentences))

    def _say(self, ok: bool, sentences: list[tuple[str, str]]) -> None:
        self.text.setText("<br>".join(pieces.marked(level, text) for level, text in sentences))
        self.ok = ok
        self.changed()


def _seen(channel: str, node: Any, harden: bool) -> check.Input:
    scan = scene.described(node)
    scene.shown(node, harden=harden)
    return check.Input(channel, scan.name, scan.shape, scan.spacing_mm, scan.modality)
