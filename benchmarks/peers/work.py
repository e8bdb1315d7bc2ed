"""What every program that is timed has in common; the standard library alone, because each runs in its own Python.

A program reads its job (JSON) from the path in its argument, loads what it needs, works, and prints one line of JSON.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

GLIBC_SETTINGS = ((-4, 0), (-1, 2**31 - 1), (-2, 2**29), (-8, 1))
"""M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD, M_ARENA_MAX: freed blocks stay with the process."""


class Clock:
    """Seconds by stage; a stage within another counts for itself alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._counted = 0.0

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose time is counted."""

        @wraps(function)
        def inner(*arguments: Any, **keywords: Any) -> Any:
            started, before = time.perf_counter(), self._counted
            try:
                return function(*arguments, **keywords)
            finally:
                own = time.perf_counter() - started - (self._counted - before)
                self._counted += own
                self.seconds[name] = self.seconds.get(name, 0.0) + own

        return inner

    def wrap(self, holder: Any, attribute: str, name: str) -> None:
        """Count a function in its place."""
        setattr(holder, attribute, self.timed(name, getattr(holder, attribute)))


class Paces:
    """Seconds of steps of training, and of waiting for each one's batch; and how busy a GPU was meanwhile.

    Args:
        job: how many steps are `skipped`, how many `counted`, and the `device`.
        started: when the program was, by `time.perf_counter`.
        stop: called after the last step.
    """

    def __init__(self, job: dict[str, Any], started: float, *, stop: Callable[[], None] = lambda: None):
        self._skipped, self._counted, self._stop = job["skipped"], job["counted"], stop
        self._started, self._watched = started, job["device"] == "cuda"
        self._ends: list[float] = []
        self._waits: list[float] = []
        self._watch: subprocess.Popen[str] | None = None

    @property
    def enough(self) -> bool:
        return len(self._ends) > self._skipped + self._counted

    def wrap(self, holder: Any, step: str, source: Any, following: str) -> None:
        """Watch a function that does a step and one that gives the next batch, in their places."""
        does, gives = getattr(holder, step), getattr(source, following)

        def stepped(*arguments: Any, **keywords: Any) -> Any:
            answer = does(*arguments, **keywords)
            self._ends.append(time.perf_counter())
            if len(self._ends) == self._skipped + 1 and self._watched:
                asks = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
                self._watch = subprocess.Popen(asks, stdout=subprocess.PIPE, text=True)
            if len(self._ends) == self._skipped + self._counted + 1:
                if self._watch:
                    self._watch.terminate()
                self._stop()
            return answer

        def given(*arguments: Any, **keywords: Any) -> Any:
            asked = time.perf_counter()
            batch = gives(*arguments, **keywords)
            self._waits.append(time.perf_counter() - asked)
            return batch

        setattr(holder, step, stepped)
        setattr(source, following, given)

    def told(self, gpu_bytes: int | None) -> dict[str, Any]:
        """What is known of the counted steps."""
        first, last = self._skipped, self._skipped + self._counted
        ends = self._ends[first : last + 1]
        busy = [int(line) for line in (self._watch.communicate()[0] if self._watch else "").split()]
        return {
            "steps": [end - start for start, end in itertools.pairwise(ends)],
            "waits": self._waits[first + 1 : last + 1],
            "busy": sum(busy) / len(busy) if busy else None,
            "start": ends[0] - self._started,
            "memory": status("VmHWM") if gpu_bytes is None else gpu_bytes,
        }


def job() -> dict[str, Any]:
    """The job; `mallopt` in it is done at once, before anything is allocated."""
    found = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if found.get("mallopt"):
        libc = ctypes.CDLL("libc.so.6")
        for parameter, value in GLIBC_SETTINGS:
            libc.mallopt(parameter, value)
    return dict(found)


def measured(work: Callable[[], Any], stages: Callable[[], dict[str, float]], **facts: Any) -> None:
    """Do the work and say what it took: seconds, those of the processors, and the peak of resident memory above that at
    its start."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak so far was that of the imports
    before = status("VmRSS")
    started, worked = time.perf_counter(), time.process_time()
    work()
    taken = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - worked}
    said = {**taken, "stages": stages(), "peak": status("VmHWM") - before, "start": before, **facts}
    print(json.dumps(said), flush=True)


def status(name: str) -> int:
    """Bytes of one line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name + ":"))
