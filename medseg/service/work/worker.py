"""The worker: takes queued jobs, predicts, and leaves results that were read back."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from medseg.engine import device as devices
from medseg.engine import memory
from medseg.engine.bench import Bench, Order
from medseg.engine.memory import Limits
from medseg.engine.runner import Outcome
from medseg.progress import ENDS, Cancelled, Course, Step
from medseg.refusal import Refusal
from medseg.service.journal import Journal
from medseg.service.journal.heart import Heart, beating
from medseg.service.journal.job import Job, Lost
from medseg.service.settings.site import Site
from medseg.service.work import parameters, proof
from medseg.service.work.loaded import Loaded, Locate, at_its_path

log = logging.getLogger(__name__)

STAGING = ".staging"
ROW = 20
"""Jobs of one kind that are done in a row while older ones of another kind may wait."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""After a disk that was full, before the next job is tried."""
AWAY_S = 60.0
"""After which a model is looked for again that is not where it was, and then twice that: shares come and go."""


class Unwanted(Exception):
    """Nobody wants the result of this job any more; others go on."""


@dataclass(frozen=True)
class Taken:
    """A job that this worker has, and the heart that beats for it until `release`."""

    job: Job
    heart: Heart
    out: Path
    release: Callable[[], None]

    @property
    def staging(self) -> Path:
        """Folder of files that are not complete."""
        return self.out / STAGING / f"{self.job.id}-{self.job.attempts}"


class Worker:
    """One process's work; see `step`."""

    def __init__(self, site: Site, journal: Journal, owner: str, *, locate: Locate = at_its_path):
        """
        Args:
            site: whose data folder takes arrays that are larger than memory, and whose `work` says how.
            owner: name of this process, see `liveness.name`.
            locate: where this machine has a model that jobs name, see `Locate`.
        """
        devices.set_threads(site.work.threads)
        self._work, self._data = site.work, site.at(site.data)
        self._jobs, self._owner = journal.jobs, owner
        self._loaded = Loaded(site.work, locate)
        self._ending = threading.Event()
        self._given_up_at = float("inf")
        self._pause_s, self._paused_until = 0.0, 0.0

    def end(self) -> None:
        """Begin nothing new; what is not done after `work.drain_s` is given back. May be called from a signal."""
        self._given_up_at = min(self._given_up_at, time.monotonic() + self._work.drain_s)
        self._ending.set()

    def step(self) -> bool:
        """Do the oldest job, and after it others of its kind, one being read while another is worked on; a job that
        was begun before is done alone, so that it takes no other down with it. Says whether there was any."""
        if not self._may_begin():
            return False
        job = self._jobs.take("queued", self._owner, becomes="running")
        if job is None:
            return False
        first = self._taken(job)
        try:
            bench = spared(self._loaded.bench(job), job)
        except Refusal as refusal:
            if self._loaded.away(job):
                self._failed(first, refusal.code, str(refusal), wait_s=AWAY_S * job.attempts)
            else:
                self._refused(first, refusal.code, str(refusal))
            return True
        except Exception as error:  # of a model that is damaged in a way that nobody foresaw, or of the machine
            code = "memory" if memory.ran_out(error) else "error"
            self._failed(first, code, f"{type(error).__name__}: {error}")
            return True
        with contextlib.closing(self._row(first, bench)) as ended:
            for taken, outcome in ended:
                self._settle(taken, outcome, bench)
        return True

    def _may_begin(self) -> bool:
        return not self._ending.is_set() and time.monotonic() >= self._paused_until

    def _row(self, first: Taken, bench: Bench) -> Generator[tuple[Taken, Outcome], None, None]:
        """The job and those that follow it, each with what became of it."""
        begun: deque[Taken] = deque()
        fresh = first.job.attempts == 1
        ahead = self._work.ahead if self._work.ahead is not None else bench.predictor.device.type == "cuda"

        def orders() -> Iterator[Order]:
            taken: Taken | None = first
            for place in range(ROW if fresh else 1):
                if place:
                    taken = self._next(first) if self._may_begin() else None
                if taken is None:
                    return
                try:
                    order = self._order(taken, bench)
                except Refusal as refusal:
                    self._refused(taken, refusal.code, str(refusal))
                    continue
                begun.append(taken)
                yield order

        try:
            with contextlib.closing(bench.run(orders(), ahead=ahead and fresh, scratch_in=self._data)) as outcomes:
                for outcome in outcomes:
                    yield begun[0], outcome
                    begun.popleft()
            while begun:  # what was being read when the work was given up
                yield begun[0], Outcome(begun[0].job.case, "cancelled", 0.0)
                begun.popleft()
        finally:
            for taken in begun:
                taken.release()

    def _next(self, first: Taken) -> Taken | None:
        job = self._jobs.take("queued", self._owner, becomes="running", beside=first.job)
        if job is not None and not self._loaded.current(job):  # another model has come there: it begins a row
            self._jobs.give_back(job.id, self._owner, counts=False)
            return None
        return self._taken(job) if job else None

    def _taken(self, job: Job) -> Taken:
        stack = contextlib.ExitStack()
        heart = stack.enter_context(beating(self._jobs, job, self._owner))
        out = Path(job.out) if job.out else self._data / "results" / str(job.id)
        for former in (out / STAGING).glob(f"{job.id}-*"):  # of an attempt that was killed
            shutil.rmtree(former, ignore_errors=True)
        return Taken(job, heart, out, stack.close)

    def _order(self, taken: Taken, bench: Bench) -> Order:
        """
        Raises:
            Refusal: parameters that there are not, or a case whose name is no name of a file.
        """
        asked = parameters.of(taken.job)

        def tell(step: Step) -> None:
            taken.heart.tell(step)
            if step.stage in ENDS or step.stage == "read":
                return
            if time.monotonic() >= self._given_up_at:
                raise Cancelled
            if not taken.heart.wanted:
                raise Unwanted

        course = Course(tell, taken.job.case, 1, 1)
        case = parameters.case(taken.job, asked, bench.predictor)
        return Order(case, taken.staging, course, asked.series or None, uid=taken.job.key)

    def _settle(self, taken: Taken, outcome: Outcome, bench: Bench) -> None:
        """Put on record what became of a job, and let it go."""
        facts = {"job": taken.job.id, "became": outcome.state, "seconds": round(outcome.seconds, 2)}
        log.info("a case has ended", extra={"facts": facts | ({"why": outcome.code} if outcome.code else {})})
        if outcome.state == "done" and taken.heart.wanted:
            self._done(taken, outcome, bench)
        elif outcome.state == "cancelled" or not taken.heart.wanted:
            self._ended(taken, lambda: self._jobs.give_back(taken.job.id, self._owner, counts=False))
        elif any(not Path(path).exists() for path in taken.job.source.values()):
            self._refused(taken, "lost-input", outcome.reason)
        elif outcome.state == "refused" and outcome.code != "memory":
            self._refused(taken, outcome.code, outcome.reason)
        else:
            self._failed(taken, outcome.code, outcome.reason)

    def _done(self, taken: Taken, outcome: Outcome, bench: Bench) -> None:
        job, out = taken.job, taken.out

        def keep() -> None:
            self._jobs.beat(job.id, self._owner, stage="write", share=1.0)  # who lost it overwrites nothing
            files = {name: proof.sha256(taken.staging / name) for name in outcome.files}
            for name in files:
                (taken.staging / name).replace(out / name)
            _sync(out)
            facts = outcome.facts | {"seconds": round(outcome.seconds, 3), "stages": outcome.stages}
            told = {"files": files, "facts": facts, "out": str(out)}
            self._jobs.move(job.id, self._owner, "written", ", ".join(files), keep=True, **told)
            try:
                proof.prove(out, job.case, bench.outputs, files)
            except proof.Unproven as error:
                self._jobs.give_back(job.id, self._owner, "unproven", str(error), tries=self._work.tries)
                return
            verdict = outcome.facts.get("quality", {}).get("verdict", "")
            self._jobs.move(job.id, self._owner, "proven", verdict=verdict, reason_code="", reason="", share=1.0)

        self._ended(taken, keep)
        self._pause_s = 0.0

    def _refused(self, taken: Taken, code: str, reason: str) -> None:
        """Trying again would not help."""
        told = partial(self._jobs.move, taken.job.id, self._owner, "failed", f"{code}: {reason}")
        self._ended(taken, lambda: told(reason_code=code, reason=reason))

    def _failed(self, taken: Taken, code: str, reason: str, *, wait_s: float = 0.0) -> None:
        """It is tried again, but of what it needs there may be more next time; a full disk counts as no attempt."""
        full = code == "disk-full"
        if full:
            self._pause_s = min(max(2 * self._pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)
            self._paused_until = time.monotonic() + self._pause_s
            log.warning("the disk is full", extra={"facts": {"job": taken.job.id, "pause_s": self._pause_s}})
        back = partial(self._jobs.give_back, taken.job.id, self._owner, code, reason)
        if full:
            wait_s = 2 * self._pause_s  # so that smaller ones have their turn
        self._ended(taken, lambda: back(tries=self._work.tries, counts=not full, wait_s=wait_s))

    def _ended(self, taken: Taken, told: Callable[[], object]) -> None:
        try:
            told()
        except Lost:
            log.warning("a job was taken away", extra={"facts": {"job": taken.job.id}})
        finally:
            taken.release()
            shutil.rmtree(taken.staging, ignore_errors=True)
            with contextlib.suppress(OSError):  # others have their staging there
                taken.staging.parent.rmdir()


def spared(bench: Bench, job: Job) -> Bench:
    """The bench with half of what memory is free, then a quarter, for a job that ran out of it."""
    if job.reason_code != "memory" or job.attempts < 2:
        return bench
    share, held = 0.5 ** (job.attempts - 1), memory.resident()
    device = bench.predictor.device
    host = held + int(share * max(0, memory.available() - held))
    gpu = memory.CUDA_CONTEXT + int(share * Limits().gpu_bytes(device)) if device.type == "cuda" else None
    return replace(bench, predictor=bench.predictor.limited(Limits(host, gpu)))


def _sync(folder: Path) -> None:
    """Names that were given in a folder outlive a power cut; not every system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
