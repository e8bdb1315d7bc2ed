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
from typing import Annotated, Any

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


def reliability(cases: Sequence[Evidence], *, names: tuple[str, ...], options: Options) -> list[dict[str, Any]]:
    """The curve behind the numbers: for each class its probability against whether it is there, in the bins of the ECE.

    Returns:
        A row a bin that holds something: `label`, `probability` (mean in the bin), `share` (of its places that have the
        class), `places` (how many). Several classes also have rows of `all`: what the ECE is about.
    """
    pooled = places(cases, len(names))
    curves = {name: (chances, truth) for name, (truth, chances) in zip(names, pooled.of_each(), strict=True)}
    if len(names) > 1:
        curves = {"all": _claims(pooled), **curves}
    return [
        {"label": name, "probability": float(claimed / count), "share": float(right / count), "places": int(count)}
        for name, curve in curves.items()
        for claimed, right, count in zip(*_bins(*curve, options.bins), strict=True)
        if count
    ]


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
    sums, hits, _ = _bins(claimed, right, bins)
    return share(np.abs(sums - hits).sum(), claimed.size)


def _bins(claimed: np.ndarray, right: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum of the probabilities in each bin, and how many places there are right, and how many there are."""
    claimed = claimed.astype(np.float64)
    places = np.clip(np.ceil(claimed * bins) - 1, 0, bins - 1).astype(int)
    sums, hits = (np.bincount(places, weights=weights, minlength=bins) for weights in (claimed, right))
    return sums, hits, np.bincount(places, minlength=bins)
