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
from medseg.resample import part as part_of
from medseg.resample import reach
from medseg.transforms.kept import Kept, entropy
from medseg.transforms.prepare import Slices, Undo

VOXELS = {"cpu": 2_000_000, "cuda": 8_000_000}
"""Native voxels in the rows that are worked on at once, by the kind of device that holds the scores."""
STRIP = {"cpu": 32, "cuda": 256}
"""Rows of those, across the stream, in which the channels that can win are found. On a CPU few enough for what is made
of them to stay in its cache; on a GPU so many that it is not the starting of kernels that takes the time."""
CELL = 16
"""Prepared samples, along the last axis, for which a channel's highest and lowest score are compared."""


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
    for old, new, span in zip(undo.prepared, undo.cropped, box, strict=True):
        low, high = reach(old, new, order)
        parts.append(slice(int(low[span.start]), int(high[span.stop - 1]) + 1))
    return parts[0], parts[1], parts[2]


class Landing:
    """Where the scores of a box come down as labels, row after row along one axis.

    A channel whose highest score in a neighbourhood is below another's lowest cannot win there, for a linear
    interpolation lies between the scores that it is made of. So most channels are never resampled in most places.

    Attributes:
        box: of the crop, canonical, that gets labels.
        reads: box on the prepared grid that the labels of `box` are made of.
        halo: prepared rows along `axis` before the newest that may still be wanted.
        done: first row of `box` along `axis` that has no labels yet.
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
        kept: Kept | None = None,
    ):
        """
        Args:
            target: from `blank`; labels are written into it.
            exclusive: the highest channel wins (the lower one on a tie); else each channel is a region where its score
                is above 0.
            axis: canonical axis along which scores come.
            box: of the crop, canonical, that gets labels; None: all of it.
            order: spline order by which scores are resampled: 0, 1 or 3.
            kept: what is written besides labels; None: nothing.
        """
        self.box = box or everything(undo.cropped)
        self.axis = axis
        self.done = self.box[axis].start
        self._order, self._exclusive = order, exclusive
        self.reads = reads(undo, self.box, order)
        reaches = [reach(old, new, order) for old, new in zip(undo.prepared, undo.cropped, strict=True)]
        low, high = reaches[axis]
        self.halo = int((high - low).max()) + 1
        # from here on the stream's own order of axes: the one that rows come along, then the others
        self._axes = stream_order(axis)
        self._target = self._turned(inside(undo, target))
        self._kept = (kept or Kept()).turned(lambda array: self._turned(inside(undo, array)))
        self._reaches = [reaches[one] for one in self._axes]
        self._own = [_own(undo.prepared[one], undo.cropped[one], self.box[one], self.reads[one]) for one in self._axes]
        self._sizes = [(undo.prepared[one], undo.cropped[one]) for one in self._axes]

    def _turned(self, array: np.ndarray) -> np.ndarray:
        return array.transpose(0, *(1 + axis for axis in self._axes))

    def take(self, first: int, scores: Tensor) -> None:
        """Make labels of scores (C, n, n', n''), the axis of the stream first. Their rows begin with prepared row
        `first` and end where they are not final yet; along the other axes they cover `reads`. Where the disagreement of
        members is kept, it is a channel more.

        Raises:
            ValueError: rows that are still wanted come no more.
        """
        across, last = (self.box[axis] for axis in self._axes[1:])
        wanted = self._reaches[0][0]
        if self.done < self.box[self.axis].stop and first > wanted[self.done]:
            raise ValueError(f"scores from row {first}, when those from row {wanted[self.done]} are wanted")
        starts = [first, *(self.reads[axis].start for axis in self._axes[1:])]
        scores, disputed = (scores, None) if self._kept.disagreement is None else (scores[:-1], scores[-1])
        self._certainty(scores, starts)
        voxels, strip = portion(scores.device, all_channels=self._kept.all_channels)
        for rows in self._stretches(first + scores.shape[1], voxels):
            for start in range(across.start, across.stop, strip):
                place = (rows, slice(start, min(start + strip, across.stop)), last)
                if self._kept.at_native:
                    self._all_channels(scores, place, starts)
                elif self._exclusive:
                    self._target[(0, *place)] = self._winners(scores, place, starts)
                else:
                    self._regions(scores, place, starts)
                self._uncertainty(scores, disputed, place, starts)
            self.done = rows.stop

    def _stretches(self, ready: int, voxels: int) -> Iterator[slice]:
        """Rows that can be made now, so many at a time that they hold about `voxels`."""
        _, high = self._reaches[0]
        stop = min(self.box[self.axis].stop, int(np.searchsorted(high, ready)))
        area = math.prod(self.box[axis].stop - self.box[axis].start for axis in self._axes[1:])
        step = max(1, voxels // area)
        for start in range(self.done, stop, step):
            yield slice(start, min(start + step, stop))

    def _winners(self, scores: Tensor, place: Slices, starts: list[int]) -> np.ndarray:
        rivals = self._rivals(scores, place, starts)
        sizes = [part.stop - part.start for part in place]
        best = torch.full(sizes, -torch.inf, device=scores.device)
        winner = torch.zeros(sizes, dtype=torch.int16, device=scores.device)
        if len(rivals) == 1:
            winner.fill_(next(iter(rivals)))
            return winner.cpu().numpy()
        for number, part in rivals.items():
            values = self._resampled(scores[number], (*place[:2], part), starts)
            here = (slice(None), slice(None), slice(part.start - place[2].start, part.stop - place[2].start))
            winner[here].masked_fill_(values > best[here], number)
            torch.maximum(best[here], values, out=best[here])
        return winner.cpu().numpy()

    def _regions(self, scores: Tensor, place: Slices, starts: list[int]) -> None:
        """Nothing is written where a region cannot be."""
        for number, part in self._rivals(scores, place, starts).items():
            values = self._resampled(scores[number], (*place[:2], part), starts)
            self._target[(number, *place[:2], part)] = (values > 0).cpu().numpy()

    def _rivals(self, scores: Tensor, place: Slices, starts: list[int]) -> dict[int, slice]:
        """Channels that may win somewhere (regions: be above 0), and the native stretch along the last axis where."""
        if self._order == 3:  # a cubic spline overshoots
            return dict.fromkeys(range(len(scores)), place[2])
        seen = self._held(scores, place, starts)
        cells = -(-seen.shape[3] // CELL)
        # axis by axis: a maximum over both at once takes fifty times as long on a CPU
        high = _by_cell(seen.amax(dim=2).amax(dim=1).float(), cells, -torch.inf).amax(dim=2)
        if self._exclusive:
            low = -_by_cell(-seen.amin(dim=2).amin(dim=1).float(), cells, -torch.inf)
            may = high >= low.amin(dim=2).amax(dim=0)
        else:
            may = high > 0
        edges = self._read(2, place[2]).start + CELL * np.arange(cells + 1)
        native = np.searchsorted(self._reaches[2][0], edges).clip(place[2].start, place[2].stop).tolist()
        native[0], native[-1] = place[2].start, place[2].stop
        found = {}
        for number, cells_of in enumerate(may.cpu().numpy()):
            [there] = cells_of.nonzero()
            if len(there) and native[there[0]] < native[there[-1] + 1]:
                found[number] = slice(native[there[0]], native[there[-1] + 1])
        return found

    def _all_channels(self, scores: Tensor, place: Slices, starts: list[int]) -> None:
        """Labels, and what is kept of the scores that they follow from."""
        values = torch.stack([self._resampled(channel, place, starts) for channel in scores])
        if self._exclusive:
            self._target[(0, *place)] = values.argmax(0).cpu().numpy()
        else:
            self._target[(slice(None), *place)] = (values > 0).cpu().numpy()
        self._kept.take(values, place, exclusive=self._exclusive)

    def _uncertainty(self, scores: Tensor, disputed: Tensor | None, place: Slices, starts: list[int]) -> None:
        """Maps of one number a voxel. A spline may overshoot what they can be."""
        kept = self._kept
        if kept.entropy is not None:
            here = [self._read(axis, part).start for axis, part in enumerate(place)]
            doubt = entropy(self._held(scores, place, starts), kept.temperature, exclusive=self._exclusive)
            kept.entropy[(0, *place)] = self._resampled(doubt, place, here).clamp(0, 1).cpu().numpy()
        if kept.disagreement is not None and disputed is not None:
            kept.disagreement[(0, *place)] = self._resampled(disputed, place, starts).clamp(0, 1).cpu().numpy()

    def _certainty(self, scores: Tensor, starts: list[int]) -> None:
        """Of rows that were not there before, those of this block."""
        if self._kept.certainty is None:
            return
        rows, across, last = self._own
        stop = min(rows.stop, starts[0] + scores.shape[1])
        held = scores[:, :, across.start - starts[1] : across.stop - starts[1] : 2]
        for row in range(rows.start, stop, 2):
            part = held[:, row - starts[0], :, last.start - starts[2] : last.stop - starts[2] : 2]
            self._kept.certainty.take(part)
        self._own[0] = slice(max(rows.start, stop + stop % 2), rows.stop)

    def _read(self, axis: int, part: slice) -> slice:
        """Prepared samples that a native stretch along one of the stream's axes is made of."""
        low, high = self._reaches[axis]
        return slice(int(low[part.start]), int(high[part.stop - 1]) + 1)

    def _resampled(self, channel: Tensor, place: Slices, starts: list[int]) -> Tensor:
        """The native box `place` of one channel, of which `channel` holds the prepared part that begins at `starts`."""
        values = self._held(channel[None], place, starts)[0].float()
        for axis, (rows, sizes) in enumerate(zip(place, self._sizes, strict=True)):
            if sizes[0] != sizes[1]:
                first = self._read(axis, rows).start
                values = part_of(values, axis, sizes=sizes, order=self._order, rows=rows, first=first)
        return values

    def _held(self, scores: Tensor, place: Slices, starts: list[int]) -> Tensor:
        """View of what a native box is made of."""
        box = [self._read(axis, part) for axis, part in enumerate(place)]
        one, other, last = (slice(held.start - at, held.stop - at) for held, at in zip(box, starts, strict=True))
        return scores[:, one, other, last]


def _own(old: int, new: int, part: slice, read: slice) -> slice:
    """Even prepared samples that lie within a stretch of a native axis, each in one of the parts of the axis; of those
    that are read."""
    places = (np.arange(old) + 0.5) * new / old
    first, stop = np.searchsorted(places, (part.start, part.stop)).tolist()
    first = max(first, read.start)
    return slice(first + first % 2, min(stop, read.stop))


def _by_cell(profile: Tensor, cells: int, filling: float) -> Tensor:
    """(C, n) -> (C, cells, CELL + 1): neighbours share a sample, since what lies between them is made of both."""
    missing = cells * CELL + 1 - profile.shape[1]
    return torch.nn.functional.pad(profile, (0, missing), value=filling).unfold(1, CELL + 1, CELL)


def portion(device: torch.device | str, *, all_channels: bool) -> tuple[int, int]:
    """`VOXELS` and `STRIP` of a device; those of a CPU where all channels are made of them at once, which is many times
    the memory."""
    kind = "cpu" if all_channels else torch.device(device).type
    return VOXELS.get(kind, VOXELS["cpu"]), STRIP.get(kind, STRIP["cpu"])


def stream_order(axis: int) -> tuple[int, int, int]:
    """The axes i, j, k with that of the stream first."""
    first, second = (other for other in range(3) if other != axis)
    return axis, first, second


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
