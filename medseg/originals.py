"""The original slices of a scan: where each lies in space, and a label map laid on them."""

from __future__ import annotations

import numpy as np

from medseg.volume import Volume

WHOLE = 1e-6
"""Coefficients nearer to zero than this do not move a voxel of any scan."""


def affines(volume: Volume) -> np.ndarray:
    """(n, 4, 4): (column, row, 0, 1) of each original slice -> RAS+ mm."""
    if volume.source.slices is not None:
        return volume.source.slices.affines
    planes = np.repeat(volume.affine[None], volume.shape[2], axis=0)
    planes[:, :3, 3] += np.arange(volume.shape[2])[:, None] * volume.affine[:3, 2]
    return planes


def lay(volume: Volume) -> np.ndarray:
    """(C, columns, rows, n): for every pixel of every original slice the voxel of a label map that is nearest to it in
    space, 0 outside of the map. A view of the map's own array where the slices are its K planes.

    A pixel is at most half a voxel's diagonal away from the voxel whose label it takes.
    """
    slices = volume.source.slices
    if slices is None:
        return volume.array
    laid = np.zeros((len(volume.array), *slices.size, len(slices.affines)), volume.array.dtype)
    to_voxel = np.linalg.inv(volume.affine)
    for n, plane in enumerate(slices.affines):
        laid[..., n] = _slice(volume.array, to_voxel @ plane, slices.size)
    return laid


def _slice(array: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(C, columns, rows) of one slice; `matrix` takes (column, row, 0, 1) to voxel indices of the array."""
    along = np.abs(matrix[:3, :2]) > WHOLE
    if along[0, 1] or along[1, 0] or along[2].any():
        return _turned_slice(array, matrix, size)
    k = int(np.rint(matrix[2, 3]))
    if not 0 <= k < array.shape[3]:
        return np.zeros((len(array), *size), array.dtype)
    columns, rows = (
        np.rint(matrix[axis, axis] * np.arange(size[axis]) + matrix[axis, 3]).astype(int) for axis in (0, 1)
    )
    inside = [(at >= 0) & (at < side) for at, side in zip((columns, rows), array.shape[1:3], strict=True)]
    picked = array[:, np.clip(columns, 0, array.shape[1] - 1)][:, :, np.clip(rows, 0, array.shape[2] - 1), k]
    return picked * (inside[0][:, None] & inside[1])


def _turned_slice(array: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The same for a slice whose axes are not those of the array."""
    columns, rows = np.meshgrid(np.arange(size[0]), np.arange(size[1]), indexing="ij")
    where = np.stack([columns, rows, np.zeros_like(columns), np.ones_like(columns)]).reshape(4, -1)
    index = np.rint(matrix[:3] @ where).astype(int)
    shape = np.array(array.shape[1:])[:, None]
    inside = ((index >= 0) & (index < shape)).all(axis=0)
    i, j, k = np.clip(index, 0, shape - 1)
    return (array[:, i, j, k] * inside).reshape(len(array), *size)
