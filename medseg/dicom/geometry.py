"""Measuring how the slices of a stack lie in space. Nothing is judged here; that is `preflight`'s part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.geometry import LPS_FROM_RAS

if TYPE_CHECKING:  # importing it would import pydicom
    from medseg.dicom.frames import Frame

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
        off_plane_mm: the part of that which slices turned, or scaled, against the first one cause: shifting them
            cannot mend it.
        off_step_mm: the part along the normal (uneven steps).
        off_side_mm: largest sideways distance of a slice from the line from the first slice to the last.
        off_line_mm: largest distance of a slice's position from the straight line that fits all positions best.
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
    off_plane_mm: float
    off_step_mm: float
    off_side_mm: float
    off_line_mm: float
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
    """Measure the planes of one stack.

    A single slice takes its extent along the normal from its thickness; where there is none the affine is singular.
    """
    rows, columns = directions(frames)
    positions = np.array([frame.position for frame in frames])
    spacing = np.array([frame.spacing_mm for frame in frames])
    common = commonest(rows, columns)
    normal = np.cross(rows[common], columns[common])

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
    whole = along * (len(frames) - 1)
    drift = whole - (whole @ normal) * normal
    angles = np.maximum(degrees(rows, rows[common]), degrees(columns, columns[common]))
    shift = positions[order] - (positions[first] + np.arange(len(frames))[:, None] * along)
    plane = _plane_shifts(rows[order], columns[order], spacing[order], [frames[index].size for index in order])
    beside = positions[order] - positions[first]
    risen = beside @ normal
    beside = beside - risen[:, None] * normal - (risen / (risen[-1] or 1.0))[:, None] * drift
    return Geometry(
        order=tuple(int(index) for index in order),
        affine=LPS_FROM_RAS @ lps,
        off_grid_mm=_longest(plane + shift[:, None]),
        off_plane_mm=_longest(plane),
        off_step_mm=float(np.abs(shift @ normal).max()),
        off_side_mm=_longest(beside),
        off_line_mm=_off_line(positions),
        steps_mm=tuple(float(step) for step in steps),
        typical_mm=typical,
        repeated=int((steps <= SAME_PLACE_MM).sum()),
        missing=_missing(steps, typical),
        tilt_degrees=float(np.degrees(np.arctan2(_longest(drift), abs(whole @ normal)))) if len(frames) > 1 else 0.0,
        drift_mm=_longest(drift),
        turned_degrees=float(angles.max()),
        odd=tuple(int(index) for index in np.flatnonzero(angles > 1)),
        spacing_range_mm=(float(spacing.min()), float(spacing.max())),
        sizes=tuple(sorted({frame.size for frame in frames})),
        skewed=_skewed(frames),
    )


def directions(frames: Sequence[Frame]) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3) row and (n, 3) column directions of length 1: headers round them, and a corner pixel 250 mm away would
    move. Zero stays zero."""
    return _unit(np.array([frame.row for frame in frames])), _unit(np.array([frame.column for frame in frames]))


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def commonest(rows: np.ndarray, columns: np.ndarray) -> int:
    """Index of a frame whose orientation most frames share (to two digits), so that one localiser among many slices
    does not decide what the normal is."""
    orientations = np.concatenate([rows, columns], axis=1)
    _, first, counts = np.unique(orientations.round(2) + 0.0, axis=0, return_index=True, return_counts=True)
    return int(first[counts.argmax()])


def degrees(vectors: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(n,) angles between (n, 3) vectors and one."""
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


def _plane_shifts(
    rows: np.ndarray, columns: np.ndarray, spacing: np.ndarray, sizes: Sequence[tuple[int, int]]
) -> np.ndarray:
    """(n, 4, 3): how far turning and scaling move the four corner pixels of each slice against those of the first
    one's plane, were its own position the same."""
    height, width = (np.array(sizes, dtype=float) - 1).T
    across, down = rows * spacing[:, 1:], columns * spacing[:, :1]
    across, down = (across - across[0]) * width[:, None], (down - down[0]) * height[:, None]
    return np.stack([np.zeros_like(across), across, down, across + down], axis=1)


def _longest(vectors: np.ndarray) -> float:
    return float(np.linalg.norm(vectors, axis=-1).max())


def _off_line(positions: np.ndarray) -> float:
    """Largest distance from the line through the mean along the direction of greatest spread (total least squares)."""
    centred = positions - positions.mean(axis=0)
    direction = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    return _longest(centred - (centred @ direction)[:, None] * direction)


def _skewed(frames: Sequence[Frame]) -> float:
    rows, columns = np.array([frame.row for frame in frames]), np.array([frame.column for frame in frames])
    lengths = np.linalg.norm(np.concatenate([rows, columns]), axis=1)
    return float(max(np.abs((rows * columns).sum(axis=1)).max(), np.abs(lengths - 1).max()))
