"""Surfaces of masks, and the distances between two of them.

A surface is made of elements, in either of two ways:

* `voxels` (the default): the mask's voxels with at least one of the six face neighbours outside the mask. Each stands
  at its centre and counts once, as in MONAI.
* `elements`: of every 2 x 2 x 2 voxels that the surface passes through, the triangles of marching cubes. They stand at
  the middle of the eight, and count by their area, as in DeepMind's surface-distance; of a flat image, by their length.

What lies beyond the image counts as outside. Along an axis on which the image has one voxel (a photograph, a slice)
there are no neighbours, so a flat mask has an outline and not only surface. Distances are exact Euclidean ones, in
float64, by SciPy's k-d tree: it looks at elements alone, of which a mask has few, where a distance transform looks at
every voxel of the box around both.
Source: Lorensen and Cline 1987, "Marching cubes", SIGGRAPH; Nikolov et al. 2021, arXiv:1809.04430 (weights by area).
"""

from __future__ import annotations

import itertools
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from scipy.spatial import cKDTree

Kind = Literal["voxels", "elements"]
Flat = tuple[bool, ...]
"""For each axis, whether the whole image has one voxel along it."""


class Distances(NamedTuple):
    """From each element of one surface to the nearest of the other, ascending, in the unit of the spacing.

    Attributes:
        there: (n,) from the truth to the prediction; `back`: (m,) from the prediction to the truth.
        weights_there: (n,) how much each counts, and `weights_back`: (m,).
    """

    there: np.ndarray
    back: np.ndarray
    weights_there: np.ndarray
    weights_back: np.ndarray

    def mean(self) -> float:
        """Over the elements of both surfaces."""
        whole = self.weights_there.sum() + self.weights_back.sum()
        return float((self.there @ self.weights_there + self.back @ self.weights_back) / whole)

    def means(self) -> tuple[float, float]:
        """Of each direction."""
        pairs = (self.there, self.weights_there), (self.back, self.weights_back)
        there, back = (float(distances @ weights / weights.sum()) for distances, weights in pairs)
        return there, back

    def within(self, tolerance: float) -> float:
        """Share of both surfaces that lies within a tolerance of the other."""
        near = self.weights_there[self.there <= tolerance].sum() + self.weights_back[self.back <= tolerance].sum()
        return float(near / (self.weights_there.sum() + self.weights_back.sum()))


def distances(truth: np.ndarray, predicted: np.ndarray, spacing: np.ndarray, *, flat: Flat, kind: Kind) -> Distances:
    """Distances between the surfaces of two masks.

    Args:
        truth, predicted: boolean (I, J, K), both non-empty.
        spacing: voxel size along I, J, K.
        flat: axes without neighbours.
        kind: what a surface is made of.
    """
    ours, theirs = (_elements(mask, spacing, flat, kind) for mask in (truth, predicted))
    there, back = _nearest(ours, theirs, spacing), _nearest(theirs, ours, spacing)
    first, second = np.argsort(there, kind="stable"), np.argsort(back, kind="stable")
    return Distances(there[first], back[second], ours.weights[first], theirs.weights[second])


def reach(distances: np.ndarray, weights: np.ndarray, share: float) -> float:
    """The first of ascending distances within which a share of the weight lies."""
    shares = np.cumsum(weights) / weights.sum()
    return float(distances[min(int(np.searchsorted(shares, share)), len(distances) - 1)])


def surface(mask: np.ndarray, flat: Flat = (False, False, False)) -> np.ndarray:
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
    return np.greater(mask, interior, out=interior)


class _Elements(NamedTuple):
    """Where the elements of a surface lie on a grid, as flat positions in it, ascending, and how much each counts."""

    shape: tuple[int, ...]
    places: np.ndarray
    weights: np.ndarray

    def points(self, spacing: np.ndarray, some: np.ndarray) -> np.ndarray:
        """(n, 3) in the unit of the spacing."""
        return np.stack(np.unravel_index(self.places[some], self.shape), axis=1) * spacing


def _elements(mask: np.ndarray, spacing: np.ndarray, flat: Flat, kind: Kind) -> _Elements:
    if kind == "voxels" or all(flat):
        places = np.flatnonzero(surface(mask, flat))
        return _Elements(mask.shape, places, np.ones(len(places)))
    codes = _codes(mask, flat)
    sizes = _sizes(tuple(float(side) for side, one in zip(spacing, flat, strict=True) if not one))
    places = np.flatnonzero((codes != 0) & (codes != len(sizes) - 1))
    return _Elements(codes.shape, places, sizes[codes.ravel()[places]])


def _nearest(ours: _Elements, theirs: _Elements, spacing: np.ndarray) -> np.ndarray:
    """(n,) from each of ours to the nearest of theirs. Most elements of a good prediction are the truth's: only the
    others are looked for."""
    found = np.zeros(len(ours.places))
    apart = np.flatnonzero(~np.isin(ours.places, theirs.places, assume_unique=True))
    if len(apart):
        # without balancing and shrinking of nodes the tree is built several times as fast, and answers as fast
        tree = cKDTree(theirs.points(spacing, np.arange(len(theirs.places))), compact_nodes=False, balanced_tree=False)
        found[apart] = tree.query(ours.points(spacing, apart))[0]
    return found


def _codes(mask: np.ndarray, flat: Flat) -> np.ndarray:
    """(I + 1, J + 1, K + 1) uint8, one less along flat axes: which of the voxels around each corner of the grid are in
    the mask, a bit each."""
    axes = [axis for axis in range(3) if not flat[axis]]
    padded = np.pad(mask, [(0, 0) if one else (1, 1) for one in flat]).view(np.uint8)
    codes = np.zeros([side - (not one) for side, one in zip(padded.shape, flat, strict=True)], np.uint8)
    for bit, steps in enumerate(itertools.product((0, 1), repeat=len(axes))):
        part = [slice(None)] * 3
        for axis, step in zip(axes, steps, strict=True):
            part[axis] = slice(step, step + codes.shape[axis])
        codes |= padded[tuple(part)] << np.uint8(bit)
    return codes


def _sizes(spacing: tuple[float, ...]) -> np.ndarray:
    """For each code of `_codes`: the area (3-D) or the length (2-D) of the surface between the voxels, or how many
    borders there are (1-D)."""
    if len(spacing) == 1:
        return np.array([0.0, 1, 1, 0])
    if len(spacing) == 2:
        # bits stand for (0, 0), (0, 1), (1, 0), (1, 1); of two opposite ones each is cut off by itself
        first, second = spacing
        corner = float(np.hypot(first, second)) / 2
        short = {0b0011: second, 0b1100: second, 0b0101: first, 0b1010: first, 0b0110: 2 * corner, 0b1001: 2 * corner}
        return np.array([0.0, *(short.get(code, corner) for code in range(1, 15)), 0])
    across = np.array([spacing[1] * spacing[2], spacing[0] * spacing[2], spacing[0] * spacing[1]])
    return np.array([np.linalg.norm(triangles * across, axis=1).sum() for triangles in _triangles()])


@cache
def _triangles() -> tuple[np.ndarray, ...]:
    """(n, 3) for each of the 256 codes: vectors normal to the triangles of marching cubes, as long as their areas, for
    voxels of size 1. Where five or more of the eight voxels are in the mask, those of the others are taken: a surface
    and that of the mask's complement are the same."""
    from skimage.measure import marching_cubes

    found = [np.zeros((0, 3))]
    for code in range(1, 255):
        filled = np.array([code >> bit & 1 for bit in range(8)], np.float32).reshape(2, 2, 2)
        corners, faces, *_ = marching_cubes(filled if filled.sum() <= 4 else 1 - filled, 0.5, method="lorensen")
        first, second, third = np.moveaxis(corners[faces].astype(np.float64), 1, 0)
        found.append(np.cross(second - first, third - first) / 2)
    return (*found, np.zeros((0, 3)))
