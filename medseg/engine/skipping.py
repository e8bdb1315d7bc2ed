"""Tiles that need no network because they see nothing but air, and what is said where no tile is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medseg.plan import Plan
from medseg.transforms.air import tissue
from medseg.transforms.prepare import Slices, Undo
from medseg.volume import Volume

FAR = 100.0
"""Logit of what is certain. Larger ones would ring through a cubic spline, and no probability could show them."""
NO_TISSUE = "nothing but air was found: all of the scan is background; skip_air=false asks the network all the same"


@dataclass(frozen=True, eq=False)
class Skipping:
    """Tiles that are left out, and what is said of a voxel that no tile answers for.

    Attributes:
        wanted: whether a box of the prepared image needs an answer.
        background: logits (N,).
        box: of the prepared image, which holds the tissue and its margin; None: not known.
    """

    wanted: Callable[[Sequence[slice]], bool]
    background: Tensor
    box: Slices | None = None

    @classmethod
    def of(
        cls,
        wanted: Callable[[Sequence[slice]], bool],
        channels: int,
        *,
        exclusive: bool,
        box: Slices | None = None,
    ) -> Skipping:
        """With the logits of background: for classes the first, for regions none."""
        background = torch.full((channels,), -FAR)
        if exclusive:
            background[0] = FAR
        return cls(wanted, background, box)


def over_air(
    scan: Volume, undo: Undo, plans: Sequence[Plan], channels: int, *, exclusive: bool
) -> tuple[Skipping | None, str]:
    """Leave out what sees only the air around a patient, and a warning where that is everything.

    Nothing is left out of photographs: they have no size in millimetres, and darkness is no air.
    """
    if scan.unit != "mm" or any(plan.steps for plan in plans):
        return None, ""
    found = tissue(scan, undo, plans)
    skipping = Skipping.of(found.under, channels, exclusive=exclusive, box=found.box)
    return skipping, "" if found.blocks.any() else NO_TISSUE
