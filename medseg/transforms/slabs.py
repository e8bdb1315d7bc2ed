"""One channel of a scan onto the prepared grid, slab after slab, so that memory does not grow with the scan's length.

Slabs are cut across one canonical axis by a rule that looks at sizes alone, and lie in memory in one way, however the
file has them: the same scan stored in any axis order gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from medseg import scratch
from medseg.plan import AXIS_OF
from medseg.resample import part, reach, resample
from medseg.transforms import intensity

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
VOXELS = 1 << 21
"""Voxels of a slab (8 MB of float32), unless a single plane has more."""


@dataclass(frozen=True, eq=False)
class Channel:
    """One channel as slabs; every iteration goes through all of them.

    Attributes:
        array: (I, J, K), canonical, any real kind of numbers, possibly larger than memory.
        axis: across which it is cut.
    """

    array: np.ndarray
    axis: int

    def __len__(self) -> int:
        return self.array.shape[self.axis]

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.between(0, len(self))

    def between(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Some of its planes as contiguous float32 (., n, .), new arrays, a slab at a time.

        With the planes in the middle, resampling along either of their axes is one large product.
        """
        planes = lying(self.array, self.axis)
        step = planes_of(planes.shape[1] * planes.shape[2])
        for first in range(start, stop, step):
            yield np.array(planes[first : min(first + step, stop)].swapaxes(0, 1), np.float32, order="C")
            scratch.let_go(self.array)


def axis_of(orientation: str) -> int:
    """The axis that slabs are cut across: the body's long one, along which most scans are stored plane after plane."""
    return [AXIS_OF[letter] for letter in orientation].index("z")


def planes_of(area: int) -> int:
    """Planes of so many voxels in a slab."""
    return max(1, VOXELS // area)


def lying(array: np.ndarray, axis: int) -> np.ndarray:
    """View of (I, J, K) with `axis` first and the other two in falling order."""
    return array.transpose([axis, *(other for other in (2, 1, 0) if other != axis)])


def nonzero_box(array: np.ndarray) -> Box:
    """Smallest box (start, stop) per axis holding every voxel of (C, I, J, K) where any channel is not 0; everything if
    all are 0."""
    return box_of(array, lambda part: part != 0) or whole_box(array)


def box_of(array: np.ndarray, wanted: Callable[[np.ndarray], np.ndarray]) -> Box | None:
    """Smallest box (start, stop) per axis holding every voxel of (C, I, J, K) where any channel is wanted; None: there
    are none.

    Args:
        wanted: some planes (C, i, j, k) -> boolean, of the same shape.
    """
    filled = [np.zeros(size, bool) for size in array.shape[1:]]
    along = int(np.argmax(np.abs(array.strides[1:])))  # as the file lies, for the box does not depend on it
    step = planes_of(array[0].size // array.shape[1 + along])
    for start in range(0, array.shape[1 + along], step):
        rows = [slice(start, start + step) if axis == along else slice(None) for axis in range(3)]
        mask = np.logical_or.reduce(wanted(array[(slice(None), *rows)]))
        for axis in range(3):
            filled[axis][rows[axis]] |= mask.any(axis=tuple(other for other in range(3) if other != axis))
        scratch.let_go(array)
    if not filled[0].any():
        return None
    first, second, third = ((int(np.argmax(one)), len(one) - int(np.argmax(one[::-1]))) for one in filled)
    return first, second, third


def whole_box(array: np.ndarray) -> Box:
    """All of (C, I, J, K)."""
    first, second, third = ((0, size) for size in array.shape[1:])
    return first, second, third


def fill(out: np.ndarray, channel: Channel, numbers: intensity.Scale, *, order: int, device: torch.device) -> None:
    """Normalise and resample a channel.

    Args:
        out: float32 (i, j, k) that is filled; the sizes of the new grid.
        order: spline order 0, 1 or 3.
        device: that does it.
    """
    new = lying(out, channel.axis)
    sizes = len(channel), len(new)
    low, high = reach(*sizes, order)
    held, first = torch.empty(0, *new.shape[1:], device=device), 0
    for rows in _stretches(channel, new.shape):
        start, stop = int(low[rows.start]), int(high[rows.stop - 1]) + 1
        pieces = [held[max(0, start - first) :]]
        for slab in channel.between(max(start, first + len(held)), stop):
            values = torch.from_numpy(slab).to(device)
            intensity.normalise(values, numbers)
            shape = new.shape[1], values.shape[1], new.shape[2]
            pieces.append(resample(values[None], shape, order)[0].transpose(0, 1))
        held, first = torch.cat(pieces), start
        values = held if sizes[0] == sizes[1] else part(held, 0, sizes=sizes, order=order, rows=rows, first=first)
        new[rows] = values.cpu().numpy()
        scratch.let_go(out)


def _stretches(channel: Channel, shape: tuple[int, ...]) -> Iterator[slice]:
    """New planes that are made at once: what comes of one slab of old ones."""
    old, new = lying(channel.array, channel.axis).shape, shape
    step = max(1, planes_of(max(old[1] * old[2], new[1] * new[2])) * new[0] // max(old[0], new[0]))
    for first in range(0, new[0], step):
        yield slice(first, min(first + step, new[0]))
