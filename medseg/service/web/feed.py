"""Changes as they happen, for all who listen: one look at the journal a moment, however many there are.

Nobody misses a change, and who comes back with the number of the last change that it saw may hear of one twice.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from anyio import to_thread

from medseg.service.journal import Journal
from medseg.service.journal.job import Event
from medseg.service.journal.states import ENDS
from medseg.service.journal.tail import Tail
from medseg.service.web.shown import percent

log = logging.getLogger(__name__)

EVERY_S = 0.3
LONGEST = 2000
"""Changes that wait for one listener; who is slower is let go, and comes back with the last number that it has."""
QUIET_S = 15.0
"""After so long without a change, a line that says nothing keeps the connection."""
Told = tuple[int, str, dict[str, Any]]
"""Number, or 0 where there is none to come back with; kind; content."""


@dataclass(eq=False)
class _Listener:
    job: int
    """0: all."""
    queue: asyncio.Queue[Told | None]


class Feed:
    """Tells listeners of changes, while `run` runs.

    Attributes:
        closed: whether it has ended, and nobody is listened to any more.
    """

    def __init__(self, journal: Journal):
        self._journal, self._listeners = journal, set[_Listener]()
        self._changes: Tail | None = None
        self._progress: dict[int, tuple[str, int]] = {}
        self.closed = False

    async def run(self) -> None:
        """Look again and again. A journal that does not answer is asked again."""
        while not self.closed:
            if self._listeners:
                try:
                    for told in await to_thread.run_sync(self._look):
                        self._tell(told)
                except Exception as error:
                    log.warning("the journal was not read", extra={"facts": {"kind": type(error).__name__}})
            await asyncio.sleep(EVERY_S)

    def close(self) -> None:
        """Let everybody go; called in the event loop."""
        self.closed = True
        for listener in self._listeners:
            _end(listener)

    async def listen(
        self, job: int = 0, after: int | None = None, *, allowed: Callable[[], bool] = lambda: True
    ) -> AsyncIterator[str]:
        """Server-Sent Events (HTML, 9.2): `job`, a change; `progress`, where a running job is.

        Args:
            job: only of this one, until it has ended; 0: of all.
            after: number of the last change that is known; None: what is new from now on.
            allowed: whether who listens still may; asked every `QUIET_S`.
        """
        listener = _Listener(job, asyncio.Queue(LONGEST))
        if not self._listeners:  # nobody has looked for a while
            await to_thread.run_sync(self._begin)
        self._listeners.add(listener)
        try:
            yield "retry: 2000\n\n"
            known: set[int] = set()
            if after is not None:
                missed, ended = await to_thread.run_sync(self._missed, job, after)
                for told in missed:
                    known.add(told[0])
                    yield _line(told)
                if ended:
                    return
            for number, (stage, share) in list(self._progress.items()):
                if job in (0, number):
                    yield _line((0, "progress", {"job": number, "stage": stage, "percent": share}))
            clock = asyncio.get_running_loop().time
            due = clock() + QUIET_S
            while not self.closed:
                quiet = False
                try:
                    heard = await asyncio.wait_for(listener.queue.get(), QUIET_S)
                except TimeoutError:
                    quiet = True
                if quiet or clock() >= due:
                    due = clock() + QUIET_S
                    if not await to_thread.run_sync(allowed):
                        return
                if quiet:
                    yield ": still here\n\n"
                    continue
                if heard is None:
                    return
                if heard[0] not in known:
                    yield _line(heard)
                    if job and heard[2].get("state") in ENDS:
                        return
        finally:
            self._listeners.discard(listener)

    def _begin(self) -> None:
        self._changes = Tail(self._journal.jobs)

    def _missed(self, job: int, after: int) -> tuple[list[Told], bool]:
        """Changes since `after`, and whether the one job has ended with the last of them."""
        state = self._journal.jobs.get(job).state if job else ""  # first: so that what has ended it is among them
        found: list[Told] = []
        while page := self._journal.jobs.events(job, after=after):
            found += [_change(number, event) for number, event in page]
            after, state = page[-1][0], page[-1][1].state
        return found[-LONGEST:], bool(job) and state in ENDS

    def _look(self) -> list[Told]:
        """What is new since the last look."""
        told = [_change(number, event) for number, event in (self._changes.new() if self._changes else ())]
        progress = {
            job.id: (job.stage, percent(job.state, job.share)) for job in self._journal.jobs.find(states=("running",))
        }
        for job, (stage, share) in progress.items():
            if self._progress.get(job) != (stage, share):
                told.append((0, "progress", {"job": job, "stage": stage, "percent": share}))
        self._progress = progress
        return told

    def _tell(self, told: Told) -> None:
        for listener in self._listeners:
            if listener.job in (0, told[2]["job"]):
                try:
                    listener.queue.put_nowait(told)
                except asyncio.QueueFull:
                    _end(listener)


def _end(listener: _Listener) -> None:
    while listener.queue.full():
        listener.queue.get_nowait()
    listener.queue.put_nowait(None)


def _change(number: int, event: Event) -> Told:
    return number, "job", {"id": number, **vars(event)}


def _line(told: Told) -> str:
    number, kind, content = told
    named = f"id: {number}\n" if number else ""
    return f"{named}event: {kind}\ndata: {json.dumps(content)}\n\n"
