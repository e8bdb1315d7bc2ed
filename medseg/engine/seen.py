"""What a network sees of a scan: prepared by its plan, on the device where there is room for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from medseg.engine import device as devices
from medseg.engine import memory, stages
from medseg.engine.memory import Limits
from medseg.plan import Plan
from medseg.transforms import prepare as transform
from medseg.volume import Volume


def room(limits: Limits, device: torch.device, members: int) -> int:
    """Bytes of the GPU that a member's image may take: of what nobody plans with, and none under a limit."""
    return 0 if limits.gpu is not None else limits.gpu_bytes(device) // (16 * members)


def image(
    scan: Volume,
    plan: Plan,
    *,
    valid: np.ndarray | None,
    centre: str,
    square: bool,
    slowest: int,
    device: torch.device,
    room: int,
) -> tuple[torch.Tensor, transform.Undo]:
    """What a member sees of a scan, (C, i, j, k), and the way back.

    Args:
        valid, square, slowest: see `transforms.prepare.image`.
        centre: where it was taken, for plans that tell their networks.
        device: of the network; the image is made there, if it can be, and stays there, if it takes no more than `room`.
    """
    planes = transform.centre_code(centre, plan.centres) if plan.centres else ()
    prepare = partial(transform.image, scan, plan, valid=valid, square=square, planes=planes, slowest=slowest)
    with stages.stage("prepare"):
        found = _unless_full(partial(prepare, device=device))
        if found is None:  # others took the room on the GPU; the CPU gives the same to the last digits
            devices.give_back(after_error=True)
            found = prepare(device=torch.device("cpu"))
        made, undo = found
        return devices.near(torch.from_numpy(made), device, room=room), undo


def _unless_full(prepare: Callable[[], tuple[np.ndarray, transform.Undo]]) -> tuple[np.ndarray, transform.Undo] | None:
    """What it gives; None where a GPU's memory ran out. A function of its own, so that what it held is gone then."""
    try:
        return prepare()
    except (MemoryError, RuntimeError) as error:
        if not (memory.ran_out(error) and memory.on_gpu(error)):
            raise
    return None
