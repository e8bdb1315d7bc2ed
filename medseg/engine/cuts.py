"""The ways to cut a box into blocks that streams go through one after another, and what each costs in tiles."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from medseg.engine.tiles import Tiling
from medseg.resample import reach
from medseg.transforms import native
from medseg.transforms.prepare import Slices, Undo

PARTS = 8
"""Most pieces along one axis; none is made shorter than half a tile, for nearly all tiles would be seen twice."""


@dataclass(frozen=True)
class Piece:
    """A stretch of the crop along one axis.

    Attributes:
        span: native rows.
        reads: number of prepared rows that they are made of.
        tiles: positions of tiles that touch those.
    """

    span: slice
    reads: int
    tiles: int


@dataclass(frozen=True)
class Cut:
    """Boxes cut across one axis of the stream.

    Attributes:
        axis: of the stream.
        pieces: for each box, the pieces along i, j and k; a single one along `axis`.
        halo: see `native.Landing`.
    """

    axis: int
    pieces: tuple[tuple[tuple[Piece, ...], tuple[Piece, ...], tuple[Piece, ...]], ...]
    halo: int

    @property
    def blocks(self) -> tuple[Slices, ...]:
        found = []
        for along in self.pieces:
            found += [(one.span, other.span, last.span) for one, other, last in itertools.product(*along)]
        return tuple(found)

    @property
    def tiles(self) -> int:
        """That networks see; those that lie in two blocks are seen twice."""
        total = 0
        for along in self.pieces:
            first, second, third = (sum(piece.tiles for piece in pieces) for pieces in along)
            total += first * second * third
        return total

    def window(self, tile: Sequence[int]) -> int:
        """Voxels of the running means of the largest block."""
        most = 0
        for along in self.pieces:
            sides = [max(piece.reads for piece in pieces) for pieces in along]
            sides[self.axis] = min(tile[self.axis] + self.halo, sides[self.axis])
            most = max(most, sides[0] * sides[1] * sides[2])
        return most

    def strip(self, home: str, *, all_channels: bool) -> int:
        """Native voxels that become labels at once in the largest block, see `native.Landing.take`.

        Args:
            home: device that holds the scores.
            all_channels: whether probabilities are kept too.
        """
        voxels, strip = native.portion(home, all_channels=all_channels)
        most = 0
        for along in self.pieces:
            sides = [max(piece.span.stop - piece.span.start for piece in pieces) for pieces in along]
            rows, across, last = (sides[axis] for axis in native.stream_order(self.axis))
            rows = min(rows, max(1, voxels // (across * last)))
            most = max(most, rows * min(across, strip) * last)
        return most


def cuts(undo: Undo, tiling: Tiling, boxes: Sequence[Slices], order: int) -> Iterator[Cut]:
    """Every way to cut boxes of the crop into equal parts along the axes that the stream does not take."""
    reaches = [reach(old, new, order) for old, new in zip(undo.prepared, undo.cropped, strict=True)]

    def pieces(box: Slices, axis: int, parts: int) -> tuple[Piece, ...]:
        low, high = reaches[axis]
        start, size = box[axis].start, box[axis].stop - box[axis].start
        edges = sorted({start + size * part // parts for part in range(parts + 1)})
        found = []
        for first, stop in itertools.pairwise(edges):
            held = slice(int(low[first]), int(high[stop - 1]) + 1)
            side = tiling.tile[axis]
            touching = sum(at < held.stop and at + side > held.start for at in tiling.corners[axis])
            found.append(Piece(slice(first, stop), held.stop - held.start, touching))
        return tuple(found)

    def most(axis: int) -> int:
        low, high = reaches[axis]
        longest = max((int(high[box[axis].stop - 1] - low[box[axis].start]) + 1 for box in boxes), default=1)
        return max(1, min(PARTS, 2 * longest // tiling.tile[axis]))

    counts = [range(1, most(axis) + 1) for axis in range(3)]
    ready = {(axis, parts): [pieces(box, axis, parts) for box in boxes] for axis in range(3) for parts in counts[axis]}
    for axis in range(3):
        low, high = reaches[axis]
        halo = int((high - low).max()) + 1
        for parts in itertools.product(*(range(1, 2) if other == axis else counts[other] for other in range(3))):
            first, second, third = (ready[other, count] for other, count in enumerate(parts))
            yield Cut(axis, tuple(zip(first, second, third, strict=True)), halo)
