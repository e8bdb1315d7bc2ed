"""Masks and class numbers on a grid of another shape: linear, and worked out only where they may differ from 0."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from medseg.plan import Sizes
from medseg.resample import linear, neighbours

Slices = tuple[slice, slice, slice]


def everything(shape: tuple[int, ...]) -> Slices:
    """The box that holds all of a grid."""
    first, second, third = (slice(0, size) for size in shape)
    return first, second, third


def classes(numbers: np.ndarray, shape: Sizes) -> np.ndarray:
    """Class numbers (I, J, K) on a grid of another shape: linear per class, then the highest."""
    best = np.zeros(shape, np.float32)
    winner = np.zeros(shape, numbers.dtype)
    boxes = [everything(numbers.shape), *ndimage.find_objects(numbers)]
    for number, place in enumerate(boxes):
        if place is None:
            continue
        values, reached = box(numbers == number, place, shape)
        wins = values >= np.maximum(best[reached], np.float32(1e-6))
        winner[reached][wins] = number
        np.maximum(best[reached], values, out=best[reached])
    return winner


def box(mask: np.ndarray, place: Slices, shape: Sizes) -> tuple[np.ndarray, Slices]:
    """A mask that is empty outside the box `place`, resampled linearly: the values where they may differ from 0, and
    where."""
    reached = _reached(place, mask.shape, shape)
    return _linear_box(torch.from_numpy(mask), reached, shape).numpy(), reached


def _reached(box: Slices, old: tuple[int, ...], new: Sizes) -> Slices:
    """Where, on a grid of shape `new`, linear interpolation reads any voxel of `box` on a grid of shape `old`."""
    place = []
    for part, old_size, new_size in zip(box, old, new, strict=True):
        lower, upper, _ = neighbours(old_size, new_size)
        start = int(torch.searchsorted(upper, part.start))
        place.append(slice(start, max(start, int(torch.searchsorted(lower, part.stop))) if part.stop else start))
    return place[0], place[1], place[2]


def _linear_box(values: torch.Tensor, place: Slices, shape: Sizes) -> torch.Tensor:
    """The part `place` of `values` (i, j, k) resampled linearly to `shape`, as float32."""
    steps, read = [], []
    for axis, part in enumerate(place):
        lower, upper, weight = (part_of[part] for part_of in neighbours(values.shape[axis], shape[axis]))
        first, last = (int(lower[0]), int(upper[-1])) if len(lower) else (0, -1)
        read.append(slice(first, last + 1))
        steps.append((lower - first, upper - first, weight))
    values = values[tuple(read)].float()
    for axis, step in enumerate(steps):
        if values.shape[axis] != len(step[0]) or bool(step[2].any()):
            values = linear(values, axis, *step)
    return values
