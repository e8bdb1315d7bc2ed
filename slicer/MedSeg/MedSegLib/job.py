"""A run with a folder of its own, from its begin to what becomes of its result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from MedSegLib import private, steps
from MedSegLib.trouble import failed
from MedSegLib.work import DONE, Event, Outcome, Run

T = TypeVar("T")


class Job(Generic[T]):
    """A `Run`, once it is started. It is done only when its result has been taken over, and fails where that fails.

    Args:
        begin: called with the folder; gives the run.
        end: called by `poll`, with the outcome of a run that is done and while the folder is there; gives the result.
        within: where the folder is made; None: where the system has its temporary files.

    Attributes:
        folder: while it exists.
        result: of `end`.
    """

    def __init__(self, begin: Callable[[Path], Run], end: Callable[[Outcome], T], within: Path | None):
        self._begin, self._end, self._within = begin, end, within
        self._run: Run = steps.Before([])
        self.folder: Path | None = None
        self.result: T | None = None

    def start(self) -> Run:
        try:
            self.folder = private.make(self._within)
            self._run = self._begin(self.folder)
        except Exception as error:  # told as the run's end: there is nobody above who could tell it better
            self._run = steps.Before([failed(error)])
        return self

    def poll(self) -> list[Event]:
        return [self._taken_over(event) if isinstance(event, Outcome) else event for event in self._run.poll()]

    def cancel(self) -> None:
        self._run.cancel()

    def clear(self) -> None:
        """Remove the folder; no harm if there is none."""
        if self.folder is not None:
            private.remove(self.folder)
            self.folder = None

    def _taken_over(self, outcome: Outcome) -> Outcome:
        try:
            if outcome.state == DONE:
                self.result = self._end(outcome)
        except Exception as error:
            outcome = failed(error)
        self.clear()
        return outcome
