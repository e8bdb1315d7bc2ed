"""Classification: accuracy; sensitivity, specificity, precision and F1 of each class, and their means over classes.

Over a whole set: places (images, slices or voxels) of all cases are pooled. Where classes exclude each other the answer
is the likeliest one, and accuracy is the share of places with the right answer; else each class is a question of its
own, answered by its threshold, and accuracy is the share of right answers to all questions. Rows of means leave out
classes for which a number is undefined; of two or more classes, `mean: sensitivity` is the balanced accuracy and
`mean: F1` the macro F1. nan where there is nothing to count: sensitivity without such a place, specificity without any
other, precision where the class was never answered, F1 where it is neither there nor answered. Unit: none, 0 to 1.
Source: Maier-Hein et al. 2024, "Metrics reloaded", Nature Methods 21, doi:10.1038/s41592-023-02151-z.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from medseg.labels import IGNORE
from medseg.prediction import Evidence
from medseg.settings import Settings
from medseg.statistics import mean_of_defined, places, share

OVER = "set"
UNIT = ""
HIGHER_IS_BETTER = True
INTERVAL = True
NAMES = ("sensitivity", "specificity", "precision", "F1")


class Options(Settings):
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    """Probability above which a class is answered. Empty: the likeliest class, or one half where classes do not exclude
    each other. A number (an operating point) makes each class a question of its own."""


def compute(cases: Sequence[Evidence], *, names: tuple[str, ...], options: Options) -> dict[str, float]:
    pooled = places(cases, len(names))
    likeliest = pooled.exclusive and options.threshold is None
    if likeliest:
        pooled = pooled.known()
        answers = np.arange(len(names))[:, None] == pooled.probabilities.argmax(axis=0)
    else:
        answers = pooled.probabilities > (0.5 if options.threshold is None else options.threshold)
    known, truth = pooled.truth != IGNORE, pooled.truth == 1
    right = (truth == answers) & known
    # Where one class is right all of them are, if one place has one answer.
    accuracy = share(right.all(axis=0).sum(), right.shape[1]) if likeliest else share(right.sum(), known.sum())
    table = {name: _scores(*row) for name, row in zip(names, zip(truth, answers, known, strict=True), strict=True)}
    rows = {"accuracy": accuracy}
    rows |= {f"{name}: {score}": values[score] for name, values in table.items() for score in NAMES}
    if len(names) > 1:
        rows |= {f"mean: {score}": mean_of_defined([values[score] for values in table.values()]) for score in NAMES}
    return rows


def _scores(truth: np.ndarray, answer: np.ndarray, known: np.ndarray) -> dict[str, float]:
    truth, answer = truth[known], answer[known]
    hits, there, called = (int(np.count_nonzero(each)) for each in (truth & answer, truth, answer))
    elsewhere = truth.size - there
    return {
        "sensitivity": share(hits, there),
        "specificity": share(elsewhere - (called - hits), elsewhere),
        "precision": share(hits, called),
        "F1": share(2 * hits, there + called),
    }
