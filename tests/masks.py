"""Pairs of small masks for comparisons with other implementations: odd spacings, ragged and smooth shapes, masks that
touch the border, that are alike, full or empty; in space and in the plane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import gaussian_filter

from medseg import plugins
from medseg.pair import Pair


@dataclass(frozen=True, eq=False)
class Masks:
    """Boolean (I, J, K), K = 1 in the plane, and a spacing in mm."""

    truth: np.ndarray
    predicted: np.ndarray
    spacing: tuple[float, float, float]

    @property
    def flat(self) -> bool:
        return self.truth.shape[2] == 1

    @property
    def solid(self) -> bool:
        """Whether both hold something."""
        return bool(self.truth.any() and self.predicted.any())

    @cached_property
    def pair(self) -> Pair:
        return Pair.of(self.truth, self.predicted, spacing_mm=np.array(self.spacing), label="a")

    @property
    def images(self) -> tuple[np.ndarray, np.ndarray]:
        """The masks with as many axes as they have."""
        return (self.truth[..., 0], self.predicted[..., 0]) if self.flat else (self.truth, self.predicted)

    @property
    def steps(self) -> tuple[float, ...]:
        return self.spacing[:2] if self.flat else self.spacing

    def measure(self, name: str, **options) -> dict[str, float]:
        metric = plugins.find("metrics", name)
        return metric.compute(self.pair, metric.Options(**options))


def some(count: int, *, longest: int = 9, seed: int = 0) -> list[Masks]:
    """Always the same ones."""
    rng = np.random.default_rng(seed)
    return [_one(rng, number, longest) for number in range(count)]


def _one(rng: np.random.Generator, number: int, longest: int) -> Masks:
    shape = tuple(int(side) for side in rng.integers(2, longest + 1, 3))
    if number % 3 == 0:
        shape = (*(side + 3 for side in shape[:2]), 1)
    truth, predicted = KINDS[number // 3 % len(KINDS)](rng, shape)
    empty = {20: (1, 0), 41: (0, 1), 62: (1, 1)}.get(number % 63, (0, 0))
    truth, predicted = (mask & (not gone) for mask, gone in zip((truth, predicted), empty, strict=True))
    spacing = tuple(round(float(step), 3) for step in rng.uniform(0.3, 4, 3))
    return Masks(truth, predicted, spacing)


Kind = Callable[[np.random.Generator, tuple[int, ...]], tuple[np.ndarray, np.ndarray]]


def _ragged(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    return rng.random(shape) < rng.uniform(0.05, 0.95), rng.random(shape) < rng.uniform(0.05, 0.95)


def _alike(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    truth = rng.random(shape) < rng.uniform(0.1, 0.9)
    return truth, truth ^ (rng.random(shape) < 0.08)


def _smooth(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    heights = gaussian_filter(rng.random(shape), 1.2)
    other = heights + 0.3 * gaussian_filter(rng.random(shape), 1.2)
    return tuple(each > np.quantile(each, rng.uniform(0.3, 0.8)) for each in (heights, other))


def _few(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    masks = np.zeros((2, *shape), bool)
    for mask in masks:
        for _ in range(rng.integers(1, 4)):
            mask[tuple(rng.integers(shape))] = True
    return masks[0], masks[1]


def _at_the_border(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    masks = np.zeros((2, *shape), bool)
    masks[0][: rng.integers(1, shape[0] + 1)] = True
    masks[1][:, rng.integers(0, shape[1]) :] = True
    return masks[0], masks[1]


def _same(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    mask = rng.random(shape) < rng.choice([0.3, 0.7, 1.0])
    return mask, mask.copy()


KINDS: tuple[Kind, ...] = (_ragged, _alike, _smooth, _few, _at_the_border, _same)
