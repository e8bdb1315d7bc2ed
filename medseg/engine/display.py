"""What a person sees while a network trains: a live line on a terminal, a line an epoch in a log file."""

from __future__ import annotations

import math
import sys
import time
from contextlib import ExitStack
from types import TracebackType

from medseg.engine.batches import Pace


class TrainingDisplay:
    """Epoch, step, loss, validation measure (Dice, AUROC) and time left, on standard error.

    Use as a context manager; call `step` after each optimiser step and `epoch` after each epoch.
    """

    def __init__(self, measure: str, *, epochs: int, steps: int, done_steps: int, shown: bool = True):
        self._measure = {"dice": "Dice", "auroc": "AUROC"}[measure]
        self._epochs, self._steps = epochs, steps
        self._total, self._first, self._done = epochs * steps, done_steps, done_steps
        self._score, self._best = math.nan, math.nan
        self._started = time.monotonic()
        self._stack = ExitStack()
        self._shown, self._live = shown, shown and sys.stderr.isatty()

    def __enter__(self) -> TrainingDisplay:
        if self._live:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[tail]}"))
            self._bar = self._stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
            self._task = self._bar.add_task("training", total=self._total, completed=self._done, tail="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def step(self, loss: float) -> None:
        self._done += 1
        if self._live:
            epoch = (self._done - 1) // self._steps + 1
            text = f"epoch {epoch}/{self._epochs}  loss {loss:.3f}"
            known = not math.isnan(self._score)
            score = f"{self._measure} {self._score:.3f} (best {self._best:.3f})  " if known else ""
            self._bar.update(self._task, completed=self._done, description=text, tail=f"{score}{self._left()} left")

    def epoch(self, number: int, loss: float, score: float | None, best: float, pace: Pace) -> None:
        if score is not None:
            self._score, self._best = score, best
        validated = "" if score is None else f"  validation {self._measure} {score:.4f} (best {best:.4f})"
        timed = pace.seconds_a_step > 0  # unless all its steps were done before the run was stopped
        speed = f"  {pace.seconds_a_step:.3g} s a step, {pace.wait:.0%} of it waiting for data" if timed else ""
        line = f"epoch {number}/{self._epochs}  loss {loss:.4f}{validated}{speed}  {self._left()} left"
        if self._live:
            self._bar.console.print(line, highlight=False)
        elif self._shown:
            print(line, file=sys.stderr, flush=True)

    def _left(self) -> str:
        rate = (time.monotonic() - self._started) / max(1, self._done - self._first)
        minutes, seconds = divmod(round(rate * (self._total - self._done)), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{seconds:02d}"
