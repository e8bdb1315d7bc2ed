"""Where a scan may hold tissue, in blocks of some 8 mm: what lies in the air around the patient needs no network.

Air is only what is joined, from block to block, to the left, right, front or back of the scan. The lungs, gas in the
bowel and a pneumothorax are not; the scan's first and last slices do not count as outside, because they may cut through
the lungs. A block with a single voxel of tissue is tissue.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medseg import scratch
from medseg.plan import Plan, Sizes
from medseg.transforms.prepare import Slices, Undo
from medseg.volume import Volume

BLOCK_MM = 8.0
MARGIN_MM = 10.0
"""By how much tissue is grown, and by a block at least: a network's answer to the skin may lie beside it."""
AIR_HU = -800.0
"""The highest voxel of a block of lung lies above it nearly always (vessels; parenchyma has some -850 on average), that
of a block of air never: air has -1000, and noise of an SD of 50 reaches some 180 further in a block of 1,000 voxels."""


@dataclass(frozen=True, eq=False)
class Tissue:
    """The blocks of a scan that may hold tissue, or lie beside one that does.

    Attributes:
        blocks: boolean (n, n', n''), of the whole scan in canonical orientation.
        sides: voxels of a block along each axis; the last one may be smaller.
        undo: how the prepared array lies on the scan.
        box: of the prepared grid, with all tissue and its margin, not rounded up to blocks; None: there is none.
    """

    blocks: np.ndarray
    sides: Sizes
    undo: Undo
    box: Slices | None = None

    def under(self, box: Sequence[slice]) -> bool:
        """Whether a box of the prepared grid, or the prepared voxels around it, holds any of the tissue. The voxels
        around it count because a voxel of the scan is interpolated between two prepared ones."""
        place = []
        for part, side, (start, stop), size in zip(box, self.sides, self.undo.crop, self.undo.prepared, strict=True):
            step = (stop - start) / size
            first = start + math.floor(max(0, part.start - 1) * step)
            last = start + math.ceil(min(size, part.stop + 1) * step)
            place.append(slice(first // side, -(-last // side)))
        return bool(self.blocks[tuple(place)].any())


def tissue(scan: Volume, undo: Undo, plans: Sequence[Plan]) -> Tissue:
    """Where a scan may hold tissue.

    On CT (every channel of every plan is normalised as such) what is above -800 HU is tissue, on other scans what is
    above the channel's lowest value, which is padding, or what is left around an extracted brain.

    Args:
        scan: with a size in millimetres; it may be memory-mapped and is read once, some slices at a time.
        undo: how it was prepared.
        plans: those of all networks that see it; they share an orientation.
    """
    spacing = [float(scan.spacing_mm[axis]) for axis in undo.permutation]
    first, second, third = (max(1, round(BLOCK_MM / one)) for one in spacing)
    sides = (first, second, third)
    ct = all(how.kind == "ct" for plan in plans for how in plan.normalisation)
    filled: np.ndarray | None = None
    for channel in undo.axes.apply(scan.array):
        highest, lowest = _extremes(channel, sides)
        above = ~(highest <= (AIR_HU if ct else lowest))  # what is no number may be tissue
        filled = above if filled is None else filled | above
    assert filled is not None  # a volume has a channel
    grown = [2 * max(1, math.ceil(MARGIN_MM / (side * one))) + 1 for side, one in zip(sides, spacing, strict=True)]
    inside = ~_outside(~filled, plans[0].orientation)
    blocks = ndimage.maximum_filter(inside.astype(np.uint8), size=grown, mode="nearest").astype(bool)
    return Tissue(blocks, sides, undo, _around(inside, sides, spacing, undo))


def _around(inside: np.ndarray, sides: Sizes, spacing_mm: Sequence[float], undo: Undo) -> Slices | None:
    """The smallest box of the prepared grid that holds some blocks and `MARGIN_MM` around them."""
    if not inside.any():
        return None
    parts = []
    for axis, (side, one, (start, stop), size) in enumerate(
        zip(sides, spacing_mm, undo.crop, undo.prepared, strict=True)
    ):
        there = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        first, last = there[0] * side - MARGIN_MM / one, (there[-1] + 1) * side + MARGIN_MM / one
        low, high = (math.floor((end - start) * size / (stop - start) + 0.5) for end in (first, last))
        parts.append(slice(min(max(0, low), size - 1), max(1, min(high, size))))
    return parts[0], parts[1], parts[2]


def _outside(air: np.ndarray, orientation: str) -> np.ndarray:
    """The blocks of air (n, n', n'') that are joined to a face at the patient's left, right, front or back."""
    start = np.zeros_like(air)
    for axis, letter in enumerate(orientation):
        if letter not in "IS":
            for face in (0, -1):
                place = [slice(None)] * 3
                place[axis] = face  # type: ignore[call-overload]
                start[tuple(place)] = air[tuple(place)]
    return ndimage.binary_propagation(start, mask=air)


def _extremes(channel: np.ndarray, sides: Sizes) -> tuple[np.ndarray, float]:
    """The highest value of each block of (I, J, K), and the lowest value of all."""
    slow, middle, fast = (int(axis) for axis in np.argsort(np.abs(channel.strides))[::-1])
    stored = channel.transpose(slow, middle, fast)
    planes, lowest = [], math.inf
    for start in range(0, stored.shape[0], sides[slow]):
        slab = stored[start : start + sides[slow]]
        lowest = min(lowest, float(slab.min()))
        rows = _highest(slab.max(axis=0), sides[middle])
        planes.append(_highest(rows.T, sides[fast]).T)
        scratch.let_go(channel)
    return np.stack(planes).transpose(np.argsort((slow, middle, fast))), lowest


def _highest(rows: np.ndarray, side: int) -> np.ndarray:
    """The highest of each `side` rows of (m, n)."""
    return np.stack([rows[at : at + side].max(axis=0) for at in range(0, len(rows), side)])
