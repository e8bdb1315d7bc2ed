"""medseg of this checkout as a program of its own, and who is alive of what it started."""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from MedSegLib.work import Event, Outcome, Run
from tests.tiny import ROOT

PROGRAM = [
    sys.executable,
    "-c",
    f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv[0] = 'medseg'\nfrom medseg.__main__ import main; main()",
]
"""Variables for Python do not reach it, so that it is told where it lies."""
TREE = "MEDSEG_TEST_TREE"


def marked() -> dict[str, str]:
    """An environment by which processes are found again, whatever they do; one thread each, as in `tests.tiny`."""
    return {**os.environ, TREE: uuid.uuid4().hex, "OMP_NUM_THREADS": "1"}


def alive(environment: dict[str, str]) -> list[int]:
    """Processes that have inherited it. Those that have ended and were not fetched yet have no environment left."""
    mark, found = environment[TREE].encode(), []
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in file.read_bytes():
                found.append(int(file.parent.name))
        except OSError:  # of another user, or gone meanwhile
            continue
    return found


def until(condition: Callable[[], bool], *, seconds: float = 60) -> float:
    """Wait for it; how long that took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "it did not come"
        time.sleep(0.005)
    return time.monotonic() - started


def finished(run: Run, *, seconds: float = 60, see: Callable[[Event], None] = lambda event: None) -> list[Event]:
    """All that is heard of a run, the outcome last."""
    events: list[Event] = []

    def over() -> bool:
        for event in run.poll():
            events.append(event)
            see(event)
        return bool(events) and isinstance(events[-1], Outcome)

    until(over, seconds=seconds)
    return events
