"""How long to leave a receiver alone that did not answer: longer each time, by a clock that nobody sets."""

from __future__ import annotations

import time
from collections.abc import Callable

FIRST_S, LONGEST_S = 1.0, 300.0


class BackOff:
    """Of all receivers; in memory, so that a program that starts anew tries each at once.

    Args:
        clock: in seconds, never backwards.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._until: dict[str, float] = {}
        self._delay: dict[str, float] = {}

    def failed(self, name: str) -> float:
        """Wait before the next try, twice as long as the last time; says how long, in seconds."""
        delay = min(2 * self._delay.get(name, FIRST_S / 2), LONGEST_S)
        self._delay[name], self._until[name] = delay, self._clock() + delay
        return delay

    def worked(self, name: str) -> None:
        self._delay.pop(name, None)
        self._until.pop(name, None)

    def waiting(self) -> list[str]:
        """Receivers that are to be left alone now."""
        now = self._clock()
        return sorted(name for name, until in self._until.items() if until > now)
