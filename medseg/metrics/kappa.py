"""Kappa: agreement of answers and truth beyond chance; with quadratic weights, for classes that are grades in order.

Over a whole set: places (images, slices or voxels) of all cases are pooled. 1 is full agreement, 0 that of answers
which are drawn at random as often as they are given, below 0 worse than this.
* `kappa`: Cohen's, over all classes, the likeliest one being the answer.
* `quadratic kappa`: an answer two grades off counts four times as much as one that is one off. The order of the label
  table is that of the grades.
* `...: kappa`: of each class against all others; where classes do not exclude each other a probability above one half
  is a yes. Then the first two are nan.
nan where there is nothing to count, or answers and truth are all of one class. Unit: none, -1 to 1.
Source: Cohen 1960, "A coefficient of agreement for nominal scales", Educ Psychol Meas 20; Cohen 1968, "Weighted kappa",
Psychological Bulletin 70.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medseg.prediction import Evidence
from medseg.settings import Settings
from medseg.statistics import places, share

OVER = "set"
UNIT = ""
HIGHER_IS_BETTER = True
INTERVAL = True


class Options(Settings):
    pass


def compute(cases: Sequence[Evidence], *, names: tuple[str, ...], options: Options) -> dict[str, float]:
    pooled = places(cases, len(names))
    if pooled.exclusive:
        pooled = pooled.known()
        truth, answers = pooled.truth.argmax(axis=0), pooled.probabilities.argmax(axis=0)
        table = _table(truth, answers, len(names))
        each = [_table(truth == place, answers == place, 2) for place in range(len(names))]
    else:
        table = np.zeros((len(names), len(names)))
        each = [_table(truth, chances > 0.5, 2) for truth, chances in pooled.of_each()]
    grades = np.arange(len(names))
    rows = {
        "kappa": _kappa(table, grades[:, None] != grades),
        "quadratic kappa": _kappa(table, np.square(grades[:, None] - grades)),
    }
    return rows | {f"{name}: kappa": _kappa(one, ~np.eye(2, dtype=bool)) for name, one in zip(names, each, strict=True)}


def _table(truth: np.ndarray, answers: np.ndarray, size: int) -> np.ndarray:
    """(size, size) counts of truths and answers."""
    return np.bincount(truth.astype(int) * size + answers, minlength=size * size).reshape(size, size)


def _kappa(table: np.ndarray, weights: np.ndarray) -> float:
    """One less the disagreement over that of chance."""
    chance = (weights * np.outer(table.sum(axis=1), table.sum(axis=0))).sum()
    disagreement = share((weights * table).sum() * table.sum(), chance)
    return 1 - disagreement
