"""AUPRC: average precision, the area under precision over recall as steps.

Over a whole set: places (images, slices or voxels) of all cases are pooled. A row for each label against all others,
and `mean` over the labels for which it is defined. Chance is the share of places that have the label, so numbers of
sets with different shares do not compare. nan where a label is everywhere or nowhere. Unit: none, 0 to 1.
Source: Davis and Goadrich 2006, "The relationship between Precision-Recall and ROC curves", ICML, on why steps and not
trapezoids.
"""

from __future__ import annotations

from collections.abc import Sequence

from medseg import ranking
from medseg.prediction import Evidence
from medseg.settings import Settings
from medseg.statistics import mean_of_defined, places

OVER = "set"
UNIT = ""
HIGHER_IS_BETTER = True
INTERVAL = True


class Options(Settings):
    pass


def compute(cases: Sequence[Evidence], *, names: tuple[str, ...], options: Options) -> dict[str, float]:
    each = places(cases, len(names)).of_each()
    rows = {name: ranking.average_precision(truth, scores) for name, (truth, scores) in zip(names, each, strict=True)}
    return {**rows, "mean": mean_of_defined(list(rows.values()))}
