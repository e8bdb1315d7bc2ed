"""How much of the machine a process may use, and work spread over it."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from medseg.refusal import Refusal

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """Processor cores that this process may use; fewer than the machine has, in a container."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_order(
    work: Callable[[Item], Result], items: Sequence[Item], *, workers: int, portion: int = 1
) -> Iterator[Result]:
    """`work` on each item, in the order of items; for parsing, which holds Python's lock.

    Args:
        work: a function at the top of a module (or a partial of one) that returns its failures.
        workers: processes, started afresh ("spawn"), so that a script that calls this needs a main guard; below 2 the
            work is done in this one.
        portion: items that a process is given at a time.

    Raises:
        Refusal: a process died.
    """
    if workers < 2:
        yield from map(work, items)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            yield from pool.map(work, items, chunksize=portion)
        except BrokenProcessPool as error:
            raise Refusal(
                "worker process",
                found="that it died, perhaps for want of memory",
                needed="enough memory for what is done with each file",
                remedy="run the same command with --workers 1, which names the file if one is at fault",
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
