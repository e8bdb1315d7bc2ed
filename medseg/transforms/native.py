"""From scores on the prepared grid to labels on the scan's own grid, a stretch of rows at a time.

What is kept at once does not grow with the length of the scan, and what is made of the scores is one label a voxel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from medseg import scratch
from medseg.resample import part, reach
from medseg.transforms.prepare import Slices, Undo

VOXELS = 1_000_000
"""Native voxels that are worked on at once (4 MB a float32 array: it stays in the processor's cache)."""


def blank(undo: Undo, channels: int, *, exclusive: bool, slowest: int = 0) -> np.ndarray:
    """A network target of background for a whole scan: (1, I, J, K), or (channels, I, J, K) where labels may overlap.

    Args:
        slowest: canonical axis that labels will come along.
    """
    kind = np.uint16 if exclusive and channels > 256 else np.uint8
    return scratch.zeros((1 if exclusive else channels, *undo.shape), kind, slowest=undo.permutation[slowest])


def inside(undo: Undo, array: np.ndarray) -> np.ndarray:
    """View of (C, I, J, K) on the scan's grid: the crop box, in canonical orientation."""
    return undo.axes.apply(array)[(slice(None), *(slice(start, stop) for start, stop in undo.crop))]


def reads(undo: Undo, box: Slices, order: int) -> Slices:
    """The box on the prepared grid that a box of the crop is made of, by splines of an order."""
    parts = []
    for old, new, part in zip(undo.prepared, undo.cropped, box, strict=True):
        low, high = reach(old, new, order)
        parts.append(slice(int(low[part.start]), int(high[part.stop - 1]) + 1))
    return parts[0], parts[1], parts[2]


class Landing:
    """Where the scores of a box come down as labels, row after row along one axis.

    Attributes:
        reads: box on the prepared grid that the labels of `box` are made of.
        halo: prepared rows along `axis` before the newest that may still be wanted.
        done: first row of `box` along `axis`, in the crop, that has no labels yet.
    """

    def __init__(
        self,
        undo: Undo,
        target: np.ndarray,
        *,
        exclusive: bool,
        axis: int = 0,
        box: Slices | None = None,
        order: int = 1,
        probabilities: np.ndarray | None = None,
    ):
        """
        Args:
            target: from `blank`; labels are written into it.
            exclusive: the highest channel wins (the lower one on a tie); else each channel is a region where its score
                is above 0.
            axis: canonical axis along which scores come.
            box: of the crop, canonical, that gets labels; None: all of it.
            order: spline order by which scores are resampled: 0, 1 or 3.
            probabilities: (channels, I, J, K) float32 on the scan's grid, written too; None: not wanted.
        """
        self.box = box or everything(undo.cropped)
        self.axis, self.order, self.exclusive = axis, order, exclusive
        self.done = self.box[axis].start
        self._undo = undo
        self._target = inside(undo, target)
        self._chances = None if probabilities is None else inside(undo, probabilities)
        self._reach = [reach(old, new, order) for old, new in zip(undo.prepared, undo.cropped, strict=True)]
        self.reads = reads(undo, self.box, order)
        low, high = self._reach[axis]
        self.halo = int((high - low).max()) + 1

    def take(self, first: int, scores: Tensor) -> None:
        """Scores (C, n, n', n'') whose rows along `axis` begin with prepared row `first` and end where they are not
        final yet; along the other axes they cover `reads`."""
        ready = first + scores.shape[1 + self.axis]
        for rows in self._stretches(ready):
            place = with_part(self.box, self.axis, rows)
            starts = [first if axis == self.axis else one.start for axis, one in enumerate(self.reads)]
            if self._chances is not None:
                self._keep_chances(scores, place, starts)
            elif self.exclusive:
                self._target[(0, *place)] = self._winner(scores, place, starts)
            else:
                for number, channel in enumerate(scores):
                    self._target[(number, *place)] = (self._resampled(channel, place, starts) > 0).cpu().numpy()
            self.done = rows.stop

    def _stretches(self, ready: int) -> Iterator[slice]:
        """Rows that can be made now, a handy number at a time."""
        _, high = self._reach[self.axis]
        stop = min(self.box[self.axis].stop, int(np.searchsorted(high, ready)))
        area = math.prod(one.stop - one.start for axis, one in enumerate(self.box) if axis != self.axis)
        step = max(1, VOXELS // area)
        for start in range(self.done, stop, step):
            yield slice(start, min(start + step, stop))

    def _winner(self, scores: Tensor, place: Slices, starts: list[int]) -> np.ndarray:
        best = self._resampled(scores[0], place, starts).clone()  # where nothing is resampled it is the scores' own
        winner = torch.zeros(best.shape, dtype=torch.int32, device=best.device)
        for number, channel in enumerate(scores[1:], start=1):
            values = self._resampled(channel, place, starts)
            winner.masked_fill_(values > best, number)
            torch.maximum(best, values, out=best)
        return winner.cpu().numpy()

    def _keep_chances(self, scores: Tensor, place: Slices, starts: list[int]) -> None:
        """Labels, and the probabilities that they follow from."""
        values = torch.stack([self._resampled(channel, place, starts) for channel in scores])
        assert self._chances is not None  # the caller has looked
        if self.exclusive:
            self._target[(0, *place)] = values.argmax(0).cpu().numpy()
            self._chances[(slice(None), *place)] = values.softmax(0)[-len(self._chances) :].cpu().numpy()
        else:
            self._target[(slice(None), *place)] = (values > 0).cpu().numpy()
            self._chances[(slice(None), *place)] = values.sigmoid().cpu().numpy()

    def _resampled(self, channel: Tensor, place: Slices, starts: list[int]) -> Tensor:
        """The native box `place` of one channel, of which `channel` holds the prepared part that begins at `starts`."""
        values, firsts = channel, []
        for axis, (rows, start) in enumerate(zip(place, starts, strict=True)):
            low, high = self._reach[axis]
            first = int(low[rows.start])
            values = values.narrow(axis, first - start, int(high[rows.stop - 1]) + 1 - first)
            firsts.append(first)
        values = values.float()
        for axis, (rows, first) in enumerate(zip(place, firsts, strict=True)):
            sizes = self._undo.prepared[axis], self._undo.cropped[axis]
            if sizes[0] != sizes[1]:
                values = part(values, axis, sizes=sizes, order=self.order, rows=rows, first=first)
        return values


def with_part(box: Slices, axis: int, part: slice) -> Slices:
    """The box with another stretch along one axis."""
    first, second, third = (part if number == axis else one for number, one in enumerate(box))
    return first, second, third


def everything(shape: tuple[int, ...]) -> Slices:
    """The box that holds all of a grid."""
    first, second, third = (slice(0, size) for size in shape)
    return first, second, third


def labels(scores: Tensor, undo: Undo, *, exclusive: bool) -> np.ndarray:
    """Network target on the scan's grid of scores (C, i, j, k) on the whole prepared grid.

    Raises:
        ValueError: the scores have another shape.
    """
    if tuple(scores.shape[1:]) != undo.prepared:
        raise ValueError(f"scores of shape {tuple(scores.shape)} do not lie on the prepared grid {undo.prepared}")
    target = blank(undo, len(scores), exclusive=exclusive)
    Landing(undo, target, exclusive=exclusive).take(0, scores)
    return target
