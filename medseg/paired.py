"""Runs on the same cases: tests of paired differences by patient, Holm's correction, rankings and how stable they are.

Images of one patient are no independent pairs, so tests see one number a patient: the mean difference of his images.
Rankings are made as challenges make them ("rank, then aggregate"): runs are ranked in each case, and ranks averaged.

Source: Wilcoxon 1945, "Individual comparisons by ranking methods", Biometrics Bulletin 1; Pratt 1959, "Remarks on
zeros and ties in the Wilcoxon signed rank procedures", JASA 54; Holm 1979, "A simple sequentially rejective multiple
test procedure", Scandinavian Journal of Statistics 6; Wiesenfarth et al. 2021, "Methods and open-source toolkit for
analyzing and visualizing challenge results", Scientific Reports 11, doi:10.1038/s41598-021-82017-6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from medseg import clustered

FLIPS = 9999
"""Random patterns of signs of a permutation test; where there are fewer, all of them are taken."""
FEW = 13
"""Patients of whom all patterns of signs are no more than that."""
SEED = 0


def differences(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """first - second; nan where either is undefined, and 0 where both are infinite: neither is better."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(first) & (first == second), 0, first - second)


class Answer(NamedTuple):
    """Of a test: two-sided p, nan where there is nothing to test; and on which side of 0 the differences lie, as the
    test sees them: -1, 0 or 1."""

    p: float
    side: int


def wilcoxon(by_patient: np.ndarray) -> Answer:
    """Signed-rank test that differences of patients lie evenly around 0.

    Patients without any difference keep their ranks (Pratt). Infinite differences are larger than all finite ones.

    Args:
        by_patient: a difference a patient; nan is left out.
    """
    ranks = _signed_ranks(by_patient)
    if not len(ranks):
        return Answer(math.nan, 0)
    tied = len(set(np.abs(ranks))) < len(ranks) or not ranks.all()
    if tied and len(ranks) <= FEW:  # SciPy also goes through all signs, but for seconds
        p = permutation(ranks).p
    else:
        p = float(stats.wilcoxon(ranks, zero_method="pratt").pvalue) if ranks.any() else 1.0
    return Answer(p, int(np.sign(ranks.sum())))


def permutation(by_patient: np.ndarray) -> Answer:
    """The mean difference of patients, among those with the signs of patients flipped at random; of few patients, with
    all patterns of signs.

    Where a difference is infinite, signed ranks take the place of the differences: their mean is finite.
    """
    known = by_patient[~np.isnan(by_patient)]
    known = known if np.isfinite(known).all() else _signed_ranks(known)
    if len(known) < 2:
        return Answer(1.0 if len(known) else math.nan, 0)
    found = stats.permutation_test(
        (known,),
        lambda values, axis: np.abs(values.mean(axis=axis)),
        permutation_type="samples",
        vectorized=True,
        n_resamples=FLIPS,
        alternative="greater",
        random_state=np.random.default_rng(SEED),
    )
    return Answer(float(found.pvalue), int(np.sign(known.mean())))


TESTS = {"wilcoxon": wilcoxon, "permutation": permutation}


def _signed_ranks(values: np.ndarray) -> np.ndarray:
    known = values[~np.isnan(values)]
    return np.sign(known) * stats.rankdata(np.abs(known))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for how many there are, in the same order; nan stays nan and counts for nothing."""
    given = np.array(p_values, np.float64)
    known = np.flatnonzero(~np.isnan(given))
    order = known[np.argsort(given[known], kind="stable")]
    corrected = given.copy()
    steps = given[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected.tolist()


class Ranking(NamedTuple):
    """Attributes:
    mean: (runs,) mean rank over the values; 1 is best.
    place: (runs,) rank of the mean rank; equal ones share the mean of their places.
    shares: (runs, runs) share of the draws of patients in which a run (row) has each place (column, from 1).
    tau: mean of Kendall's tau-b between the order in each draw and the order of all; nan where all runs are equal.
    """

    mean: np.ndarray
    place: np.ndarray
    shares: np.ndarray
    tau: float


def ranks(values: np.ndarray, better: str) -> np.ndarray:
    """(rows, runs): rank of each run in each row, 1 for the best, ties the mean of their ranks; nan in rows where any
    run's value is undefined.

    Args:
        values: (rows, runs), inf for a distance to nothing.
        better: as in `medseg.metrics.Number`.
    """
    worse = {"higher": -values, "lower": values, "nearer zero": np.abs(values)}[better]
    return stats.rankdata(worse, axis=1, nan_policy="propagate")


def ranking(of_rows: np.ndarray, patients: np.ndarray, *, draws: int = clustered.DRAWS, seed: int = 0) -> Ranking:
    """Aggregate ranks, and draw patients anew to see how often the order stays.

    Args:
        of_rows: (rows, runs) as `ranks` makes them.
        patients: (rows,) whose each row is, numbered from 0.
    """
    total, count = clustered.sums(of_rows, patients)
    counts = clustered.times(clustered.drawn(len(total), draws=draws, seed=seed))
    n = counts @ count
    drawn = (counts @ total)[(n > 0).all(axis=1)] / n[(n > 0).all(axis=1)]
    mean = clustered.mean(of_rows)
    place, places = stats.rankdata(mean), stats.rankdata(drawn, axis=1, method="min")
    shares = (places[:, :, None] == np.arange(1, len(mean) + 1)).mean(axis=0)
    return Ranking(mean, place, shares, _agreement(mean, drawn))


def _agreement(mean: np.ndarray, drawn: np.ndarray) -> float:
    """Mean of Kendall's tau-b between `mean` and each row of `drawn`; a row in which all runs are equal says 0."""
    first, second = np.triu_indices(len(mean), 1)
    whole, each = (np.sign(order[..., first] - order[..., second]) for order in (mean, drawn))
    sizes = np.sqrt((whole**2).sum() * (each**2).sum(axis=1))
    if not whole.any() or not len(each):
        return math.nan
    return float(np.divide((whole * each).sum(axis=1), sizes, out=np.zeros(len(each)), where=sizes > 0).mean())
