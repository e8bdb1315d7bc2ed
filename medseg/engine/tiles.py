"""Inference on overlapping tiles that come along one axis; rows that no further tile reaches are handed on and dropped.

The logits of a whole volume never exist. What is held is the stretch under the tiles of one position along the axis, so
memory grows with the cross-section and the number of classes, and not with the length.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from medseg.engine.skipping import Skipping
from medseg.geometry import AXIS_CODES
from medseg.refusal import Refusal
from medseg.transforms.native import stream_order

Sizes = tuple[int, int, int]
PIECE = {"cpu": 1_000_000, "cuda": 64_000_000}
"""Logits of a tile that are brought into the form of the running means at once, by the device that those are on."""
PATIENT_AXES = {"left-right": 0, "anterior-posterior": 1, "inferior-superior": 2}


def _spread(size: int, tile: int, count: int) -> list[int]:
    """First voxel of each of `count` tiles, from the first to the last that lies within `size`."""
    return [round(place * (size - tile) / max(1, count - 1)) for place in range(count)]


def starts(size: int, tile: int, overlap: float) -> list[int]:
    """First voxel of each tile along one axis: as few as cover `size` at `overlap`, spread evenly (as nnU-Net does).
    None comes twice: single slices cannot overlap.

    Example:
        >>> starts(160, 96, 0.5)
        [0, 32, 64]
        >>> starts(4, 1, 0.5)
        [0, 1, 2, 3]
    """
    if size <= tile:
        return [0]
    count = min(math.ceil((size - tile) / (tile * (1 - overlap))), size - tile) + 1
    return _spread(size, tile, count)


@lru_cache(maxsize=8)
def weights(tile: Sizes, blend: str) -> Tensor:
    """Weight of each voxel of a tile in the average, (i, j, k): constant, or a Gaussian with sigma = side / 8."""
    if blend == "constant":
        return torch.ones(tile)
    axes = []
    for side in tile:
        offset = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
        axes.append(torch.exp(-0.5 * (offset / (side / 8)) ** 2))
    return (axes[0][:, None, None] * axes[1][None, :, None] * axes[2][None, None, :]).float()


def flips(mirror: Sequence[str], orientation: str) -> list[tuple[int, ...]]:
    """Tensor axes (of B, C, I, J, K) to flip for each test-time pass, the first being none."""
    axes = [2 + _voxel_axis(PATIENT_AXES[name], orientation) for name in mirror]
    return [combination for count in range(len(axes) + 1) for combination in itertools.combinations(axes, count)]


def _voxel_axis(world: int, orientation: str) -> int:
    return next(place for place, letter in enumerate(orientation) if letter in AXIS_CODES[world])


@dataclass(frozen=True, eq=False)
class Seen:
    """A network and the prepared image that it sees.

    Attributes:
        image: (C, i, j, k) float32.
        forward: tiles (B, C, ...) -> logits (B, N, ...) of the same sides, float32.
        each: the mirrored passes that it is the mean of, one by one.
    """

    image: Tensor
    forward: Callable[[Tensor], Tensor]
    each: Sequence[Callable[[Tensor], Tensor]] = ()


Disputed = Callable[[Sequence[Seen], Sequence[Sequence[int]], "Tiling"], Tensor]
"""Members, corners of tiles and their tiling -> (B, N + 1, ...): as `_mean`, and how far the members disagree."""


def _corners(size: int, side: int, overlap: float, part: slice) -> tuple[int, ...]:
    """First voxel of each tile along an axis of `size` voxels, of which `part` is to be covered."""
    wanted = part.stop - part.start
    count = len(starts(wanted, side, overlap))
    most = side + int((count - 1) * side * (1 - overlap))
    covered = min(size, max(wanted, most))
    start = min(max(0, part.start - (covered - wanted) // 2), size - covered)
    return tuple(start + at - max(0, side - covered) // 2 for at in _spread(max(covered, side), side, count))


@dataclass(frozen=True)
class Tiling:
    """Where tiles lie on a prepared image.

    Attributes:
        tile: side lengths.
        corners: first voxel of each tile, per axis; below 0 where the image is smaller than a tile, which is then
            filled up with zeros as evenly as possible: zero is what a normalised scan has at its mean, or outside the
            body, and what training patches are padded with.
        blend: see `weights`.
        context: slices along k that tiles have in addition on each side; 0 beyond the image, as in training.
        skipping: which tiles are left out; None: none.
    """

    tile: Sizes
    corners: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    blend: str = "gaussian"
    context: int = 0
    skipping: Skipping | None = None

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        tile: Sizes,
        *,
        overlap: float,
        blend: str = "gaussian",
        context: int = 0,
        box: Sequence[slice] | None = None,
    ) -> Tiling:
        """The tiles of an image (i, j, k); of a box of it: as few as that takes, and they see as much around it as so
        many can cover."""
        first, second, third = (
            _corners(size, side, overlap, part)
            for size, side, part in zip(shape, tile, box or (slice(0, size) for size in shape), strict=True)
        )
        return cls(tile, (first, second, third), blend, context)

    def touching(self, box: Sequence[slice], axis: int) -> list[list[tuple[int, ...]]]:
        """Corners of the tiles that touch a box and are not left out, those at one position along `axis` together, in
        order."""
        along = [
            [at for at in corners if at < part.stop and at + side > part.start]
            for corners, side, part in zip(self.corners, self.tile, box, strict=True)
        ]
        bands = []
        for at in along[axis]:
            places = [[at] if other == axis else along[other] for other in range(3)]
            bands.append([corner for corner in itertools.product(*places) if self._wanted(corner)])
        return [band for band in bands if band]

    def _wanted(self, corner: Sequence[int]) -> bool:
        if self.skipping is None:
            return True
        return self.skipping.wanted([slice(at, at + side) for at, side in zip(corner, self.tile, strict=True)])


def stream(
    members: Sequence[Seen],
    tiling: Tiling,
    box: tuple[slice, slice, slice],
    *,
    channels: int,
    axis: int = 0,
    halo: int = 0,
    batch: int = 1,
    kind: torch.dtype = torch.float32,
    home: torch.device | str = "cpu",
    on_tiles: Callable[[int], None] | None = None,
    disputed: Disputed | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Blended logits of a box of a prepared image, rows in order along `axis`.

    Args:
        members: their logits are averaged; their images have one shape.
        box: of the image.
        channels: of the networks' answers.
        halo: rows before the new ones that are handed out again, as far as there are any.
        batch: tiles a forward pass.
        kind: floating-point type of the running means.
        home: where they live.
        on_tiles: called with the number of tiles just done.
        disputed: gives a channel more, which is blended as the logits are; 0 where no tile answers. None: none.

    Yields:
        (first row, logits (N, n, n', n'')): `axis` first, then the other two in order; rows from the first to the last
        one that is final, over the whole box along the others. A view that is only good until the next is asked for.

    Raises:
        Refusal: an answer is not finite.
    """
    rows = tiling.tile[axis] + halo
    weight = weights(tiling.tile, tiling.blend).permute(stream_order(axis)).contiguous().to(home)
    background = torch.zeros(channels) if tiling.skipping is None else tiling.skipping.background
    if disputed:
        background = torch.cat((background, torch.zeros(1)))
    # before there are answers: when those are let go, they would leave a hole below it that nothing fits into
    window = _Window(background, box, axis, rows, kind, torch.device(home))
    for band in tiling.touching(box, axis):
        yield from window.before(band[0][axis], halo)
        for corners in _batches(band, batch):
            scores = disputed(members, corners, tiling) if disputed else _mean(members, corners, tiling)
            for place, corner in enumerate(corners):
                window.blend(corner, scores[place], weight)
            del scores  # before the next ones are made
            if on_tiles:
                on_tiles(len(corners))
    yield from window.before(box[axis].stop, halo)


def _batches(band: Sequence[tuple[int, ...]], most: int) -> Iterator[Sequence[tuple[int, ...]]]:
    """As large as can be, but of few sizes: `most`, and powers of 2 for what is left. Whatever compiles a network, or
    times its kernels, does so for each size anew."""
    start = 0
    while start < len(band):
        left = len(band) - start
        size = most if left >= most else 1 << (left.bit_length() - 1)
        yield band[start : start + size]
        start += size


class _Window:
    """Running weighted means of the rows that tiles of one position along the axis reach; the axis comes first. Until a
    tile answers for it, a voxel has the logits of `background`."""

    def __init__(
        self,
        background: Tensor,
        box: tuple[slice, slice, slice],
        axis: int,
        rows: int,
        kind: torch.dtype,
        home: torch.device,
    ):
        self._axes = stream_order(axis)
        self._box = [box[one] for one in self._axes]
        self.base = self._final = box[axis].start
        sizes = [part.stop - part.start for part in self._box]
        sizes[0] = min(rows, sizes[0])
        self._background = background.tolist()
        self._mean = background.to(home, kind).reshape(-1, 1, 1, 1).repeat(1, *sizes)
        self._norm = torch.zeros(sizes, device=home)

    def blend(self, corner: Sequence[int], score: Tensor, weight: Tensor) -> None:
        """Take a tile's logits (N, i, j, k) into the means, as far as it lies in the window. `weight` has the window's
        order of axes: products would stride through memory otherwise."""
        score = score.permute(0, *(1 + axis for axis in self._axes))
        theirs, ours = [], []
        for place, (axis, part) in enumerate(zip(self._axes, self._box, strict=True)):
            base = self.base if place == 0 else part.start
            start = max(corner[axis], base)
            stop = min(corner[axis] + weight.shape[place], base + self._norm.shape[place], part.stop)
            theirs.append(slice(start - corner[axis], stop - corner[axis]))
            ours.append(slice(start - base, stop - base))
        norm = self._norm[tuple(ours)]
        norm += weight[tuple(theirs)]
        share = weight[tuple(theirs)] / norm
        mean, score = self._mean[(slice(None), *ours)], score[(slice(None), *theirs)]
        # piece by piece: networks answer in half precision and with the channels innermost, and a copy of all of it in
        # the order and kind of the means would be the largest array there is
        most = PIECE.get(mean.device.type, PIECE["cpu"])
        step = max(1, most // max(1, math.prod(score.shape[2:]) * len(score)))
        for first in range(0, score.shape[1], step):
            rows = slice(first, first + step)
            piece = torch.empty(score[:, rows].shape, dtype=mean.dtype, device=mean.device).copy_(score[:, rows])
            mean[:, rows].lerp_(piece, share[rows].to(mean.dtype))

    def before(self, row: int, halo: int) -> Iterator[tuple[int, Tensor]]:
        """The first row and the means of the rows up to `row`, which are final; then all but `halo` of them are
        dropped. In several goes where no tile reaches so far."""
        while self._final < row:
            known, self._final = self._final, min(row, self.base + len(self._norm))
            _refuse_nonfinite(self._mean[:, known - self.base : self._final - self.base])
            yield self.base, self._mean[:, : self._final - self.base]
            self._move(self._final - halo)

    def _move(self, base: int) -> None:
        """Drop the rows before `base`."""
        step = base - self.base
        if step <= 0:
            return
        for rows, fresh in zip((self._norm, *self._mean), (0.0, *self._background), strict=True):
            for start in range(0, len(rows) - step, step):  # pieces that do not overlap with where they come from
                count = min(step, len(rows) - step - start)
                rows[start : start + count] = rows[start + step : start + step + count]
            rows[max(0, len(rows) - step) :] = fresh
        self.base = base


def _mean(members: Sequence[Seen], corners: Sequence[Sequence[int]], tiling: Tiling) -> Tensor:
    """Mean logits (B, N, ...) of tiles."""
    total: Tensor | None = None
    for member in members:
        scores = member.forward(cut_all(member.image, corners, tiling))
        if total is None:
            total = scores.float() if len(members) > 1 else scores
        else:
            for channel in range(scores.shape[1]):  # of all at once, half precision would be copied
                total[:, channel].add_(scores[:, channel])
        del scores  # before the next network answers
    assert total is not None  # there is always at least one member
    return total.div_(len(members)) if len(members) > 1 else total


def _refuse_nonfinite(logits: Tensor) -> None:
    """Of (N, ...). What is not finite in an answer is so in the means, and nobody has to wait for a GPU at each tile.
    Channel by channel, for a sum in another kind copies all that it adds up."""
    if not torch.isfinite(sum(channel.sum(dtype=torch.float32) for channel in logits)):
        raise Refusal(
            "network output",
            found="values that are not finite",
            needed="finite ones",
            remedy="predict with precision 32; if that does not help, the weights are of no use",
        )


def cut_all(image: Tensor, corners: Sequence[Sequence[int]], tiling: Tiling) -> Tensor:
    """Tiles (B, C, ...) of an image (C, i, j, k)."""
    return torch.stack([cut(image, corner, tiling) for corner in corners])


def cut(image: Tensor, corner: Sequence[int], tiling: Tiling) -> Tensor:
    """One tile (C, ...) of an image (C, i, j, k), with its context, zeros beyond the image."""
    first = (corner[0], corner[1], corner[2] - tiling.context)
    sides = (tiling.tile[0], tiling.tile[1], tiling.tile[2] + 2 * tiling.context)
    spans = list(zip(first, sides, image.shape[1:], strict=True))
    found = image[(slice(None), *(slice(max(at, 0), min(at + side, size)) for at, side, size in spans))]
    margins = [(max(0, -at), max(0, at + side - size)) for at, side, size in spans]
    if not any(map(any, margins)):
        return found
    return torch.nn.functional.pad(found, [width for pair in reversed(margins) for width in pair])


def answers(member: Seen, tiling: Tiling, *, batch: int = 1) -> Tensor:
    """Logits (N, 1, 1, k) of a classifier for each position of its tile along k; k = 1 where that is the whole image.

    Raises:
        Refusal: the image is larger than what the classifier sees at once.
    """
    sizes, tile = member.image.shape[1:], tiling.tile
    if any(size > side for size, side in zip(sizes, tile, strict=True) if side != 1):
        raise Refusal(
            "image",
            found=f"{' x '.join(map(str, sizes))} voxels",
            needed=f"at most {' x '.join(map(str, tile))}, which the classifier sees at once",
            remedy="train with prepare.size, to which every image is resampled",
        )
    corners = list(itertools.product(*tiling.corners))
    groups = [corners[first : first + batch] for first in range(0, len(corners), batch)]
    scores = torch.cat([_mean([member], group, tiling) for group in groups]).flatten(1).T.float()
    _refuse_nonfinite(scores)
    return scores[:, None, None, :].cpu()
