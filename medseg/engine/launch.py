"""The processes of a training: how they start, share the machine and part."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import lightning_fabric
import torch
from lightning_fabric.strategies import Strategy
from torch import distributed

from medseg import cores
from medseg.config import TrainSettings
from medseg.engine import apart, shard, step
from medseg.engine import device as devices
from medseg.refusal import Refusal

MACHINES = "GROUP_WORLD_SIZE"
"""In which torchrun says how many machines take part; train.devices is of each."""
STARTED = "LOCAL_WORLD_SIZE"
"""How many processes torchrun has started on this machine."""
LETTING_GO_S = 0.2
"""For threads that need microseconds."""


def launched(settings: TrainSettings) -> lightning_fabric.Fabric:
    """The devices that train; from here on, each has a process of its own.

    Raises:
        Refusal: no such device, not so many, or sharding with what it cannot do.
    """
    chosen = devices.choose(settings.device)
    _check_number(settings.devices, chosen)
    threads = settings.threads or cores.threads(settings.devices)
    fabric = lightning_fabric.Fabric(
        accelerator=chosen.type,
        devices=settings.devices,
        num_nodes=int(os.environ.get(MACHINES, 1)),
        strategy=strategy(settings),
        precision=step.PRECISIONS[settings.precision],
    )
    fabric.launch()
    if fabric.local_rank and cores.TORCHRUN not in os.environ:
        # the first process started this one, which would wait for it on a GPU for minutes, or for ever
        apart.end_with_parent(signal.SIGKILL)
    torch.set_num_threads(threads)  # only now: to launch several processes sets a number, and OMP_NUM_THREADS besides
    return fabric


def _check_number(wanted: int, kind: torch.device) -> None:
    started = int(os.environ.get(STARTED, wanted))
    if wanted != started:
        raise Refusal(
            "train.devices",
            found=f"{wanted}, and torchrun has started {started} on this machine (--nproc_per_node)",
            needed="the same number",
            remedy=f"set train.devices={started}",
        )
    present = {"cuda": torch.cuda.device_count(), "mps": 1}.get(kind.type, wanted)
    if wanted > present:
        raise Refusal(
            "train.devices",
            found=f"{wanted}, with {present} of {kind.type} on this machine",
            needed="as many as there are, or fewer",
            remedy=f"set train.devices={present}; for several machines it is the number on each",
        )


@contextmanager
def parting() -> Iterator[None]:
    """Ends what connects CPU processes: threads that still wait for another one when Python ends would abort it, and
    the exit code would be that of a crash. Fabric does so itself for GPUs.

    These threads need Python's lock to let go of what they have just done, and torch joins them with that lock held: so
    they get a moment before, or both would wait for ever (torch 2.13; seen where a training ends with an error).
    """
    try:
        yield
    finally:
        if distributed.is_available() and distributed.is_initialized() and distributed.get_backend() == "gloo":
            time.sleep(LETTING_GO_S)
            distributed.destroy_process_group()


def strategy(settings: TrainSettings) -> str | Strategy:
    """How several devices work together; refuses what sharding cannot do."""
    if not settings.shard:
        return "ddp" if settings.devices > 1 else "auto"
    obstacles = {
        "train.devices": (settings.devices, 1, "at least 2, among which to divide the network"),
        "train.precision": (settings.precision, "16", "bf16 or 32"),
        "train.ema": (settings.ema > 0, True, "0, because the average would be a whole network on every device"),
    }
    for key, (value, obstacle, needed) in obstacles.items():
        if value == obstacle:
            found = f"{getattr(settings, key.removeprefix('train.'))} with train.shard"
            raise Refusal(key, found=found, needed=needed, remedy=f"change {key}, or set train.shard=false")
    return shard.strategy(settings.devices)
