"""Pure affine arithmetic: orientation, axis permutations and flips, distance between two grids."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

AXIS_CODES = (("L", "R"), ("P", "A"), ("I", "S"))
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""RAS+ and LPS+ differ by the sign of the first two world axes; the matrix is its own inverse."""


@dataclass(frozen=True)
class AxisMap:
    """An exact change of voxel axes: first permute, then flip. `permutation[new] = old`; `flips[new]`."""

    permutation: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def apply(self, array: np.ndarray) -> np.ndarray:
        """View of (C, I, J, K) with the new axes."""
        moved = array.transpose(0, *(1 + axis for axis in self.permutation))
        return moved[(slice(None), *(slice(None, None, -1 if flip else 1) for flip in self.flips))]

    def undo(self, array: np.ndarray) -> np.ndarray:
        """View of an array in the new axes, with the old ones again."""
        flipped = array[(slice(None), *(slice(None, None, -1 if flip else 1) for flip in self.flips))]
        return flipped.transpose(0, *(1 + self.permutation.index(axis) for axis in range(3)))

    def affine(self, affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """Affine of `apply`'s result, given that of its input and the input's (I, J, K)."""
        old_from_new = np.zeros((4, 4))
        old_from_new[3, 3] = 1
        for new, (old, flip) in enumerate(zip(self.permutation, self.flips, strict=True)):
            old_from_new[old, new] = -1 if flip else 1
            old_from_new[old, 3] = shape[old] - 1 if flip else 0
        return affine @ old_from_new


def world_axes(affine: np.ndarray) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """For each voxel axis, the world axis (0 = R, 1 = A, 2 = S) it runs along most, each used once, and whether
    it runs against it. The assignment maximises the sum of absolute direction cosines."""
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    first, second, third = max(permutations(range(3)), key=lambda axes: np.abs(cosines[axes, range(3)]).sum())
    minus = cosines[[first, second, third], range(3)] < 0
    return (first, second, third), (bool(minus[0]), bool(minus[1]), bool(minus[2]))


def orientation(affine: np.ndarray) -> str:
    """Three letters naming where each voxel axis points, as in nibabel: "RAS", "LPS", ..."""
    axes, negative = world_axes(affine)
    return "".join(AXIS_CODES[axis][0 if minus else 1] for axis, minus in zip(axes, negative, strict=True))


def axis_map(affine: np.ndarray, wanted: str) -> AxisMap:
    """The exact axis change that brings a grid to orientation `wanted` (three letters such as "RAS").

    Raises:
        ValueError: `wanted` does not name each of L/R, P/A and I/S once.
    """
    axes, negative = world_axes(affine)
    permutation, flips = [], []
    for letter in wanted:
        world = next((axis for axis, codes in enumerate(AXIS_CODES) if letter in codes), None)
        if world is None:
            raise ValueError(f"orientation {wanted!r}: each letter must be one of L R P A I S")
        old = axes.index(world)
        permutation.append(old)
        flips.append(negative[old] != (letter == AXIS_CODES[world][0]))
    if sorted(permutation) != [0, 1, 2]:
        raise ValueError(f"orientation {wanted!r}: each of L/R, P/A and I/S must be named once")
    return AxisMap(tuple(permutation), tuple(flips))  # type: ignore[arg-type]


def grid_distance_mm(a: np.ndarray, b: np.ndarray, shape: tuple[int, int, int]) -> float:
    """Largest distance, over the eight corner voxels of `shape`, between where two affines put them."""
    corners = np.array(np.meshgrid(*((0, size - 1) for size in shape), [1], indexing="ij")).reshape(4, -1)
    return float(np.linalg.norm(((a - b) @ corners)[:3], axis=0).max())


def same_grid(
    a: np.ndarray, a_shape: tuple[int, int, int], b: np.ndarray, b_shape: tuple[int, int, int], *, tolerance_mm: float
) -> bool:
    """Whether two grids have the same shape and put every voxel in the same place, to within `tolerance_mm`."""
    return a_shape == b_shape and grid_distance_mm(a, b, a_shape) <= tolerance_mm
