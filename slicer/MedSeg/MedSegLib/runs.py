"""Runs that wait for one another: one at a time, in the order in which they were added."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from MedSegLib import words
from MedSegLib.models import Model
from MedSegLib.work import CANCELLED, DONE, FAILED, Line, Order, Outcome, Progress, Run

WAITING, RUNNING = "waiting", "running"
MOST_LINES = 500
"""Of a run's log, the newest."""


@dataclass
class About:
    """What a run is of, for its report: whatever is chosen later is not.

    Attributes:
        model: None: it is a run of another kind.
        order: from its beginning on, if it has one.
    """

    model: Model | None = None
    order: Order | None = None


@dataclass
class Entry:
    """One run of the list, to be read only.

    Attributes:
        title: for the user's eyes.
        state: waiting, running, done, failed or cancelled.
        progress: the percentage never falls, and is 100 only where the run is done.
        log: its last lines.
        said: how many lines there were in all; those before the log's first are gone.
        outcome: once it has ended.
        about: see `About`.
        secrets: names and folders that were known when it was added or begun, and that its report must not hold.
    """

    number: int
    title: str
    state: str = WAITING
    progress: Progress = field(default_factory=lambda: Progress(0.0, WAITING))
    log: deque[str] = field(default_factory=lambda: deque(maxlen=MOST_LINES))
    said: int = 0
    outcome: Outcome | None = None
    about: About = field(default_factory=About)
    secrets: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def over(self) -> bool:
        return self.outcome is not None

    def say(self, text: str) -> None:
        """Add to the log."""
        self.log.append(text)
        self.said += 1


class Runs:
    """The queue. All of it belongs to one thread, Qt's; `poll` is to be called several times a second.

    Args:
        private: called when a run is added and when it begins: what is known then that no report may hold. Later it may
            not be known any more: a volume is removed, another address is typed.
    """

    def __init__(self, private: Callable[[], Iterable[str]] = tuple) -> None:
        self._private = private
        self._entries: list[Entry] = []
        self._starts: dict[int, Callable[[], Run]] = {}
        self._ended: dict[int, Callable[[Outcome], None]] = {}
        self._current: tuple[Entry, Run] | None = None

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All runs, the oldest first."""
        return tuple(self._entries)

    def add(
        self, title: str, start: Callable[[], Run], ended: Callable[[Outcome], None], about: About | None = None
    ) -> int:
        """Put a run at the end of the queue.

        Args:
            start: begins it, when it is its turn.
            ended: called once from `poll` with how it ended, whatever that was. If it raises, the run is shown as
                failed, and the next one begins all the same.
            about: what its report tells; whoever starts it fills in the order.

        Returns:
            Its number.
        """
        entry = Entry(len(self._entries) + 1, title, about=about or About(), secrets=frozenset(self._private()))
        self._entries.append(entry)
        self._starts[entry.number], self._ended[entry.number] = start, ended
        return entry.number

    def cancel(self, number: int) -> None:
        """Take a run from the queue, or have it end. One that has ended stays as it is; `ended` is called by `poll`."""
        if self._current and self._current[0].number == number:
            self._current[1].cancel()
        elif number in self._starts:
            entry = self._entries[number - 1]
            del self._starts[number]
            self._close(entry, Outcome(CANCELLED))

    def close(self) -> None:
        """Cancel all."""
        for entry in self._entries:
            self.cancel(entry.number)

    def poll(self) -> None:
        """See what happened, tell of runs that have ended, and begin the next one."""
        if self._current:
            self._hear(*self._current)
        self._tell()
        if self._current is None and self._starts:
            self._begin(self._entries[min(self._starts) - 1])

    def _begin(self, entry: Entry) -> None:
        start = self._starts.pop(entry.number)
        entry.state, entry.progress = RUNNING, Progress(0.0, "starting")
        entry.secrets |= frozenset(self._private())
        try:
            self._current = entry, start()
        except Exception as error:  # what a queue is given must not stop it
            self._close(entry, Outcome(FAILED, failure=words.of_exception(error)))

    def _hear(self, entry: Entry, run: Run) -> None:
        try:
            events = run.poll()
        except Exception as error:
            run.cancel()
            events = [Outcome(FAILED, failure=words.of_exception(error))]
        for event in events:
            if isinstance(event, Line):
                entry.say(event.text)
            elif isinstance(event, Progress):
                percent = max(entry.progress.percent, min(99.0, event.percent))
                entry.progress = Progress(percent, event.stage, event.seconds_left)
            else:
                self._current = None
                self._close(entry, event)

    def _close(self, entry: Entry, outcome: Outcome) -> None:
        entry.state, entry.outcome = outcome.state, outcome
        percent = 100.0 if outcome.state == DONE else entry.progress.percent
        entry.progress = Progress(percent, outcome.state)
        if outcome.failure:
            entry.say(str(outcome.failure))

    def _tell(self) -> None:
        """Each ending once. A callback may show a dialogue, within which `poll` is called again: so it is taken from
        the list before it is called."""
        for number in [entry.number for entry in self._entries if entry.over and entry.number in self._ended]:
            ended, entry = self._ended.pop(number, None), self._entries[number - 1]
            if ended is None or entry.outcome is None:
                continue
            try:
                ended(entry.outcome)
            except Exception as error:
                self._close(entry, Outcome(FAILED, failure=words.of_exception(error)))
