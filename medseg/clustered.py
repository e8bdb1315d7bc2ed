"""Means of values that belong to patients: intervals by drawing patients anew, each with all that is his.

The interval is studentised (bootstrap-t): in each draw the mean's distance from the mean of all is divided by its own
standard error, and quantiles of these ratios take the place of those of Student's t. With few patients and skewed
values it comes closer to what it promises than percentiles do; docs/evaluation.md has the table. A mean counts each
value alike, so that patients with more images weigh more: it is a ratio of sums over patients, and so is its error.

Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 12; Field and Welsh 2007, "Bootstrapping
clustered data", JRSS B 69.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

DRAWS = 1000
LEVEL = 0.95
FEWEST = 5
"""Patients with a value that an interval needs: draws of fewer have hardly an error of their own."""
AT_ONCE = 2**20
"""Numbers that are worked on at once: more do not fit into a processor's cache."""
SAME = 1e-9
"""Errors below this share of the largest mean of the same column are rounding."""


class Sums(NamedTuple):
    """Defined values added up by patient, (patients, ...), and how many they are of."""

    total: np.ndarray
    of: np.ndarray

    def means(self) -> np.ndarray:
        """nan where a patient has no value, infinite where one of his is."""
        return _ratio(self.total, self.of)


def numbered(patients: Sequence[str]) -> np.ndarray:
    """Names -> numbers from 0, in the order of the names, so that the order of rows has no influence on any draw."""
    places = {name: place for place, name in enumerate(sorted(set(patients)))}
    return np.array([places[name] for name in patients], np.int64)


def sums(values: np.ndarray, patients: np.ndarray) -> Sums:
    """Add up by patient.

    Args:
        values: (rows, ...); nan is undefined and left out, infinite values stay.
        patients: (rows,) whose each row is, numbered from 0.
    """
    defined = ~np.isnan(values)
    shape = (int(patients.max(initial=-1)) + 1, *values.shape[1:])
    total, count = np.zeros(shape), np.zeros(shape)
    with np.errstate(invalid="ignore"):
        np.add.at(total, patients, np.where(defined, values, 0))
    np.add.at(count, patients, defined)
    return Sums(total, count)


def mean(values: np.ndarray) -> np.ndarray:
    """(...) over rows. Undefined values are left out; infinite ones are not, or a structure that was missed would
    improve a mean distance. nan where nothing is defined."""
    everyone = sums(values, np.zeros(len(values), np.int64))
    return everyone.means()[0] if len(values) else np.full(values.shape[1:], np.nan)


def drawn(patients: int, *, draws: int, seed: int) -> np.ndarray:
    """(draws, patients): as many patients as there are, with replacement, by number."""
    return np.random.default_rng(seed).integers(max(patients, 1), size=(draws, patients))


def times(chosen: np.ndarray) -> np.ndarray:
    """(draws, patients): how often each patient is in each draw of `drawn`."""
    draws, patients = chosen.shape
    places = chosen + patients * np.arange(draws)[:, None]
    return np.bincount(places.ravel(), minlength=draws * patients).reshape(draws, patients).astype(np.float64)


def intervals(
    values: np.ndarray, patients: np.ndarray, *, draws: int = DRAWS, level: float = LEVEL, seed: int = 0
) -> np.ndarray:
    """(2, columns): interval of each column's mean over rows.

    nan where fewer than `FEWEST` patients have a value, and where one is infinite: such a mean has no spread.

    Args:
        values: (rows, columns); nan is undefined and left out.
        patients: (rows,) whose each row is, numbered from 0.
    """
    return intervals_over_labels(values[:, None], patients, draws=draws, level=level, seed=seed)


def intervals_over_labels(
    values: np.ndarray, patients: np.ndarray, *, draws: int = DRAWS, level: float = LEVEL, seed: int = 0
) -> np.ndarray:
    """(2, columns): interval of the mean over labels of the means over rows; a label without a value is left out.

    Args:
        values: (rows, labels, columns).
    """
    total, count = sums(values, patients)
    fit = ((count > 0).any(axis=1).sum(axis=0) >= FEWEST) & np.isfinite(total).all(axis=(0, 1))
    total = np.where(fit, total, 0)
    counts = times(drawn(len(total), draws=draws, seed=seed))
    everyone = np.ones((1, len(total)))
    centre, error = (part[0] for part in _means(total, count, everyone))
    means, errors = _means(total, count, counts)
    return np.where(fit, _studentised(centre, error, means, errors, level), np.nan)


def _means(total: np.ndarray, count: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each draw, (draws, columns): the mean over labels of their means, and its standard error, for which the
    residuals of the ratios are squared and added up by patient. (The usual n / (n - 1) would cancel out.)"""
    shape = (len(counts), *total.shape[1:])
    n, added = ((counts @ part.reshape(len(part), -1)).reshape(shape) for part in (count, total))
    labels = (n > 0).sum(axis=1)
    middle, share = np.nan_to_num(_ratio(added, n)), np.nan_to_num(_ratio(1.0, n * labels[:, None]))
    errors = np.empty_like(labels, np.float64)
    step = max(1, AT_ONCE // max(total.size, 1))
    for start in range(0, len(counts), step):
        some = slice(start, start + step)
        residuals = ((total - middle[some, None] * count) * share[some, None]).sum(axis=2)
        errors[some] = np.einsum("dp,dpc->dc", counts[some], residuals**2)
    return _ratio(middle.sum(axis=1), labels), np.sqrt(errors)


def _studentised(
    centre: np.ndarray, error: np.ndarray, means: np.ndarray, errors: np.ndarray, level: float
) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(errors > SAME * np.abs(means).max(axis=0, initial=0), (means - centre) / errors, np.nan)
    # a draw of equal values lies as far out as any, but has no error of its own to say how far
    far = np.abs(np.nan_to_num(ratios)).max(axis=0)
    ratios = np.where(np.isnan(ratios), np.sign(means - centre) * far, ratios)
    tail = (1 - level) / 2
    return centre - error * np.stack([quantile(ratios, 1 - tail), quantile(ratios, tail)])


def quantile(values: np.ndarray, part: float) -> np.ndarray:
    """(columns,) of (rows, columns), over what is not nan, between neighbours in proportion; nan where nothing is."""
    ordered, last = np.sort(values, axis=0), np.maximum((~np.isnan(values)).sum(axis=0) - 1, 0)
    place = part * last
    below = np.floor(place).astype(np.int64)
    columns = np.arange(values.shape[1])
    first, second = ordered[below, columns], ordered[np.minimum(below + 1, last), columns]
    with np.errstate(invalid="ignore"):  # an infinite neighbour
        between = first + (second - first) * (place - below)
    return np.where((place == below) | (first == second), first, between)


def _ratio(part: np.ndarray | float, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, part / whole, math.nan)
