"""Patches with fewer voxels over the same field of view, and what was drawn for the whole patch, in these voxels."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from medseg import resample
from medseg.plan import Sizes, Triple
from medseg.transforms.augment import Draw


def sides(patch: Sizes, share: float, *, spacing_mm: Triple, divisor: Sizes) -> Sizes:
    """A patch shrunk to about `share` of its sides, each a multiple of `divisor`.

    Axes of thick slices are shrunk less, or not at all: voxels become `1 / share` times as long as their shortest side
    was, and a side that is longer already stays. So they become more alike.
    """
    finest = min(spacing_mm) / share
    shrunk = [
        min(side, max(unit, round(side * min(1.0, mm / finest) / unit) * unit))
        for side, mm, unit in zip(patch, spacing_mm, divisor, strict=True)
    ]
    return shrunk[0], shrunk[1], shrunk[2]


def shrink(image: Tensor, target: Tensor, shape: Sizes) -> tuple[Tensor, Tensor]:
    """Image and target with fewer voxels.

    Args:
        image: (C, i, j, k) floating point; a new voxel is the mean of the old ones that it covers, in part as well, so
            that fine structures do not alias.
        target: (1 or R, i, j, k) whole numbers, of which the one at the new voxel's centre is taken, as in deep
            supervision: no label is made that was not there, and regions stay inside one another. A target of another
            size than the image (classes) stays as it is.
        shape: new sides (i, j, k), none longer than the old one.
    """
    in_step = target.shape[1:] == image.shape[1:]
    for axis in (3, 2, 1):  # the last first: its rows lie in memory one after the other
        old, new = image.shape[axis], shape[axis - 1]
        if old == new:
            continue
        image = _averaged(image, axis, new)
        if in_step:
            target = target.index_select(axis, resample.nearest(old, new).to(target.device))
    return image, target


def smaller(drawn: Draw, whole: Sizes, shape: Sizes) -> Draw:
    """What was drawn for a whole patch, for the same one shrunk: the result is, nearly, what the whole patch would be
    if it were varied first and shrunk afterwards.

    Noise is a mean of as many numbers as a new voxel has old ones; blur and low resolution take away no more than is
    still there.
    """
    by = [new / old for new, old in zip(shape, whole, strict=True)]
    least = min(by)
    changed = drawn
    if drawn.matrix is not None:
        rows = [tuple(value * by[i] / by[j] for j, value in enumerate(row)) for i, row in enumerate(drawn.matrix)]
        changed = replace(changed, matrix=tuple(rows))  # type: ignore[arg-type]
    if drawn.elastic is not None:
        seed, sd, moving = drawn.elastic
        changed = replace(changed, elastic=(seed, sd, tuple(map(operator.mul, moving, by))))
    if drawn.noise is not None:
        changed = replace(changed, noise=(drawn.noise[0], drawn.noise[1] * math.sqrt(math.prod(by))))
    if drawn.blur is not None:
        changed = replace(changed, blur=tuple(sd and sd * least for sd in drawn.blur))
    if drawn.low_resolution is not None:
        left = (None if factor is None or factor >= least else factor / least for factor in drawn.low_resolution)
        changed = replace(changed, low_resolution=tuple(left))
    if drawn.cutout is not None:
        changed = replace(changed, cutout=tuple(_smaller_box(*box, by) for box in drawn.cutout))
    return changed


def _smaller_box(start: Sizes, size: Sizes, fill: float, by: Sequence[float]) -> tuple[Sizes, Sizes, float]:
    first, second, third = (int(at * share) for at, share in zip(start, by, strict=True))
    i, j, k = (max(1, round(length * share)) for length, share in zip(size, by, strict=True))
    return (first, second, third), (i, j, k), fill


def _averaged(image: Tensor, axis: int, new: int) -> Tensor:
    weights = _means(image.shape[axis], new).to(image)
    if axis == image.ndim - 1:
        return image @ weights.T
    return (weights @ image.flatten(axis + 1)).unflatten(-1, image.shape[axis + 1 :])


@lru_cache(maxsize=64)
def _means(old: int, new: int) -> Tensor:
    """(new, old) float32: which part of each new voxel of an axis each old one fills."""
    ends = np.arange(new + 1) * (old / new)
    first, last = ends[:-1, None], ends[1:, None]
    voxels = np.arange(old)
    covered = np.minimum(last, voxels + 1) - np.maximum(first, voxels)
    return torch.from_numpy((covered.clip(0) * (new / old)).astype(np.float32))
