"""One runner for every batch of cases: a case that fails is recorded with its reason, and the others go on."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from medseg.atomic import DISK_FULL
from medseg.engine import memory, stages
from medseg.progress import Cancelled
from medseg.refusal import Refusal

Steps = Generator[None, None, tuple[tuple[str, ...], dict[str, Any]]]
"""The work on a case, in steps: it yields after reading and what belongs to it, after the network, and after writing;
what follows, if anything, is done when all files are there. It returns the files and facts about them."""
WRITTEN = 3
"""Steps after which the files of a case are complete."""
GLANCE_S = 0.2
"""A signal is seen by a thread that waits for another only when the wait ends, on some systems."""


class Named(Protocol):
    """A case, or an order for one."""

    @property
    def id(self) -> str: ...


Item = TypeVar("Item", bound=Named)


@dataclass(frozen=True)
class Outcome:
    """What became of one case: `done`, `refused` (the input's fault), `failed` (ours, or the machine's) or `cancelled`.

    Attributes:
        seconds: worked on it, waiting left out.
        stages: what they went into, see `stages.Clock.to_json`.
        code: why it is not done, in a word for programs: `Refusal.code`, memory, disk-full or error.
    """

    case: str
    state: str
    seconds: float
    files: tuple[str, ...] = ()
    reason: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    stages: list[dict[str, Any]] = field(default_factory=list)
    code: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def run_all(
    cases: Iterable[Item],
    work: Callable[[Item], Steps],
    *,
    ahead: bool = False,
    on_stage: Callable[[Item, str], None] | None = None,
) -> Generator[Outcome, None, None]:
    """Yield an outcome per case, in order.

    A refusal or any other exception ends that case only. `Cancelled` and KeyboardInterrupt end the batch: what was
    begun is recorded, threads have ended, and KeyboardInterrupt goes on to the caller.

    Args:
        ahead: the next case is read, and the last one written, in threads beside the network's; no more than three
            cases are in memory at once. Networks, and what comes after writing, stay in the caller's thread.
        on_stage: called with a case and the stage that it begins, in the caller's thread, and last with its state.
    """
    stopped = threading.Event()
    begun: list[_Job[Item]] = []
    with contextlib.ExitStack() as stack:
        reader, writer = (stack.enter_context(ThreadPoolExecutor(1)) if ahead else None for _ in range(2))
        stack.callback(stopped.set)  # whatever is left in the threads ends at its next stage
        try:
            for job in _read_ahead((_Job(case, work, stopped, on_stage) for case in cases), reader):
                begun.append(job)
                job.go_to(1)
                job.go_to(2)
                while len(begun) > 1:  # the writer has one case at a time
                    yield _finished(begun)
                job.go_to(WRITTEN, writer)
                if not ahead:
                    yield _finished(begun)
            while begun:
                yield _finished(begun)
        except (Cancelled, KeyboardInterrupt) as end:
            stopped.set()
            while begun:
                yield begun[0].broken_off()
                begun.pop(0)
            if isinstance(end, KeyboardInterrupt):
                raise


def _read_ahead(jobs: Iterator[_Job[Item]], reader: ThreadPoolExecutor | None) -> Iterator[_Job[Item]]:
    """The jobs; with a thread for it, each is handed out when the one after it is being read."""
    if reader is None:
        yield from jobs
        return
    former: _Job[Item] | None = None
    for job in jobs:
        job.go_to(1, reader)
        if former:
            yield former
        former = job
    if former:
        yield former


def _finished(begun: list[_Job[Item]]) -> Outcome:
    """The outcome of the first of the jobs, which leaves the list only when it has one."""
    outcome = begun[0].finish()
    begun.pop(0)
    return outcome


class _Job(Generic[Item]):
    """One case on its way; each step is done by one thread or another, in one context."""

    def __init__(
        self,
        case: Item,
        work: Callable[[Item], Steps],
        stopped: threading.Event,
        on_stage: Callable[[Item, str], None] | None,
    ):
        self._case, self._steps = case, work(case)
        self._say = partial(on_stage, case) if on_stage else lambda stage: None
        self._clock = stages.Clock(on_stage=self._say, stopped=stopped)
        self._context = copy_context()
        self._done, self._seconds = 0, 0.0
        self._beside: Future[None] | None = None
        self._outcome: Outcome | None = None

    def go_to(self, step: int, beside: ThreadPoolExecutor | None = None) -> None:
        """Do everything up to a step, unless the case has ended; in another thread without waiting for it."""
        self._wait()
        if beside:
            self._beside = beside.submit(self._work_apart, step)
        else:
            self._work(step)

    def finish(self) -> Outcome:
        self.go_to(WRITTEN + 1)
        assert self._outcome is not None  # the last step ends in one
        self._say(self._outcome.state)
        return self._outcome

    def broken_off(self) -> Outcome:
        """The outcome when the batch ends before its time: work that is complete stays."""
        self._wait()
        if self._done == WRITTEN:
            self._work(WRITTEN + 1)
        outcome = self._outcome or self._ended("cancelled")
        with contextlib.suppress(Cancelled):
            self._say(outcome.state)
        return outcome

    def _wait(self) -> None:
        while self._beside and not self._beside.done():
            wait([self._beside], timeout=GLANCE_S)

    def _work_apart(self, step: int) -> None:
        with contextlib.suppress(Cancelled):  # it is in the outcome; a future that kept it would keep the scan, too
            self._work(step)

    def _work(self, step: int) -> None:
        started = time.monotonic()
        files: tuple[str, ...] = ()
        state, reason, code, facts = "", "", "", {}
        try:
            while self._outcome is None and self._done < step:
                self._context.run(self._step)
        except StopIteration as end:
            state, (files, facts) = "done", end.value
        except Refusal as refusal:
            state, reason, code = "refused", str(refusal), refusal.code
        except (Cancelled, KeyboardInterrupt):
            state = "cancelled"
            raise
        except Exception as error:  # the border between one case and the next: whatever it was, it is put on record
            state, reason, code = "failed", f"{type(error).__name__}: {error}", _code(error)
        finally:
            self._seconds += time.monotonic() - started
            if state:
                self._outcome = self._ended(state, files, reason, facts, code)

    def _step(self) -> None:
        with stages.timed_by(self._clock):
            next(self._steps)
        self._done += 1

    def _ended(
        self,
        state: str,
        files: tuple[str, ...] = (),
        reason: str = "",
        facts: dict[str, Any] | None = None,
        code: str = "",
    ) -> Outcome:
        return Outcome(self._case.id, state, self._seconds, files, reason, facts or {}, self._clock.to_json(), code)


def _code(error: Exception) -> str:
    """What kind of failure an error is, for who must decide whether to try again, and how."""
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return "disk-full"
    return "memory" if memory.ran_out(error) else "error"
