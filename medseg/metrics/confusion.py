"""Confusion: how often each class was taken for each other one; a count of places for every pair.

Over a whole set: places (images, slices or voxels) of all cases are pooled. Where classes exclude each other the rows
are `true A -> predicted B`, the likeliest class being predicted; else each class is a question of its own (`true A ->
predicted not A`, a probability above one half being a yes). Equal pairs are better when higher, the others when lower.
A pair that does not occur counts 0; there is no nan where nothing is known, but 0 everywhere. Unit: places.
Source: Maier-Hein et al. 2024, "Metrics reloaded", Nature Methods 21, doi:10.1038/s41592-023-02151-z.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medseg.prediction import Evidence
from medseg.settings import Settings
from medseg.statistics import places

OVER = "set"
UNIT = "places"
HIGHER_IS_BETTER = True
INTERVAL = False


class Options(Settings):
    pass


def compute(cases: Sequence[Evidence], *, names: tuple[str, ...], options: Options) -> dict[str, float]:
    pooled = places(cases, len(names))
    if pooled.exclusive:
        pooled = pooled.known()
        return _pairs(names, pooled.truth.argmax(axis=0), pooled.probabilities.argmax(axis=0))
    rows: dict[str, float] = {}
    for name, (truth, probabilities) in zip(names, pooled.of_each(), strict=True):
        rows |= _pairs((name, f"not {name}"), ~truth, probabilities <= 0.5)
    return rows


def _pairs(names: tuple[str, ...], truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Counts of (N,) class numbers."""
    size = len(names)
    counts = np.bincount(truth.astype(int) * size + predicted, minlength=size * size).reshape(size, size)
    return {
        f"true {name} -> predicted {other}": float(counts[place, column])
        for place, name in enumerate(names)
        for column, other in enumerate(names)
    }
