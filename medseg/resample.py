"""Separable resampling of (C, I, J, K) tensors: a banded matrix per axis, equal to scipy's splines, on CPU or GPU.

A spline of any order is linear in the samples, so along one axis it is a matrix. That of a cubic spline is full, but
its weights fall so fast that a new sample is made of some twenty old ones: its rows are multiplied a few dozen at a
time with the old samples that they are made of. The grid keeps its field of view: sample `i` of the new axis stands at
`(i + 0.5) * old / new - 0.5` of the old one, and beyond the outer samples the outermost value continues. Downsampling
does not smooth first, as in nnU-Net: fine structures may alias, and labels and images stay in step.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

Sizes = tuple[int, int, int]
NEGLIGIBLE = 1e-7
"""A cubic spline's weights fall by 3.7 from sample to sample; below this they are 0, so that a new sample is made of no
more than a dozen on each side."""
EDGE = 12
"""How often scipy repeats the outermost sample before it looks for the spline (mode "nearest")."""
MARGIN = 20
"""Old samples on each side of a stretch that its weights are worked out from: 3.7 ** -20 is nothing in float32."""
ROWS = 32
"""New samples that are made by one product: more would multiply more zeros, fewer would be many small products."""


class Stretch(NamedTuple):
    """Some neighbouring rows of the matrix that resamples an axis.

    Attributes:
        row: first new sample.
        first: old sample that the first column stands for.
        weights: (rows, columns) float32; do not write into it, it is shared.
    """

    row: int
    first: int
    weights: torch.Tensor


def positions(old: int, new: int) -> np.ndarray:
    """Where the new samples of an axis stand among the old ones."""
    return (np.arange(new) + 0.5) * (old / new) - 0.5


@lru_cache(maxsize=64)
def cubic(old: int, new: int) -> tuple[Stretch, ...]:
    """The matrix of a cubic spline, `ROWS` rows at a time, each with the columns that are not 0 in all of them.

    Equals `scipy.ndimage.map_coordinates(..., order=3, mode="nearest")` at `positions`.
    """
    places = positions(old, new)
    stretches = []
    for row in range(0, new, ROWS):
        here = places[row : row + ROWS]
        start = max(0, math.floor(here[0]) - MARGIN)
        stop = min(old, math.floor(here[-1]) + 2 + MARGIN)
        dense = _cubic_weights(here - start, stop - start)
        used = np.flatnonzero((dense != 0).any(axis=0))
        weights = np.ascontiguousarray(dense[:, used[0] : used[-1] + 1], np.float32)
        stretches.append(Stretch(row, start + int(used[0]), torch.from_numpy(weights)))
    return tuple(stretches)


def _cubic_weights(places: np.ndarray, size: int) -> np.ndarray:
    """What each of `size` samples counts for in the spline at `places`: (places, size) float64.

    A cubic spline is a sum of B-splines, of which four reach any place (Unser 1999, doi:10.1109/79.799930); their
    heights for a sample of 1 among zeros come from scipy.
    """
    ones = np.pad(np.eye(size), [(EDGE, EDGE), (0, 0)], mode="edge")
    heights = ndimage.spline_filter1d(ones, 3, axis=0, mode="nearest")
    below = np.floor(places).astype(np.int64)
    t = (places - below)[:, None]
    pieces = (1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 3 * (t - t**3) + 3 * t**2 + 1, t**3
    weights = sum(piece / 6 * heights[below + EDGE - 1 + at] for at, piece in enumerate(pieces))
    weights[np.abs(weights) < NEGLIGIBLE] = 0
    return weights


@lru_cache(maxsize=256)
def neighbours(old: int, new: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The matrix of linear interpolation, as (lower index, upper index, weight of the upper) per new sample."""
    places = np.clip(positions(old, new), 0, old - 1)
    lower = np.floor(places).astype(np.int64)
    upper = np.ceil(places).astype(np.int64)
    weight = (places - lower).astype(np.float32)
    return torch.from_numpy(lower), torch.from_numpy(upper), torch.from_numpy(weight)


def nearest(old: int, new: int) -> torch.Tensor:
    """Index of the old sample that each new one copies (order 0); the later one halfway between two."""
    return torch.from_numpy(np.clip(np.floor(positions(old, new) + 0.5), 0, old - 1).astype(np.int64))


@lru_cache(maxsize=256)
def reach(old: int, new: int, order: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last old sample that each new one and its neighbours are made of; neither ever falls from one to the
    next, though a cubic sample that falls on an old one is made of that alone."""
    if order == 0:
        return nearest(old, new).numpy(), nearest(old, new).numpy()
    if order == 1:
        lower, upper, _ = neighbours(old, new)
        return lower.numpy(), upper.numpy()
    ends = []
    for stretch in cubic(old, new):
        used = (stretch.weights != 0).int()
        ends.append(
            (stretch.first + used.argmax(dim=1), stretch.first + used.shape[1] - 1 - used.flip(1).argmax(dim=1))
        )
    first, last = (torch.cat(one).numpy() for one in zip(*ends, strict=True))
    return np.minimum.accumulate(first[::-1])[::-1], np.maximum.accumulate(last)


def part(
    tensor: torch.Tensor, dim: int, *, sizes: tuple[int, int], order: int, rows: slice, first: int = 0
) -> torch.Tensor:
    """Some of the new samples of one axis, from a tensor that holds only some of the old ones.

    Args:
        tensor: float32 where order is 3; its axis `dim` begins with old sample `first` and holds at least what `reach`
            says.
        sizes: old and new size of the whole axis.
        rows: new samples wanted.
    """
    old, new = sizes
    if order == 3:
        return _cubic_part(tensor, dim, sizes, rows, first)
    if order == 0:
        return tensor.index_select(dim, (nearest(old, new)[rows] - first).to(tensor.device))
    lower, upper, weight = _between(old, new, rows.start, rows.stop, first, tensor.device)
    return tensor.index_select(dim, lower) if weight is None else linear(tensor, dim, lower, upper, weight)


@lru_cache(maxsize=1024)
def _between(
    old: int, new: int, start: int, stop: int, first: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Some of `neighbours` where old samples begin with `first`; no weights where all new samples are old ones. Kept,
    for small copies to a GPU take longer than the work that they are for."""
    lower, upper, weight = (one[start:stop] for one in neighbours(old, new))
    some = bool(weight.any())
    return (lower - first).to(device), (upper - first).to(device), weight.to(device) if some else None


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
        sizes = tensor.shape[1 + axis], shape[axis]
        tensor = part(tensor, 1 + axis, sizes=sizes, order=orders[axis], rows=slice(0, shape[axis]))
    return tensor


def linear(
    tensor: torch.Tensor, dim: int, lower: torch.Tensor, upper: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Linear interpolation along `dim` between the samples that `neighbours` (or a part of its result) names."""
    along = [1] * tensor.ndim
    along[dim] = -1
    lower, upper, weight = (part.to(tensor.device) for part in (lower, upper, weight))
    return torch.lerp(tensor.index_select(dim, lower), tensor.index_select(dim, upper), weight.view(along))


def _cubic_part(tensor: torch.Tensor, dim: int, sizes: tuple[int, int], rows: slice, first: int) -> torch.Tensor:
    """`part` with order 3, as one product for each stretch of the matrix that `rows` touches."""
    low, high = reach(*sizes, 3)
    before, after = math.prod(tensor.shape[:dim]), math.prod(tensor.shape[dim + 1 :])
    old = tensor.reshape(before, tensor.shape[dim], after)
    new = tensor.new_empty(before, rows.stop - rows.start, after)
    for row, start, weights in cubic(*sizes)[rows.start // ROWS : -(-rows.stop // ROWS)]:
        top, bottom = max(row, rows.start), min(row + len(weights), rows.stop)
        left, right = max(start, int(low[top])), min(start + weights.shape[1], int(high[bottom - 1]) + 1)
        _multiply(
            weights[top - row : bottom - row, left - start : right - start].to(tensor.device),
            old[:, left - first : right - first],
            new[:, top - rows.start : bottom - rows.start],
        )
    return new.reshape(*tensor.shape[:dim], new.shape[1], *tensor.shape[dim + 1 :])


def _multiply(weights: torch.Tensor, old: torch.Tensor, new: torch.Tensor) -> None:
    """`weights` (m, n) times each of `old` (batch, n, p) into `new` (batch, m, p).

    In one product where that is possible: in a batch, threads wait for one another after each.
    """
    if old.shape[2] == 1:
        torch.mm(old[..., 0], weights.T, out=new[..., 0])
    elif len(old) == 1:
        torch.mm(weights, old[0], out=new[0])
    else:
        torch.bmm(weights.expand(len(old), -1, -1), old, out=new)
