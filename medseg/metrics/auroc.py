"""AUROC: the chance that a place with the label scores higher than one without it, ties counting one half.

Over a whole set: places (images, slices or voxels) of all cases are pooled. A row for each label against all others,
and `mean` over the labels for which it is defined. nan where a label is everywhere or nowhere: then there is nothing to
tell apart. Unit: none; 0.5 is chance, 1 perfect.
Source: Hanley and McNeil 1982, "The meaning and use of the area under a ROC curve", Radiology 143.
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
    rows = {name: ranking.auroc(truth, scores) for name, (truth, scores) in zip(names, each, strict=True)}
    return {**rows, "mean": mean_of_defined(list(rows.values()))}
