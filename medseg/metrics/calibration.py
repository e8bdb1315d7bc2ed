"""Calibration: whether probabilities are to be believed. ECE, and the Brier score of each class; lower is better.

Over a whole set: places (images, slices or voxels) of all cases are pooled.
* `ECE` (expected calibration error): probabilities are sorted into equal bins; the difference between the mean
  probability in a bin and the share of places that were right, averaged over bins by their size. Where classes exclude
  each other it is that of the likeliest class and whether it is right; else each class's probability against whether
  it is there.
* `...: Brier`: mean squared difference between a class's probability and 1 or 0.
nan where there is nothing to count. Unit: none, 0 to 1.
Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599; Brier 1950, "Verification of
forecasts expressed in terms of probability", Monthly Weather Review 78 (who adds up the classes: of two, twice this).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from medseg.prediction import Evidence
from medseg.settings import Settings
from medseg.statistics import Places, places, share

OVER = "set"
UNIT = ""
HIGHER_IS_BETTER = False
INTERVAL = True


class Options(Settings):
    bins: Annotated[int, Field(ge=1)] = 10
    """Of the ECE, from 0 to 1; an upper edge belongs to its bin."""


def compute(cases: Sequence[Evidence], *, names: tuple[str, ...], options: Options) -> dict[str, float]:
    pooled = places(cases, len(names))
    rows = {"ECE": _error(*_claims(pooled), options.bins)}
    for name, (truth, probabilities) in zip(names, pooled.of_each(), strict=True):
        squares = np.square(probabilities - truth, dtype=np.float64)
        rows[f"{name}: Brier"] = share(squares.sum(), squares.size)
    return rows


def _claims(pooled: Places) -> tuple[np.ndarray, np.ndarray]:
    """What was claimed with which probability, and whether it is so."""
    if not pooled.exclusive:
        truths, probabilities = zip(*pooled.of_each(), strict=True)
        return np.concatenate(probabilities), np.concatenate(truths)
    pooled = pooled.known()
    likeliest = pooled.probabilities.argmax(axis=0)[None]
    chosen = np.take_along_axis(pooled.probabilities, likeliest, axis=0)[0]
    return chosen, np.take_along_axis(pooled.truth, likeliest, axis=0)[0] == 1


def _error(claimed: np.ndarray, right: np.ndarray, bins: int) -> float:
    claimed = claimed.astype(np.float64)
    places = np.clip(np.ceil(claimed * bins) - 1, 0, bins - 1).astype(int)
    gaps = np.bincount(places, weights=claimed, minlength=bins) - np.bincount(places, weights=right, minlength=bins)
    return share(np.abs(gaps).sum(), claimed.size)
