"""Sets of cases: their places pooled, intervals that resample patients, sets by patient or stratum.

Images and slices of one patient resemble one another, so resampling them one by one makes intervals too narrow. Here a
patient is drawn with all that belongs to him. Source: Field and Welsh 2007, "Bootstrapping clustered data", JRSS B 69.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple, overload

import numpy as np

from medseg import clustered
from medseg.clustered import DRAWS, LEVEL
from medseg.labels import IGNORE
from medseg.prediction import Evidence

Statistic = Callable[[Sequence[Evidence]], dict[str, float]]
"""A set of cases -> numbers by name; nan where undefined."""
Interval = tuple[float, float]
TOLERANCE = 1e-3
"""How far the sum of float32 probabilities may lie from 1."""


class Places(NamedTuple):
    """All places of all cases: images, slices or voxels, whatever the evidence is of.

    Attributes:
        truth: (R, N) uint8, a row for each label: 1, 0 or IGNORE.
        probabilities: (R, N) float32.
        exclusive: whether the labels exclude each other: there are several, exactly one holds wherever the truth is
            known, and all probabilities sum to one. Then the likeliest label is the answer.
    """

    truth: np.ndarray
    probabilities: np.ndarray
    exclusive: bool

    def of_each(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each label: truth (boolean) and probability of the places where its truth is known."""
        for truth, probabilities in zip(self.truth, self.probabilities, strict=True):
            known = truth != IGNORE
            yield truth[known] == 1, probabilities[known]

    def known(self) -> Places:
        """Only the places where the truth of every label is known."""
        kept = (self.truth != IGNORE).all(axis=0)
        return Places(self.truth[:, kept], self.probabilities[:, kept], self.exclusive)


def places(cases: Sequence[Evidence], labels: int) -> Places:
    """Pool all cases; each place counts alike, whichever case it is of.

    Args:
        cases: may be empty.
        labels: how many there are, R.
    """
    if isinstance(cases, Resample):
        return cases.places(labels)
    if not cases:
        return Places(np.zeros((labels, 0), np.uint8), np.zeros((labels, 0), np.float32), False)
    truth = np.concatenate([case.truth.reshape(labels, -1) for case in cases], axis=1)
    probabilities = np.concatenate([case.probabilities.reshape(labels, -1) for case in cases], axis=1)
    pooled = Places(truth, probabilities, False)
    return pooled._replace(exclusive=labels > 1 and _one_of_all(pooled.known()))


def _one_of_all(pooled: Places) -> bool:
    sums = pooled.probabilities.sum(axis=0)
    return sums.size > 0 and bool((pooled.truth.sum(axis=0) == 1).all() and (np.abs(sums - 1) < TOLERANCE).all())


def of_each_case(cases: Sequence[Evidence], measure: Callable[..., Sequence[float]], *given: Any) -> np.ndarray:
    """(cases, n): `measure(case, *given)` of each, which must depend on nothing else. When cases are drawn again and
    again, each is measured once."""
    if isinstance(cases, Resample):
        return cases.of_each_case(measure, *given)
    return np.array([measure(case, *given) for case in cases], np.float64)


def remembered(cases: Sequence[Evidence], measure: Callable[..., Any], *given: Any) -> list[Any]:
    """`of_each_case` for what is no row of numbers."""
    if isinstance(cases, Resample):
        return cases.remembered(measure, *given)
    return [measure(case, *given) for case in cases]


def share(part: float, whole: float) -> float:
    """part / whole; nan where there is nothing to count."""
    return float(part / whole) if whole else float("nan")


def mean_of_defined(values: Sequence[float]) -> float:
    """Mean of what is not nan; nan where all is."""
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def intervals(
    statistic: Statistic, cases: Sequence[Evidence], *, draws: int = DRAWS, level: float = LEVEL, seed: int = 0
) -> dict[str, Interval]:
    """Percentile interval of each of a statistic's numbers; (nan, nan) where it is undefined in every draw."""
    return _bounds([statistic(drawn) for drawn in resamples(cases, draws=draws, seed=seed)], level)


def gap_intervals(
    statistic: Statistic,
    first: Sequence[Evidence],
    second: Sequence[Evidence],
    *,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, Interval]:
    """Percentile interval of `first` less `second`, two sets that are drawn independently."""
    pairs = zip(resamples(first, draws=draws, seed=seed), resamples(second, draws=draws, seed=seed + 1), strict=True)
    gaps = []
    for one, other in pairs:
        left, right = statistic(one), statistic(other)
        gaps.append({name: left[name] - right[name] for name in left})
    return _bounds(gaps, level)


class Pool:
    """Cases to draw from, and what is worth computing once for all draws."""

    def __init__(self, cases: Sequence[Evidence]):
        self.cases = cases
        self.memo: dict[Any, Any] = {}

    @cached_property
    def sizes(self) -> np.ndarray:
        """Numbers in the truth of each case, over all labels."""
        return np.array([case.truth.size for case in self.cases], np.int64)

    def once(self, key: Any, compute: Callable[[], Any]) -> Any:
        if key not in self.memo:
            self.memo[key] = compute()
        return self.memo[key]


class Resample(Sequence[Evidence]):
    """Some cases of a pool, which may come up several times. To pool their places costs no loop over the cases, so that
    a thousand draws of tens of thousands of images take seconds."""

    def __init__(self, pool: Pool, picks: np.ndarray):
        self._pool, self._picks = pool, picks

    def __len__(self) -> int:
        return len(self._picks)

    @overload
    def __getitem__(self, place: int) -> Evidence: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Evidence]: ...

    def __getitem__(self, place: int | slice) -> Evidence | Sequence[Evidence]:
        if isinstance(place, slice):
            return [self._pool.cases[pick] for pick in self._picks[place]]
        return self._pool.cases[self._picks[place]]

    def places(self, labels: int) -> Places:
        whole: Places = self._pool.once(labels, lambda: places(self._pool.cases, labels))
        counts = self._pool.sizes // labels
        columns = _runs((np.cumsum(counts) - counts)[self._picks], counts[self._picks])
        return Places(whole.truth[:, columns], whole.probabilities[:, columns], whole.exclusive)

    def of_each_case(self, measure: Callable[..., Sequence[float]], *given: Any) -> np.ndarray:
        whole = self._pool.once((measure, given), lambda: of_each_case(self._pool.cases, measure, *given))
        return whole[self._picks]

    def remembered(self, measure: Callable[..., Any], *given: Any) -> list[Any]:
        whole = self._pool.once((measure, given), lambda: remembered(self._pool.cases, measure, *given))
        return [whole[pick] for pick in self._picks]


def _runs(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """start, start + 1, ... of each run, one run after another."""
    ends = np.cumsum(counts)
    return np.arange(counts.sum()) + np.repeat(starts - (ends - counts), counts)


def resamples(cases: Sequence[Evidence], *, draws: int, seed: int) -> Iterator[Resample]:
    """As many patients as there are, drawn with replacement, each with all cases. The cases' order has no influence."""
    patients: dict[str, list[Evidence]] = {}
    for case in sorted(cases, key=lambda case: case.case):
        patients.setdefault(case.patient, []).append(case)
    names = sorted(patients)
    pool = Pool([case for name in names for case in patients[name]])
    counts = np.array([len(patients[name]) for name in names], np.int64)
    starts = np.cumsum(counts) - counts
    for chosen in clustered.drawn(len(names), draws=draws, seed=seed):
        yield Resample(pool, _runs(starts[chosen], counts[chosen]))


def _bounds(rows: Sequence[dict[str, float]], level: float) -> dict[str, Interval]:
    tail = 50 * (1 - level)
    bounds = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        values = values[~np.isnan(values)]
        low, high = np.percentile(values, (tail, 100 - tail)) if len(values) else (np.nan, np.nan)
        bounds[name] = (float(low), float(high))
    return bounds


def by_patient(cases: Sequence[Evidence], *, how: Literal["max", "mean"], exclusive: bool = False) -> list[Evidence]:
    """One evidence a patient: a class holds if it holds in any image or slice; its probability is the highest, or the
    mean. What is not known is left out; a patient of whom nothing is known is unknown.

    Args:
        exclusive: the classes exclude each other in an image. The first one, which is that of nothing found, then holds
            for a patient where none of the others does, and is as likely as none of them.
    """
    patients: dict[str, list[Evidence]] = {}
    for case in cases:
        patients.setdefault(case.patient, []).append(case)
    merged = []
    for patient, members in patients.items():
        truth = np.concatenate([case.truth.reshape(len(case.truth), -1) for case in members], axis=1)
        chances = np.concatenate([case.probabilities.reshape(len(case.truth), -1) for case in members], axis=1)
        known = truth != IGNORE
        kept = np.where(known, chances, np.nan)
        with np.errstate(all="ignore"):
            summed = {"max": np.where(known, chances, -1).max(axis=1), "mean": _mean(kept)}[how]
        there = np.where(known.any(axis=1), ((truth == 1) & known).any(axis=1), IGNORE).astype(np.uint8)
        if exclusive:
            others = there[1:]
            there[0] = 0 if (others == 1).any() else IGNORE if (others == IGNORE).any() else 1
            summed[0] = 1 - summed[1:].max() if how == "max" else summed[0]
        merged.append(
            Evidence(
                case=patient,
                patient=patient,
                truth=there[:, None],
                probabilities=np.clip(summed, 0, 1).astype(np.float32)[:, None],
                centre=members[0].centre,
                attributes=members[0].attributes,
            )
        )
    return merged


def _mean(values: np.ndarray) -> np.ndarray:
    """Of each row, over what is not nan; 0 where nothing is left."""
    counts = (~np.isnan(values)).sum(axis=1)
    return np.nansum(values, axis=1) / np.maximum(counts, 1)


def entropy(probabilities: np.ndarray, *, exclusive: bool = True) -> np.ndarray:
    """Shannon entropy in nats: 0 where one answer is certain, log R where all of R classes are as likely.

    Args:
        probabilities: (R, ...). A single row is a question of yes or no.
        exclusive: whether the rows are one distribution. Else each row is a question of yes or no, and their entropies
            add up.

    Returns:
        (...) float64.

    Example:
        >>> entropy(np.array([0.5, 0.5])).item() == np.log(2) == entropy(np.array([0.5])).item()
        True
    """
    p = np.asarray(probabilities, np.float64)
    if len(p) == 1 or not exclusive:
        p = np.stack([p, 1 - p])
        return -_times_log(p).sum(axis=(0, 1))
    return -_times_log(p).sum(axis=0)


def _times_log(p: np.ndarray) -> np.ndarray:
    """p log p, and 0 for 0."""
    return p * np.log(np.where(p > 0, p, 1))
