"""Soft Dice plus cross entropy that is not a number once: in the third step of the second process, or the only one."""

from __future__ import annotations

import os
from collections.abc import Sequence

from torch import Tensor

from medseg.losses import Loss, dice_ce
from medseg.settings import Settings


class Options(Settings):
    once: int = 3
    """Call that is spoilt."""


def build(options: Options, *, exclusive: bool) -> Loss:
    whole, calls = dice_ce.build(dice_ce.Options(), exclusive=exclusive), []

    def loss(outputs: Sequence[Tensor], target: Tensor) -> Tensor:
        calls.append(None)
        last = int(os.environ.get("WORLD_SIZE", "1")) - 1
        spoilt = len(calls) == options.once and int(os.environ.get("LOCAL_RANK", "0")) == last
        return whole(outputs, target) * (float("nan") if spoilt else 1.0)

    return loss
