"""Closed surfaces of labels, as triangles in the patient's millimetres, for the outputs that write them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.labels import Label
from medseg.prediction import Prediction
from medseg.refusal import Refusal
from medseg.volume import Volume

SHRINK, GROW = 0.5, -0.53
"""Taubin's lambda and mu: a pass moves each corner towards its neighbours' mean and then, a little further, back, so
that steps go and the whole does not shrink (Taubin 1995)."""


@dataclass(frozen=True, eq=False)
class Surface:
    """The closed surface of one label.

    Attributes:
        corners: (n, 3) float64, RAS+ mm.
        triangles: (m, 3) numbers of corners, counter-clockwise seen from outside.
    """

    label: Label
    corners: np.ndarray
    triangles: np.ndarray

    @property
    def volume_mm3(self) -> float:
        """What it encloses (divergence theorem over the triangles)."""
        a, b, c = (self.corners[self.triangles[:, n]] for n in range(3))
        return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def refuse_flat(scan: Volume, path: Path) -> None:
    """Refuse a photograph, which has no third dimension; `path` is of the file that is to hold the surfaces."""
    if scan.unit != "mm":
        raise Refusal(
            path,
            found="a picture without a size in millimetres",
            needed="a scan, whose labels have a surface",
            remedy="choose the nifti or nrrd output",
        )


def surfaces(prediction: Prediction, path: Path, smooth: int) -> Iterator[Surface]:
    """The surface of each label that has voxels, in the table's order.

    Marching cubes at one half, on the label's mask with a border of nothing around it, so that a label that reaches the
    edge of the scan is closed there too. The surface lies half-way between the centres of voxels inside and outside.

    Args:
        path: of the file that is to hold them, for messages.
        smooth: passes of Taubin smoothing, which keeps the volume. None leaves the steps between voxels; 10 to 20 take
            them away, and move no corner by much more than half a voxel.

    Raises:
        Refusal: a photograph, which has no third dimension.
    """
    from skimage.measure import marching_cubes

    target = prediction.target
    refuse_flat(target, path)
    for position, box in prediction.table.boxes(target.array).items():
        mask = np.pad(prediction.table.mask(target.array[:, *box], position), 1)
        corners, triangles, _, _ = marching_cubes(mask.astype(np.float32), 0.5)
        corners = _smooth(corners.astype(np.float64), triangles, smooth)
        corners += np.array([side.start for side in box]) - 1
        placed = corners @ target.affine[:3, :3].T + target.affine[:3, 3]
        surface = Surface(prediction.table.labels[position], placed, triangles)
        if surface.volume_mm3 < 0:  # axes that mirror turn triangles inside out
            surface = Surface(surface.label, placed, triangles[:, ::-1])
        yield surface


def _smooth(corners: np.ndarray, triangles: np.ndarray, passes: int) -> np.ndarray:
    """Taubin's smoothing, every neighbour with the same weight; in voxels, whose steps it is to take away."""
    if not passes:
        return corners
    from scipy import sparse

    ends = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])  # each edge both ways
    ones = np.ones(len(ends), dtype=np.float64)
    neighbours = sparse.csr_array((ones, (ends[:, 0], ends[:, 1])), shape=(len(corners), len(corners)))
    mean = sparse.diags_array(1 / neighbours.sum(axis=1)) @ neighbours
    for _ in range(passes):
        for weight in (SHRINK, GROW):
            corners = corners + weight * (mean @ corners - corners)
    return corners
