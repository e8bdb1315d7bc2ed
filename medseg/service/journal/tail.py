"""Changes as they become visible, each once.

A database may show a transaction with a smaller number after one with a larger one: PostgreSQL numbers changes before
they are made for good. So each look goes back a little, and what was seen is remembered.
"""

from __future__ import annotations

from collections import OrderedDict

from medseg.service.journal.job import Event
from medseg.service.journal.jobs import Jobs

BACK = 200
"""Changes before the last that are looked at again."""
KEPT = 10 * BACK


class Tail:
    """The changes of all jobs from a moment on."""

    def __init__(self, jobs: Jobs, *, after: int | None = None):
        """
        Args:
            after: number of the last change that is known; None: what is new from now on.
        """
        self._jobs, self._last = jobs, jobs.last_event() if after is None else after
        known = jobs.events(after=max(0, self._last - BACK))
        self._seen = OrderedDict.fromkeys(number for number, _ in known if number <= self._last)

    def new(self) -> list[tuple[int, Event]]:
        """With their numbers, what has become visible since the last look."""
        found, after = [], max(0, self._last - BACK)
        while page := self._jobs.events(after=after):
            after = page[-1][0]
            found += [one for one in page if one[0] not in self._seen]
        self._seen.update(dict.fromkeys(number for number, _ in found))
        self._last = max(self._last, after)
        while len(self._seen) > KEPT:
            self._seen.popitem(last=False)
        return found
