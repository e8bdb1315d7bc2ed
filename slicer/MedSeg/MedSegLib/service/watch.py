"""Waiting for a job: by its events, and where they do not come, by asking again and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from MedSegLib.local import STAGES
from MedSegLib.service import job as jobs
from MedSegLib.service.call import Caller
from MedSegLib.service.course import Course
from MedSegLib.service.events import Events
from MedSegLib.service.job import Job
from MedSegLib.service.trouble import NO_SERVER, Trouble, strange
from MedSegLib.words import Failure

Found = TypeVar("Found")
LONGEST_PAUSE_S = 8.0
"""Between tries; it is doubled each time."""
DEAF = 3
"""Streams in a row without an event, after which no more are asked for: something between holds them back."""
LARGEST_STREAM = 8 * 2**20
"""Bytes; of a service that talks without end, no more is heard at once."""
WRITTEN = ("written", "proven", "sent")
WAITING = dict.fromkeys(("received", "checked", "queued"), "waiting for its turn at the service")
PLACES = {**WAITING, **dict.fromkeys(WRITTEN, "checking the result")}
"""Of states in which nothing is segmented."""


class Watch:
    """Of one run."""

    def __init__(self, course: Course, caller: Caller):
        self._course, self._caller = course, caller
        self._last = 0
        """Number of the last change that is known."""

    def patiently(self, ask: Callable[[], Found]) -> Found:
        """Do what may fail for a moment, again and again: a network is gone for a while, a service is started anew.

        Raises:
            Trouble: it does not pass, or not in time.
            Stopped: the run was cancelled.
        """
        limit, pause, until = self._caller.limits.patience, self._caller.limits.pause / 4, 0.0
        while True:
            try:
                return ask()
            except Trouble as trouble:
                now = time.monotonic()
                if not trouble.passing:
                    raise
                if not until:
                    until = now + limit
                    self._course.say(f"{trouble.failure.what} Trying again for {limit:.0f} s.")
                elif now > until:
                    raise _given_up(trouble.failure, limit) from trouble
                asked_for = trouble.wait_s
            self._wait(max(pause, min(asked_for, max(0.0, until - now))))
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def look(self, number: int) -> Job:
        """A job as it stands, told to the run.

        Raises:
            Trouble, Stopped: see `Caller.answer`.
        """
        return self.told(self._caller.json("GET", f"jobs/{number}"))

    def told(self, answer: Any) -> Job:
        """The same of an answer that holds a job.

        Raises:
            Trouble: it holds none.
        """
        try:
            job = jobs.of_json(answer)
        except (KeyError, TypeError, ValueError) as error:
            raise strange(self._caller.door.place, str(answer)) from error
        for number, state, what in job.changes:
            self._change(number, state, what)
        self._place(job.state, job.stage, job.percent)
        return job

    def until_it_ends(self, job: Job) -> Job:
        """The job when nothing goes on by itself any more.

        Raises:
            Trouble: the service is lost.
            Stopped: the run was cancelled.
        """
        deaf, pause = 0, self._caller.limits.pause
        while not job.ended and job.state != jobs.HELD:
            heard = deaf < DEAF and self._listen(job.id)
            deaf = 0 if heard else deaf + 1
            if not heard:
                self._wait(pause if deaf >= DEAF else pause / 4)
            job = self.patiently(partial(self.look, job.id))
        return job

    def _listen(self, number: int) -> bool:
        """Follow the events of a job until they end; says whether there was one."""
        events, heard, come = Events(), False, 0
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(self._last)} if self._last else {})
        try:
            with self._caller.answer("GET", f"jobs/{number}/events", headers=headers, whole=False) as answer:
                for block in answer.blocks():
                    for kind, told in events.feed(block):
                        self._event(kind, told)
                        heard = True
                    come += len(block)
                    if come > LARGEST_STREAM:
                        return False
        except (Trouble, KeyError, TypeError, ValueError):
            pass  # a look at the job says what is the matter
        return heard

    def _event(self, kind: str, told: dict[str, Any]) -> None:
        if kind == "job":
            state = str(told["state"])
            self._change(int(told["id"]), state, str(told["what"]))
            self._place(state, "", 100.0 if state in WRITTEN else 0.0)
        elif kind == "progress":
            self._place("running", str(told["stage"]), float(told["percent"]))

    def _change(self, number: int, state: str, what: str) -> None:
        if number > self._last:
            self._last = number
            self._course.say(f"service: {state}: {what}" if what else f"service: {state}")

    def _place(self, state: str, stage: str, percent: float) -> None:
        words = PLACES.get(state) or (STAGES.get(stage, stage) if stage else "")
        if words:
            self._course.stage(words, percent)

    def _wait(self, seconds: float) -> None:
        self._caller.stopping.wait(seconds)
        self._caller.check()


def _given_up(failure: Failure, seconds: float) -> Trouble:
    what = f"{failure.what} It stayed so for {seconds:.0f} s."
    remedy = f"{failure.remedy} Then run it again: what the service has done meanwhile is not lost."
    return Trouble(Failure(what, remedy, failure.code or NO_SERVER, failure.detail))
