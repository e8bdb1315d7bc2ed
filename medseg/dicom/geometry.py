"""Measuring how the slices of a series lie in space. Nothing is judged here; that is `policy`'s part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medseg.dicom.headers import Frame
from medseg.geometry import LPS_FROM_RAS

SAME_PLACE_MM = 0.01
"""Slices closer than this along the normal lie at the same place."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """Facts about the planes of a series; lengths in mm, angles in degrees.

    The grid meant here runs evenly from the first slice to the last: slice n stands at
    `first + n * (last - first) / (count - 1)`, with the pixel spacing and orientation of the first.

    Attributes:
        order: frame numbers sorted by position along the normal (row x column).
        affine: (4, 4), (column, row, slice) index -> RAS+ mm, of that grid.
        off_grid_mm: how far the grid puts the worst corner pixel from where that slice's own header puts it.
        steps_mm: distances along the normal between neighbours, in that order.
        typical_mm: median of the steps that are not 0.
        repeated: frames that lie where another one lies already.
        missing: (n, m) where m slices are missing after the n-th, if every step is a whole multiple of the typical one.
        tilt_degrees: between the direction of the stack and the normal of its slices (gantry tilt).
        drift_mm: sideways shift of the last slice against the first.
        turned_degrees: largest angle between a slice and the first one.
        odd: frames, by number in the input, that are turned more than a degree against most others.
        spacing_range_mm: smallest and largest pixel spacing.
        sizes: the different (rows, columns).
        skewed: largest |row . column|, and largest difference of a direction's length from 1.
    """

    order: tuple[int, ...]
    affine: np.ndarray
    off_grid_mm: float
    steps_mm: tuple[float, ...]
    typical_mm: float
    repeated: int
    missing: tuple[tuple[int, int], ...]
    tilt_degrees: float
    drift_mm: float
    turned_degrees: float
    odd: tuple[int, ...]
    spacing_range_mm: tuple[float, float]
    sizes: tuple[tuple[int, int], ...]
    skewed: float


def measure(frames: Sequence[Frame]) -> Geometry:
    """Measure the planes of one series.

    A single slice takes its extent along the normal from its thickness; where there is none the affine is singular.
    """
    rows, columns = (_unit(np.array([getattr(frame, name) for frame in frames])) for name in ("row", "column"))
    normals = np.cross(rows, columns)
    positions = np.array([frame.position for frame in frames])
    spacing = np.array([frame.spacing_mm for frame in frames])
    common = _commonest(np.concatenate([rows, columns], axis=1))
    normal = normals[common]

    height = positions @ normal
    order = np.argsort(height, kind="stable")
    first, last = order[0], order[-1]
    steps = np.diff(height[order])
    apart = steps[steps > SAME_PLACE_MM]
    typical = float(np.median(apart)) if apart.size else 0.0
    along = (positions[last] - positions[first]) / max(len(frames) - 1, 1)
    if len(frames) == 1:
        along = normal * (frames[0].thickness_mm or 0.0)

    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1] = rows[first] * spacing[first, 1], columns[first] * spacing[first, 0]
    lps[:3, 2], lps[:3, 3] = along, positions[first]
    sideways = along * (len(frames) - 1)
    drift = float(np.linalg.norm(sideways - (sideways @ normal) * normal))
    angles = np.maximum(_degrees(rows, rows[common]), _degrees(columns, columns[common]))
    return Geometry(
        order=tuple(int(index) for index in order),
        affine=LPS_FROM_RAS @ lps,
        off_grid_mm=_off_grid(lps, order, positions, rows, columns, spacing, frames),
        steps_mm=tuple(float(step) for step in steps),
        typical_mm=typical,
        repeated=int((steps <= SAME_PLACE_MM).sum()),
        missing=_missing(steps, typical),
        tilt_degrees=float(np.degrees(np.arctan2(drift, abs(sideways @ normal)))) if len(frames) > 1 else 0.0,
        drift_mm=drift,
        turned_degrees=float(angles.max()),
        odd=tuple(int(index) for index in np.flatnonzero(angles > 1)),
        spacing_range_mm=(float(spacing.min()), float(spacing.max())),
        sizes=tuple(sorted({frame.size for frame in frames})),
        skewed=_skewed(frames),
    )


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Directions of length 1; headers round them, and a corner pixel 250 mm away would move. Zero stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def _commonest(orientations: np.ndarray) -> int:
    """Index of a frame whose orientation most frames share (to two digits), so that one localiser among many slices
    does not decide what the normal is."""
    _, first, counts = np.unique(orientations.round(2) + 0.0, axis=0, return_index=True, return_counts=True)
    return int(first[counts.argmax()])


def _degrees(vectors: np.ndarray, reference: np.ndarray) -> np.ndarray:
    sine = np.linalg.norm(np.cross(vectors, reference), axis=1)  # arcsine-like: exact for small angles, unlike arccos
    return np.degrees(np.arctan2(sine, vectors @ reference))


def _missing(steps: np.ndarray, typical: float) -> tuple[tuple[int, int], ...]:
    """Gaps of whole slices; empty when any step is no whole multiple, because the spacing then varies."""
    if not typical or (steps <= SAME_PLACE_MM).any():
        return ()
    multiples = np.rint(steps / typical)
    if (multiples < 1).any() or (np.abs(steps - multiples * typical) > 0.02 * typical).any():
        return ()
    return tuple((int(index) + 1, int(multiples[index]) - 1) for index in np.flatnonzero(multiples > 1))


def _off_grid(
    lps: np.ndarray,
    order: np.ndarray,
    positions: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    spacing: np.ndarray,
    frames: Sequence[Frame],
) -> float:
    """Largest distance, over the four corner pixels of every frame, between the grid and the frame's own plane."""
    worst = 0.0
    for k, index in enumerate(order):
        height, width = frames[index].size
        for i, j in ((0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)):
            own = positions[index] + rows[index] * i * spacing[index, 1] + columns[index] * j * spacing[index, 0]
            grid = (lps @ [i, j, k, 1])[:3]
            worst = max(worst, float(np.linalg.norm(own - grid)))
    return worst


def _skewed(frames: Sequence[Frame]) -> float:
    rows, columns = np.array([frame.row for frame in frames]), np.array([frame.column for frame in frames])
    lengths = np.linalg.norm(np.concatenate([rows, columns]), axis=1)
    return float(max(np.abs((rows * columns).sum(axis=1)).max(), np.abs(lengths - 1).max()))
