"""What every program that is timed has in common; the standard library alone, because each runs in its own Python.

A program reads its job (JSON) from the path in its argument, loads what it needs, works, and prints one line of JSON.
"""

from __future__ import annotations

import ctypes
import json
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
