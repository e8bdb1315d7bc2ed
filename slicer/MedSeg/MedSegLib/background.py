"""A `work.Run` from a plain function that runs in a thread."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from MedSegLib import words
from MedSegLib.process import Child
from MedSegLib.work import CANCELLED, DONE, FAILED, Event, Line, Outcome, Progress

MOST_EVENTS = 2000
"""That wait to be fetched; of more, the oldest are dropped."""
BREATH_S = 0.01
"""That a look at a run gives to its thread."""
GLANCE_S = 0.03
"""Between two looks at what a program has printed."""


class Talk:
    """What the function has to do with its run.

    Attributes:
        stopped: set once nobody wants the result any more.
    """

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self._events: deque[Event] = deque(maxlen=MOST_EVENTS)
        self._percent = 0.0

    def progress(self, percent: float, stage: str, seconds_left: float | None = None) -> None:
        """Tell how far it is. A percentage that falls stays where it was, and 100 is only told with the result."""
        self._percent = max(self._percent, min(99.0, percent))
        self._events.append(Progress(self._percent, stage, seconds_left))

    def line(self, text: str) -> None:
        """Add to the log."""
        self._events.append(Line(text))

    def hear(self, child: Child) -> Iterator[tuple[str, str]]:
        """Yield what a program prints, as `Child.lines` gives it, until all of it has ended. It is cancelled with the
        run. Whoever hears it does so within `with child`: the program ends with an exception, too."""
        while child.code is None:
            if self.stopped.is_set():
                child.cancel()
            lines = child.lines()
            yield from lines
            if not lines:
                time.sleep(GLANCE_S)


class Background:
    """A run. `function` is called in a thread with a `Talk`; what it returns is the outcome. Whatever it raises becomes
    one, too, and after `cancel` the outcome is `CANCELLED` without regard to what comes of it."""

    def __init__(self, function: Callable[[Talk], Outcome]):
        self._talk = Talk()
        self._outcome: Outcome | None = None
        self._told = False
        threading.Thread(target=self._work, args=(function,), name="medseg-run", daemon=True).start()

    def poll(self) -> list[Event]:
        if self._outcome is None:
            time.sleep(BREATH_S)  # Slicer's event loop keeps Python's lock while it waits: threads have only this
        outcome = self._outcome  # read before the events, of which none comes after it
        events = self._talk._events
        found = [events.popleft() for _ in range(len(events))]
        if outcome and not self._told:
            self._told = True
            found += [Progress(100.0, "done"), outcome] if outcome.state == DONE else [outcome]
        return found

    def cancel(self) -> None:
        self._talk.stopped.set()

    def _work(self, function: Callable[[Talk], Outcome]) -> None:
        try:
            outcome = function(self._talk)
        except Exception as error:  # the border of the thread: nobody else would hear of it
            outcome = Outcome(FAILED, failure=words.of_exception(error))
        self._outcome = Outcome(CANCELLED) if self._talk.stopped.is_set() else outcome
