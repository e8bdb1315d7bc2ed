"""Runs that are made of others: words before a run, and a first part in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from MedSegLib.background import BREATH_S
from MedSegLib.trouble import failed
from MedSegLib.work import CANCELLED, Event, Outcome, Progress, Run


class Before:
    """A run whose first events are given; without a run they are all, and an `Outcome` has to be the last of them."""

    def __init__(self, events: Sequence[Event], run: Run | None = None):
        self._events, self._run = list(events), run

    def poll(self) -> list[Event]:
        given, self._events = self._events, []
        return given + (self._run.poll() if self._run else [])

    def cancel(self) -> None:
        if self._run:
            self._run.cancel()


class After:
    """A run that begins with `first`, in a thread, and goes on with `then`, in the thread that polls.

    Args:
        stage: what the first part is, in a few words.
        first: called with a function that says whether the run is cancelled; it then comes back as soon as it can.
            What it raises ends the run: a `failure` of the exception are the words for it.
        then: begins what follows; not called if that is no longer wanted.
    """

    def __init__(self, stage: str, first: Callable[[Callable[[], bool]], None], then: Callable[[], Run]):
        self._then = then
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._run: Run | None = None
        self._events: list[Event] = [Progress(0.0, stage)]
        self._ended = False
        self._thread = threading.Thread(target=self._first, args=(first,), name="medseg-first-part", daemon=True)
        self._thread.start()

    def _first(self, first: Callable[[Callable[[], bool]], None]) -> None:
        try:
            first(self._stop.is_set)
        except Exception as error:  # the border of the thread: nobody else would hear of it
            self._error = error

    def poll(self) -> list[Event]:
        if self._run:
            return self._run.poll()
        given, self._events = self._events, []
        self._thread.join(BREATH_S)
        if self._ended or self._thread.is_alive():
            return given
        self._ended = self._stop.is_set() or self._error is not None
        if self._stop.is_set():
            return [*given, Outcome(CANCELLED)]
        if self._error is not None:
            return [*given, failed(self._error)]
        self._run = self._then()
        return given

    def cancel(self) -> None:
        self._stop.set()
        if self._run:
            self._run.cancel()
