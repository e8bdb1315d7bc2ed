"""Distances between the surfaces of two masks, for the metrics in millimetres.

Definition: a mask's surface is its set of voxels with at least one of the six face neighbours outside the mask; what
lies beyond the image counts as outside. Distances run from voxel centre to voxel centre. Along an axis on which the
image has one voxel (a photograph, a slice) there are no neighbours, so a flat mask has an outline and not only surface.
"""

from __future__ import annotations

import edt
import numpy as np


def distances_mm(truth: np.ndarray, predicted: np.ndarray, spacing_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each surface voxel of one mask the distance to the nearest of the other: (truth to predicted, predicted to
    truth), 1-D arrays in millimetres.

    Args:
        truth, predicted: boolean (I, J, K), both non-empty.
        spacing_mm: voxel size along I, J, K.
    """
    flat = tuple(size == 1 for size in truth.shape)
    box = _bounding_box(truth | predicted)
    ours, theirs = surface(truth[box], flat), surface(predicted[box], flat)
    return _distance_to(theirs, spacing_mm)[ours], _distance_to(ours, spacing_mm)[theirs]


def surface(mask: np.ndarray, flat: tuple[bool, ...] = (False, False, False)) -> np.ndarray:
    """Boolean (I, J, K) of the surface voxels; `flat` axes have no neighbours."""
    interior = mask.copy() if not all(flat) else np.zeros_like(mask)
    for axis in range(3):
        if flat[axis]:
            continue
        lower = (slice(None),) * axis + (slice(None, -1),)
        upper = (slice(None),) * axis + (slice(1, None),)
        interior[upper] &= mask[lower]
        interior[lower] &= mask[upper]
        interior[(slice(None),) * axis + ([0, -1],)] = False
    return mask & ~interior


def _distance_to(points: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """Distance in millimetres of every voxel to the nearest of `points`, which are at least one."""
    return edt.edt(~points, anisotropy=tuple(float(size) for size in spacing_mm), black_border=False)


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Smallest box that holds a non-empty mask."""
    box = []
    for axis in range(3):
        occupied = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    return tuple(box)
