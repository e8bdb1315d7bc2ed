"""Questions that run beside the queue: what models there are, whether a case fits, what an environment holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from MedSegLib import private
from MedSegLib.work import Event, Outcome, Run


class Asks:
    """At most one run for each purpose. A new question ends the former one, whose answer is never told."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[Run, Callable[[Event], None]]] = {}
        self._leaving: list[Run] = []

    def ask(self, purpose: str, run: Run, heard: Callable[[Event], None]) -> None:
        """Tell `heard` whatever the run says, its outcome last."""
        self.forget(purpose)
        self._running[purpose] = (run, heard)

    def forget(self, purpose: str) -> None:
        """End what runs for a purpose; nothing is told."""
        former = self._running.pop(purpose, None)
        if former is not None:
            former[0].cancel()
            self._leaving.append(former[0])

    def busy(self, purpose: str) -> bool:
        return purpose in self._running

    def poll(self) -> None:
        """Hand out what happened since the last call."""
        self._leaving = [run for run in self._leaving if not _ended(run.poll())]
        for purpose, (run, heard) in list(self._running.items()):
            for event in run.poll():
                if self._running.get(purpose, (None,))[0] is not run:
                    break  # somebody who heard the event before asked anew
                if isinstance(event, Outcome):
                    del self._running[purpose]
                heard(event)

    def close(self) -> bool:
        """End all; whether they have ended. To be called until they have."""
        for purpose in list(self._running):
            self.forget(purpose)
        self.poll()
        return not self._leaving


class Removing:
    """A run whose folder goes away with it."""

    def __init__(self, run: Run, folder: Path) -> None:
        self._run, self._folder = run, folder

    def poll(self) -> list[Event]:
        events = self._run.poll()
        if _ended(events):
            private.remove(self._folder)
        return events

    def cancel(self) -> None:
        self._run.cancel()


def _ended(events: list[Event]) -> bool:
    return any(isinstance(event, Outcome) for event in events)
