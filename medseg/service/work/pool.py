"""Child processes of the supervisor, on this machine."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

from medseg.cores import physical_cores
from medseg.interrupts import AGAIN
from medseg.service.settings.site import Site
from medseg.service.work import liveness, post

KILL_S = 30.0
"""Longest wait for the end of a process that was killed."""
STARVED = "ended by the system, which had run out of memory"
VMSTAT = Path("/proc/vmstat")


class Hand(Protocol):
    """A process that holds a post, here or elsewhere.

    Attributes:
        owner: the name under which it takes jobs.
    """

    owner: str

    def alive(self) -> bool: ...

    def fault(self) -> str:
        """How it ended, if its jobs may be at fault, `STARVED` for want of memory; empty where they are not."""

    def end(self) -> None:
        """Ask it to end in good order."""

    def kill(self) -> None:
        """End it now; it is dead when this returns."""


class Child:
    """A `Hand` that is a child process, made anew rather than forked: torch and CUDA do not outlive a fork."""

    def __init__(self, site: Site, role: str, number: int):
        self.owner = liveness.name(role if role != "worker" else f"worker{number}")
        context = multiprocessing.get_context("spawn")
        own = environment(site, number) if role == "worker" else {}
        level = logging.getLogger("medseg.service").getEffectiveLevel()
        arguments = (role, shared_out(site), self.owner, own, level)
        self._starved = starved()
        self._process = context.Process(target=post.main, args=arguments, name=self.owner)
        self._process.start()

    def alive(self) -> bool:
        return self._process.is_alive()

    def fault(self) -> str:
        code = self._process.exitcode
        if code == -getattr(signal, "SIGKILL", 9) and starved() > self._starved:
            return STARVED
        return "" if code in (0, AGAIN) else f"ended by signal {-code}" if code and code < 0 else f"exit code {code}"

    def end(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()
        self._process.join(KILL_S)


def starved() -> int:
    """How many processes of this machine the kernel has ended for want of memory; 0 where it does not count them."""
    with contextlib.suppress(OSError):
        for line in VMSTAT.read_text(encoding="ascii").splitlines():
            name, _, number = line.partition(" ")
            if name == "oom_kill":
                return int(number)
    return 0


def count(site: Site) -> int:
    """How many workers there are to be."""
    return site.work.workers or max(1, len(gpus(site.work.device)))


def shared_out(site: Site) -> Site:
    """The site as one of its workers sees it: with its share of the cores."""
    threads = site.work.threads or max(1, physical_cores() // count(site))
    return site.model_copy(update={"work": site.work.model_copy(update={"threads": threads})})


def environment(site: Site, number: int) -> dict[str, str]:
    """What a worker's process must find before it imports torch: the one GPU that is its own."""
    found = gpus(site.work.device)
    return {"CUDA_VISIBLE_DEVICES": found[number % len(found)]} if found else {}


@cache
def gpus(device: str) -> Sequence[str]:
    """CUDA's names of the GPUs that workers may use; none where they are to compute on something else."""
    if device not in ("auto", "cuda"):
        return ()
    import torch

    there = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return tuple(named.split(",")[:there] if named else map(str, range(there)))
