"""Runs as an event loop hears them."""

from __future__ import annotations

import time
from collections.abc import Callable

from MedSegLib.words import Failure
from MedSegLib.work import FAILED, Event, Line, Outcome, Progress, Run

WAIT_S = 120
TOKEN = "a-token-that-nobody-is-to-see"
AT_ONCE_S = 0.1
"""Longest time of a call from an event loop."""


class Heard:
    """A run that is polled as an event loop does.

    Attributes:
        slowest: seconds of the slowest call.
    """

    def __init__(self, run: Run):
        self.run, self.events, self.slowest = run, list[Event](), 0.0

    def poll(self) -> None:
        begun = time.perf_counter()
        self.events += self.run.poll()
        self.slowest = max(self.slowest, time.perf_counter() - begun)

    def cancel(self) -> None:
        begun = time.perf_counter()
        self.run.cancel()
        self.slowest = max(self.slowest, time.perf_counter() - begun)

    def during(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.poll()
            time.sleep(0.02)

    def until(self, true: Callable[[Event], object], limit_s: float = WAIT_S) -> Event:
        """The first event of which it is true."""
        end, seen = time.monotonic() + limit_s, 0
        while True:
            self.poll()
            for event in self.events[seen:]:
                if true(event):
                    return event
            seen = len(self.events)
            assert time.monotonic() < end, self.events
            time.sleep(0.02)

    def outcome(self, limit_s: float = WAIT_S) -> Outcome:
        found = self.until(lambda event: isinstance(event, Outcome), limit_s)
        assert isinstance(found, Outcome) and self.events[-1] is found and self.run.poll() == []
        return found

    @property
    def percents(self) -> list[float]:
        return [event.percent for event in self.events if isinstance(event, Progress)]

    @property
    def lines(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Line)]


def outcome(run: Run, limit_s: float = WAIT_S) -> Outcome:
    return Heard(run).outcome(limit_s)


def is_stage(words: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, Progress) and words in event.stage


def failure(run: Run, limit_s: float = 10) -> Failure:
    """Why a run failed, in words that do not hold `TOKEN`."""
    heard = Heard(run)
    ended = heard.outcome(limit_s)
    assert ended.state == FAILED and ended.failure, ended
    assert TOKEN not in repr(heard.events) and heard.slowest < AT_ONCE_S
    assert ended.failure.remedy, "what to do"
    return ended.failure
