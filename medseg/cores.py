"""How much of the machine a process may use, and work spread over it."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

from medseg.refusal import Refusal

Item = TypeVar("Item")
Result = TypeVar("Result")


SPIN, SPINS = "GOMP_SPINCOUNT", "10000"
"""How often a thread of GNU's OpenMP, which PyTorch brings along, looks whether there is work before it sleeps. By
itself it looks 300,000 times, some 10 ms."""
TORCHRUN = "TORCHELASTIC_RUN_ID"
"""What torchrun's processes find in their environment."""
SYSTEM = Path("/sys")
PROCESS = Path("/proc/self")


def available_cores() -> int:
    """Processor cores that this process may use, those of one core that runs two threads counted twice; fewer than the
    machine has, in a container."""
    return min(len(_allowed()), _quota() or len(_allowed()))


def physical_cores() -> int:
    """The same, each core counted once: two threads on one core only get in each other's way when both multiply."""
    siblings = set()
    for number in _allowed():
        file = SYSTEM / f"devices/system/cpu/cpu{number}/topology/thread_siblings_list"
        siblings.add(file.read_text().strip() if file.exists() else str(number))
    return min(len(siblings), _quota() or len(siblings))


def threads(processes: int = 1) -> int:
    """For a computation: as many as OMP_NUM_THREADS says, which the schedulers of clusters set, else one a core.

    Args:
        processes: that share the cores and compute together. torchrun, which starts such, writes OMP_NUM_THREADS=1
            where nobody has said anything: from it, a 1 is not taken for somebody's wish.
    """
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if said == "1" and processes > 1 and TORCHRUN in os.environ:
        said = ""
    return (int(said) if said.isdecimal() else 0) or max(1, physical_cores() // processes)


def share() -> None:
    """Let threads that have nothing to do sleep soon, so that programs that share cores do not wait for each other's
    waiting. To be called before torch is imported; what the user has set stays."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault(SPIN, SPINS)


def _allowed() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _quota() -> int | None:
    """Cores' worth of time that the control groups of this process grant it, rounded down; None: no limit.

    Linux only: version 2 writes "quota period" into cpu.max, version 1 into two files, in microseconds.
    """
    listed = PROCESS / "cgroup"
    limits = []
    for line in listed.read_text().splitlines() if listed.exists() else ():
        _, kinds, group = line.split(":", 2)
        if kinds and "cpu" not in kinds.split(","):
            continue
        root = SYSTEM / "fs/cgroup" / ("cpu" if kinds else "")
        place = root / group.lstrip("/")
        for folder in (place, *(above for above in place.parents if above.is_relative_to(root))):
            limits += _limit(folder)
    return max(1, int(min(limits))) if limits else None


def _limit(folder: Path) -> list[float]:
    """Cores' worth of time of one control group; none where it has no limit."""
    if (folder / "cpu.max").exists():
        quota, period = (folder / "cpu.max").read_text().split()
    elif (folder / "cpu.cfs_quota_us").exists():
        quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
    else:
        return []
    return [int(quota) / int(period)] if quota not in ("max", "-1") else []


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
