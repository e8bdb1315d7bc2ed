"""What augmentation does to places: image and target are read at the same old voxel coordinates.

Reading several voxels for every new one and adding them up by axis takes half the time that `grid_sample` needs on a
CPU, where it goes voxel by voxel in three dimensions. The same code runs on every device. Coordinates are made from
numbers alone, without a transfer that a GPU would have to wait for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medseg import resample
from medseg.plan import Sizes

if TYPE_CHECKING:
    from medseg.transforms.augment import Draw, Matrix

ELASTIC_CELLS = 6
"""Control points along each axis of the elastic field."""
AT_ONCE = 2**17
"""New voxels that a CPU works on at a time, so that what it needs for them stays in its cache."""
IDENTITY: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def warp(draw: Draw, image: Tensor, target: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Rotate, zoom, slant and bend; what lies beyond the patch repeats its border.

    Args:
        draw: its matrix and elastic field; flips are left to the caller.
        image: (C, i, j, k) floating point, interpolated linearly.
        target: (R, i, j, k) whole numbers, of which the nearest is taken; None: there is none in step with the image.
    """
    matrix = draw.matrix or IDENTITY
    if draw.elastic is None and _is_diagonal(matrix):
        return _zoom(matrix, image, target)
    shape: Sizes = (image.shape[1], image.shape[2], image.shape[3])
    moved = torch.empty_like(image, memory_format=torch.contiguous_format)
    read = None if target is None else torch.empty_like(target, memory_format=torch.contiguous_format)
    for rows in _stretches(shape, image.device):
        nearest, corner, weights = _voxels(draw, matrix, rows, shape, image.device)
        for new, values in zip(moved, image.flatten(1), strict=True):
            new[rows] = _between(values, corner, weights, shape)
        if target is not None and read is not None:
            for new, values in zip(read, target.flatten(1), strict=True):
                new[rows] = values.index_select(0, nearest.flatten()).view(nearest.shape)
    return moved, read


def _stretches(shape: Sizes, device: torch.device) -> Iterator[slice]:
    """Parts of the first axis that are worked on at a time; a GPU takes all at once."""
    rows = max(1, AT_ONCE // (shape[1] * shape[2])) if device.type == "cpu" else shape[0]
    for first in range(0, shape[0], rows):
        yield slice(first, min(first + rows, shape[0]))


def _voxels(
    draw: Draw, matrix: Matrix, rows: slice, shape: Sizes, device: torch.device
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """For the new voxels in `rows` of the first axis: the nearest old one; the first of the eight old ones around
    (both counted through the flattened patch); and the share of the further ones along each axis."""
    part = (rows.stop - rows.start, shape[1], shape[2])
    nearest, corner = (torch.zeros(part, dtype=torch.int32, device=device) for _ in range(2))
    weights = []
    for axis, size in enumerate(shape):
        old = _coordinates(draw, matrix, axis, rows, shape, device).clamp_(0, size - 1)
        nearest.mul_(size).add_((old + 0.5).int())  # they are not negative: cutting off is rounding down
        below = old.int().clamp_(max=max(size - 2, 0))
        corner.mul_(size).add_(below)
        weights.append(old.sub_(below))
    return nearest, corner, weights


def _is_diagonal(matrix: Matrix) -> bool:
    return all(matrix[row][column] == 0 for row in range(3) for column in range(3) if row != column)


def _between(values: Tensor, corner: Tensor, weights: list[Tensor], shape: Sizes) -> Tensor:
    """Linear interpolation of a flattened channel among the eight voxels of which `corner` is the first."""
    index, steps = corner.flatten(), [math.prod(shape[axis + 1 :]) for axis in range(3)]

    def read(axis: int, first: int) -> Tensor:
        if axis == 3:
            return values[first:].index_select(0, index).view(corner.shape)
        lower = read(axis + 1, first)
        if shape[axis] == 1:
            return lower
        return lower.addcmul_(read(axis + 1, first + steps[axis]).sub_(lower), weights[axis])

    return read(0, 0)


def _zoom(matrix: Matrix, image: Tensor, target: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """`warp` where each new coordinate hangs on one old one: axis by axis, which is several times faster."""
    for axis, size in enumerate(image.shape[1:]):
        if size == 1 or matrix[axis][axis] == 1:
            continue
        old = (_centred(size, image.device) * matrix[axis][axis] + (size - 1) / 2).clamp_(0, size - 1)
        below = old.int().clamp_(max=size - 2)
        image = resample.linear(image, 1 + axis, below, below + 1, (old - below).to(image.dtype))
        if target is not None:
            target = target.index_select(1 + axis, (old + 0.5).int())
    return image, target


def _centred(size: int, device: torch.device) -> Tensor:
    """Voxel coordinates along an axis, counted from its middle."""
    return torch.arange(size, dtype=torch.float32, device=device) - (size - 1) / 2


def _coordinates(draw: Draw, matrix: Matrix, axis: int, rows: slice, shape: Sizes, device: torch.device) -> Tensor:
    """(rows, j, k): where along the old `axis` each new voxel comes from."""
    i, j, k = (_centred(size, device) * matrix[axis][new] for new, size in enumerate(shape))
    old = ((i[rows] + (shape[axis] - 1) / 2)[:, None] + j)[..., None] + k
    if draw.elastic is not None and draw.elastic[2][axis]:
        seed, sd, moving = draw.elastic
        points = torch.randn(3, *(ELASTIC_CELLS,) * 3, generator=torch.Generator().manual_seed(seed))[axis]
        points *= sd * moving[axis]
        along_i, along_j, along_k = (_spread(size).to(device, non_blocking=True) for size in shape)
        field = torch.tensordot(along_i[rows], points.to(device, non_blocking=True), dims=1)
        old += along_j @ field @ along_k.T
    return old


def _spread(size: int) -> Tensor:
    """(size, control points): how much each control point counts for each voxel of an axis; the first and the last
    stand on its ends. Trilinear interpolation is one product with such a matrix for each axis."""
    last = ELASTIC_CELLS - 1
    places = torch.arange(size) * (last / max(1, size - 1))
    return (1 - (places[:, None] - torch.arange(ELASTIC_CELLS)).abs()).clamp_(min=0)
