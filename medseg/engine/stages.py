"""What the time of a case goes into: seconds of each stage, and the peak of memory at its end.

Code says `with stages.stage("prepare"):` wherever it is; who wants to know hangs a `Clock` into the context of the
work. Without one, a stage costs nothing.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from medseg.progress import Cancelled

Item = TypeVar("Item")
STATUS = Path("/proc/self/status")
FORGETTING = Path("/proc/self/clear_refs")


@dataclass
class Spent:
    """Seconds of one stage, without stages within it; peaks in MiB, None where the system does not tell."""

    seconds: float = 0.0
    peak_mib: float | None = None
    gpu_peak_mib: float | None = None


class Clock:
    """Stages of one case, whose steps may run in several threads, one after another."""

    def __init__(self, *, on_stage: Callable[[str], None] | None = None, stopped: threading.Event | None = None):
        """
        Args:
            on_stage: called with the name of each stage that begins in the thread that made the clock.
            stopped: once set, no stage begins any more: `Cancelled` is raised instead.
        """
        self._on_stage, self._stopped, self._thread = on_stage, stopped, threading.get_ident()
        self._spent: dict[str, Spent] = {}
        self._counted = 0.0

    def begin(self, name: str) -> None:
        """Say that a stage begins.

        Raises:
            Cancelled: the work is not wanted any more.
        """
        if self._stopped is not None and self._stopped.is_set():
            raise Cancelled
        if self._on_stage and threading.get_ident() == self._thread:
            self._on_stage(name)

    @contextlib.contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Count what is done within it; the seconds of stages within it are theirs alone."""
        started, before = time.perf_counter(), self._counted
        spent = self._spent.setdefault(name, Spent())
        try:
            yield
            if torch.cuda.is_initialized():  # what was asked of a GPU is done when it says so
                torch.cuda.current_stream().synchronize()
        finally:
            own = time.perf_counter() - started - (self._counted - before)
            self._counted += own
            spent.seconds += own
            known = (peak_mib(), *(one.peak_mib for one in self._spent.values()))
            spent.peak_mib = max((peak for peak in known if peak is not None), default=None)  # Linux is a little vague
            if torch.cuda.is_initialized():
                spent.gpu_peak_mib = torch.cuda.max_memory_allocated() / 2**20

    def to_json(self) -> list[dict[str, Any]]:
        """Stages in the order of their beginning: name, seconds, peak_mib and, with a GPU, gpu_peak_mib."""
        return [
            {"name": name, "seconds": round(spent.seconds, 4)}
            | {
                key: round(peak, 1)
                for key, peak in (("peak_mib", spent.peak_mib), ("gpu_peak_mib", spent.gpu_peak_mib))
                if peak is not None
            }
            for name, spent in self._spent.items()
        ]


_clock: ContextVar[Clock | None] = ContextVar("stages", default=None)


@contextlib.contextmanager
def timed_by(clock: Clock) -> Iterator[None]:
    """Within it, stages are counted by `clock`."""
    token = _clock.set(clock)
    try:
        yield
    finally:
        _clock.reset(token)


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """A stage of the case that is worked on.

    Raises:
        Cancelled: see `Clock.begin`.
    """
    clock = _clock.get()
    if clock is None:
        yield
        return
    clock.begin(name)
    with clock.timing(name):
        yield


def each(name: str, items: Iterable[Item], *, between: str) -> Iterator[Item]:
    """The items, of which the making is stage `name`, and what is done with each is stage `between`.

    Raises:
        Cancelled: see `Clock.begin`.
    """
    clock = _clock.get()
    if clock is None:
        yield from items
        return
    source = iter(items)
    while True:
        clock.begin(name)
        with clock.timing(name):
            try:
                item = next(source)
            except StopIteration:
                return
        with clock.timing(between):
            yield item


def forget_peak() -> bool:
    """Let `peak_mib` count from now on. Says whether the system can: Linux, by "5" (proc_pid_clear_refs(5))."""
    with contextlib.suppress(OSError):
        FORGETTING.write_text("5", encoding="ascii")
        return True
    return False


def peak_mib() -> float | None:
    """The most memory that this process has had resident since it began, or since `forget_peak`, MiB; None where the
    system does not tell."""
    with contextlib.suppress(OSError):
        for line in STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)
