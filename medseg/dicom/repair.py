"""An even, straight grid for slices that lie unevenly, sideways of one another or with gaps between them.

One operation mends them all. The grid's axes are row, column and normal of the slices and its pixels are as large as
theirs, so that a slice only has to be shifted within its plane and blended with its neighbour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from medseg.dicom.frames import Frame
from medseg.dicom.geometry import SAME_PLACE_MM
from medseg.geometry import LPS_FROM_RAS, grid_distance_mm
from medseg.volume import Slices

KINDS = {
    "straighten": "slices that lean or were shifted sideways are shifted back within their planes",
    "fill": "missing slices are interpolated between their neighbours",
    "regrid": "unevenly spaced slices are interpolated onto evenly spaced planes",
    "drop": "images that belong to no volume are left out",
    "split": "slices are separated into the volumes that they belong to",
}
"""What can be done about a finding. The first three make a new grid; nothing else changes a voxel."""
GRIDS = ("straighten", "fill", "regrid")

ON_GRID = 1e-3
"""Parts of a pixel, or of a step between planes, below which a slice lies on the grid and its pixels are copied: 0.005
mm at the coarsest spacings in use, while positions are often written with three decimals."""
FINEST_SHARE = 0.25
"""The grid is as fine as the finest quarter of the steps: the median would drop slices where a scan turns coarser
half-way, and the smallest step would follow a single slice that was taken out of turn."""
ALIKE = 1.25
"""Steps that differ by less than this factor are one, written with few decimals or held unsteadily: their mean counts.
0.625 mm with one decimal is 0.6 or 0.7; planes 0.6 mm apart would blend nearly every slice with the next."""
GROWTH = 8
"""No repair makes more than so many voxels of one; headers that ask for more are wrong."""
CT_AIR = -1024
"""HU of what was never scanned, unless the scan itself goes lower (scanners mark the corners outside their circle)."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the planes of the repaired volume lie, and how each original slice lies on it.

    Attributes:
        affine: (4, 4), (column, row, plane) index -> RAS+ mm.
        shape: (planes, rows, columns).
        size: (rows, columns) of an original slice.
        shifts: (n, 2), rows and columns that original slice n lies from the grid's first pixel; whole numbers where
            it lies on the grid.
        heights: (n,), ascending, in steps of the grid from its first plane; whole numbers likewise.
        slices: where each original slice lies, for the way back.
        residual_mm: how far shifts and heights put the worst corner pixel from where its slice's own header puts it.
    """

    affine: np.ndarray
    shape: tuple[int, int, int]
    size: tuple[int, int]
    shifts: np.ndarray
    heights: np.ndarray
    slices: Slices
    residual_mm: float

    @property
    def step_mm(self) -> float:
        """Between planes."""
        return float(np.linalg.norm(self.affine[:3, 2]))

    @property
    def growth(self) -> float:
        """Voxels of the grid for each one that was scanned."""
        return math.prod(self.shape) / (len(self.heights) * math.prod(self.size))


def plan(frames: Sequence[Frame]) -> Grid:
    """The grid for parallel slices of one size and pixel spacing.

    The first and the last slice lie on planes; so do all others where slices are merely missing or leaning. The grid
    has room for every pixel of every slice.

    Args:
        frames: at least two, at different heights, by position along the normal (`Geometry.order`).
    """
    first = frames[0]
    row, column = (np.array(axis) / np.linalg.norm(axis) for axis in (first.row, first.column))
    normal = np.cross(row, column)
    axes = np.stack([column, row, normal / np.linalg.norm(normal)])
    places = (np.array([frame.position for frame in frames]) - first.position) @ np.linalg.inv(axes)
    step = _step(places[:, 2])
    unit = np.array([*first.spacing_mm, step])

    index = places / unit
    whole = np.rint(index)
    index = np.where(np.abs(index - whole) <= ON_GRID, whole, index)
    low, high = np.floor(index[:, :2].min(axis=0)), np.ceil(index[:, :2].max(axis=0))
    rows, columns = (high - low).astype(int) + first.size

    lps = np.eye(4)
    lps[:3, :3] = (axes[[1, 0, 2]] * unit[[1, 0, 2], None]).T
    stated = np.repeat(lps[None], len(frames), axis=0)
    laid = stated.copy()
    stated[:, :3, 3] = [frame.position for frame in frames]
    laid[:, :3, 3] = first.position + (index * unit) @ axes
    lps[:3, 3] = first.position + (low * unit[:2]) @ axes[:2]
    return Grid(
        affine=LPS_FROM_RAS @ lps,
        shape=(round(index[-1, 2]) + 1, int(rows), int(columns)),
        size=first.size,
        shifts=index[:, :2] - low,
        heights=index[:, 2],
        slices=Slices(LPS_FROM_RAS @ stated, (first.size[1], first.size[0])),
        residual_mm=distance_mm(LPS_FROM_RAS @ laid, planes(frames), first.size),
    )


def _step(heights: np.ndarray) -> float:
    """The finest step that is common, changed so that a whole number of them reaches from the first slice to the last:
    where slices are merely missing this is the mean of what the header's rounding made of one step."""
    steps = np.diff(heights)
    finest = float(np.quantile(steps[steps > SAME_PLACE_MM], FINEST_SHARE, method="lower"))
    common = float(steps[(steps > finest / ALIKE) & (steps < finest * ALIKE)].mean())
    return float(heights[-1] - heights[0]) / max(round((heights[-1] - heights[0]) / common), 1)


def planes(frames: Sequence[Frame]) -> np.ndarray:
    """(n, 4, 4), (column, row, 0, 1) -> RAS+ mm, from each frame's own header. Directions are rounded there and taken
    as of length 1."""
    lps = np.repeat(np.eye(4)[None], len(frames), axis=0)
    for plane, frame in zip(lps, frames, strict=True):
        row, column = (np.array(axis) / np.linalg.norm(axis) for axis in (frame.row, frame.column))
        plane[:3, 0], plane[:3, 1] = row * frame.spacing_mm[1], column * frame.spacing_mm[0]
        plane[:3, 2], plane[:3, 3] = np.cross(row, column), frame.position
    return LPS_FROM_RAS @ lps


def distance_mm(one: np.ndarray, other: np.ndarray, size: tuple[int, int]) -> float:
    """Largest distance between the corner pixels of slices of one (rows, columns), given as `planes`."""
    return max(grid_distance_mm(*pair, (size[1], size[0], 1)) for pair in zip(one, other, strict=True))


def padding(stack: np.ndarray, modality: str) -> float:
    """The value for voxels that no slice covers: the smallest one of the scan, and for CT at most that of air, if the
    array's kind can hold it."""
    lowest = float(stack.min())
    least = np.iinfo(stack.dtype).min if stack.dtype.kind in "iu" else -np.inf
    return max(min(lowest, CT_AIR), least) if modality == "CT" else lowest


def resample(stack: np.ndarray, grid: Grid, fill: float) -> np.ndarray:
    """The slices on the grid.

    A plane is the linear interpolation between the two slices beside it, each shifted to where it lies. Where only one
    of them has a pixel it counts if it is at most half a step away; a pixel reaches half its size beyond its centre.
    So every voxel is interpolated, or copied from at most half a voxel away, or `fill`. A slice that lies on the grid
    comes back bit for bit.

    Args:
        stack: (n, rows, columns), in the order of the frames that the grid was planned for.
        fill: see `padding`.

    Returns:
        (planes, rows, columns) of the same kind; whole numbers are rounded.
    """
    made = np.full(grid.shape, fill, dtype=stack.dtype)

    @lru_cache(maxsize=2)
    def shifted(n: int) -> _Part:
        return _Part.of(stack[n], grid.shifts[n])

    for k, plane in enumerate(made):
        above = int(np.searchsorted(grid.heights, k))
        over = grid.heights[above] - k
        if not over:
            shifted(above).lay_on(plane)
            continue
        under = k - grid.heights[above - 1]
        pair = [(under, shifted(above - 1)), (over, shifted(above))]
        for distance, part in sorted(pair, key=lambda one: -one[0]):
            if distance <= 0.5 + ON_GRID:
                part.lay_on(plane)
        pair[0][1].between(pair[1][1], under / (under + over)).lay_on(plane)
    return made


@dataclass(frozen=True, eq=False)
class _Part:
    """A slice on the pixels of the grid: values, and the row and column of their first one."""

    values: np.ndarray
    start: tuple[int, int]

    @classmethod
    def of(cls, pixels: np.ndarray, shift: np.ndarray) -> _Part:
        """Interpolated linearly along rows and columns, if it does not lie on whole pixels."""
        start = []
        for axis, at in enumerate(shift):
            whole = math.floor(at)
            first, pixels = _delayed(pixels, at - whole, axis)
            start.append(whole + first)
        return cls(pixels, (start[0], start[1]))

    def between(self, other: _Part, weight: float) -> _Part:
        """Where both have pixels: `weight` parts of the other one, the rest of this one."""
        start = (max(self.start[0], other.start[0]), max(self.start[1], other.start[1]))
        one, two = self._from(start), other._from(start)
        rows, columns = np.minimum(one.shape, two.shape)
        one, two = one[:rows, :columns].astype(_exact(one)), two[:rows, :columns]
        return _Part(one + (two - one) * one.dtype.type(weight), start)

    def _from(self, start: tuple[int, int]) -> np.ndarray:
        return self.values[start[0] - self.start[0] :, start[1] - self.start[1] :]

    def lay_on(self, plane: np.ndarray) -> None:
        """Copy the values into a plane of the grid."""
        rows, columns = (slice(at, at + side) for at, side in zip(self.start, self.values.shape, strict=True))
        rounded = plane.dtype.kind in "iu" and self.values.dtype.kind == "f"
        plane[rows, columns] = np.rint(self.values) if rounded else self.values


def _delayed(pixels: np.ndarray, part: float, axis: int) -> tuple[int, np.ndarray]:
    """Pixels moved along an axis by a part of their size, and the number of the first that they still reach."""
    if not part:
        return 0, pixels
    side = pixels.shape[axis]
    reached = np.arange(int(part > 0.5 + ON_GRID), side + int(part >= 0.5 - ON_GRID))
    before, after = (pixels.take(np.clip(reached - back, 0, side - 1), axis) for back in (1, 0))
    after = after.astype(_exact(pixels))
    return int(reached[0]), after + (before - after) * after.dtype.type(part)


def _exact(pixels: np.ndarray) -> np.dtype:
    """The floating kind that holds every value: double precision for 32-bit whole numbers."""
    return np.result_type(pixels.dtype, np.float32)
