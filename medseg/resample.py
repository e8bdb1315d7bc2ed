"""Separable resampling of (C, I, J, K) tensors: one small matrix per axis, equal to scipy's splines, on CPU or GPU.

A spline of any order is linear in the samples, so along one axis it is a matrix; the matrix is found by asking
scipy.ndimage for the spline through each unit vector. The grid keeps its field of view: sample `i` of the new axis
stands at `(i + 0.5) * old / new - 0.5` of the old one, and beyond the outer samples the outermost value continues.
Downsampling does not smooth first, as in nnU-Net: fine structures may alias, and labels and images stay in step.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

Sizes = tuple[int, int, int]
NEGLIGIBLE = 1e-7
"""A cubic spline's weights fall by 3.7 from sample to sample; below this they are 0, so that a new sample is made of no
more than some twelve on each side."""


@lru_cache(maxsize=256)
def matrix(old: int, new: int, order: int) -> torch.Tensor:
    """The (new, old) float32 matrix that resamples one axis; do not write into it, it is shared.

    Equals `scipy.ndimage.map_coordinates(..., order=order, mode="nearest")` at half-pixel sample positions.
    """
    positions = (np.arange(new) + 0.5) * (old / new) - 0.5
    columns = [ndimage.map_coordinates(unit, positions[None], order=order, mode="nearest") for unit in np.eye(old)]
    dense = np.stack(columns, axis=1)
    dense[np.abs(dense) < NEGLIGIBLE] = 0
    return torch.from_numpy(dense.astype(np.float32))


@lru_cache(maxsize=256)
def neighbours(old: int, new: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What `matrix(old, new, 1)` holds, as (lower index, upper index, weight of the upper) per new sample: two reads
    instead of `old` products."""
    positions = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    lower = np.floor(positions).astype(np.int64)
    upper = np.ceil(positions).astype(np.int64)
    weight = (positions - lower).astype(np.float32)
    return torch.from_numpy(lower), torch.from_numpy(upper), torch.from_numpy(weight)


def nearest(old: int, new: int) -> torch.Tensor:
    """Index of the old sample that each new one copies (order 0)."""
    return matrix(old, new, 0).argmax(dim=1)


@lru_cache(maxsize=256)
def reach(old: int, new: int, order: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last old sample that each new one and its neighbours are made of; neither ever falls from one to the
    next, though a cubic sample that falls on an old one is made of that alone."""
    if order == 1:
        lower, upper, _ = neighbours(old, new)
        return lower.numpy(), upper.numpy()
    counts = matrix(old, new, order) != 0
    first, last = counts.int().argmax(dim=1), old - 1 - counts.flip(1).int().argmax(dim=1)
    return np.minimum.accumulate(first.numpy()[::-1])[::-1], np.maximum.accumulate(last.numpy())


def part(
    tensor: torch.Tensor, dim: int, *, sizes: tuple[int, int], order: int, rows: slice, first: int = 0
) -> torch.Tensor:
    """Some of the new samples of one axis, from a tensor that holds only some of the old ones.

    Args:
        tensor: floating point; its axis `dim` begins with old sample `first` and holds at least what `reach` says.
        sizes: old and new size of the whole axis.
        rows: new samples wanted.
    """
    old, new = sizes
    if order == 1:
        lower, upper, weight = (one[rows] for one in neighbours(old, new))
        if bool(weight.any()):
            return linear(tensor, dim, lower - first, upper - first, weight)
        return tensor.index_select(dim, (lower - first).to(tensor.device))
    if order == 0:
        return tensor.index_select(dim, (nearest(old, new)[rows] - first).to(tensor.device))
    weights = matrix(old, new, order)[rows, first : first + tensor.shape[dim]].to(tensor.device)
    return torch.movedim(torch.movedim(tensor, dim, -1) @ weights.T, -1, dim)


def resample(tensor: torch.Tensor, shape: Sizes, order: int | Sizes) -> torch.Tensor:
    """Resample (C, I, J, K) to (C, *shape) in float32.

    Args:
        tensor: any real kind; order 0 keeps its kind, other orders give float32.
        shape: the new (I, J, K).
        order: spline order 0, 1 or 3, or one per axis.

    Returns:
        A new tensor, or `tensor` itself (as float32) when no axis changes size. Three linear axes take torch's own
        trilinear kernel, which is the same sum and three times faster.
    """
    orders = (order, order, order) if isinstance(order, int) else order
    if any(orders):
        tensor = tensor.float()
    if orders == (1, 1, 1) and tuple(tensor.shape[1:]) != tuple(shape):
        return functional.interpolate(tensor[None], size=shape, mode="trilinear", align_corners=False)[0]
    # the axis that shrinks most goes first and the one that grows most last, so that intermediates stay small
    changing = [axis for axis in range(3) if tensor.shape[1 + axis] != shape[axis]]
    for axis in sorted(changing, key=lambda axis: shape[axis] / tensor.shape[1 + axis]):
        tensor = _along(tensor, 1 + axis, shape[axis], orders[axis])
    return tensor


def _along(tensor: torch.Tensor, dim: int, new: int, order: int) -> torch.Tensor:
    """One axis of a (C, I, J, K) tensor to `new` samples."""
    old = tensor.shape[dim]
    if order == 0:
        return tensor.index_select(dim, nearest(old, new).to(tensor.device))
    if order == 1:
        return linear(tensor, dim, *neighbours(old, new))
    weights = matrix(old, new, order).to(tensor.device)
    if dim == 3:
        return tensor @ weights.T
    if dim == 2:
        return weights @ tensor
    channels, _, rows, columns = tensor.shape
    return (weights @ tensor.reshape(channels, old, rows * columns)).reshape(channels, new, rows, columns)


def linear(
    tensor: torch.Tensor, dim: int, lower: torch.Tensor, upper: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Linear interpolation along `dim` between the samples that `neighbours` (or a part of its result) names."""
    along = [1] * tensor.ndim
    along[dim] = -1
    lower, upper, weight = (part.to(tensor.device) for part in (lower, upper, weight))
    return torch.lerp(tensor.index_select(dim, lower), tensor.index_select(dim, upper), weight.view(along))
