"""A box in space as voxels of a scan."""

from __future__ import annotations

import itertools

import numpy as np

_TOUCHES = 1e-6
"""Of a voxel: what a box overlaps by less than this comes from rounding."""


def corners(object_to_world: np.ndarray, size: tuple[float, float, float]) -> np.ndarray:
    """The eight corners of a box, (8, 3), in mm of the world.

    Args:
        object_to_world: of the box, whose centre is its origin.
        size: along the box's own axes.
    """
    signs = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))
    return _moved(object_to_world, signs * np.asarray(size, float))


def around(points: np.ndarray, ijk_to_world: np.ndarray, shape: tuple[int, int, int]) -> tuple[tuple[int, int], ...]:
    """First voxel and the one after the last along i, j and k, of all voxels that the box around the points touches.

    Args:
        points: (n, 3) in mm of the world.
        ijk_to_world: of the scan; may be oblique and left-handed.
        shape: voxels of the scan along i, j and k.

    Raises:
        ValueError: the points lie beside the scan.
    """
    places = _moved(np.linalg.inv(ijk_to_world), points)
    first = np.floor(places.min(axis=0) + 0.5 + _TOUCHES).astype(int)  # voxel i reaches from i - 0.5 to i + 0.5
    after = np.ceil(places.max(axis=0) + 0.5 - _TOUCHES).astype(int)
    spans = tuple((max(0, int(a)), min(n, int(b))) for a, b, n in zip(first, after, shape))
    if any(a >= b for a, b in spans):
        raise ValueError("the box lies beside the scan")
    return spans


def text(spans: tuple[tuple[int, int], ...], shape: tuple[int, int, int]) -> str:
    """As `medseg predict --roi` takes it; empty where it is all of the scan."""
    if all(a == 0 and b == n for (a, b), n in zip(spans, shape)):
        return ""
    return ",".join(f"{a}:{b}" for a, b in spans)


def _moved(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]
