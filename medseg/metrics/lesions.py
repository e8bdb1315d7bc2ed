"""Lesion-wise detection: how many components of the truth are found, and how many of the prediction are wrong.

Components are connected by all 26 neighbours (8 in a flat image). A lesion is found if its IoU with one of the
prediction's components is above 0.1; a component that finds no lesion is a false positive. With `iou: 0` one voxel is
enough, and then a component that covers everything finds everything. One component may find several lesions, unless
`one_to_one` is asked for: then pairs of the highest IoU go first, of equal ones in the order of voxels.
* `lesion_sensitivity`: share of the lesions that are found; `lesion_precision`: share of the components that find one.
* `lesion_f1`: their harmonic mean.
* `lesion_false_positives`, `lesion_missed`: counts of this scan.
Lesions below the smallest size do not count, nor do components that find only these; nor small false positives.
Unit: none, 0 to 1, and counts. Empty masks: the sensitivity is nan (undefined) without a lesion, the precision without
a component, and F1 without either; F1 is 0 when only one mask is empty. Counts are always defined.
Source: Maier-Hein et al. 2024, "Metrics reloaded", Nature Methods 21, doi:10.1038/s41592-023-02151-z; Baumgartner et
al. 2021, "nnDetection", MICCAI, arXiv:2106.00817 (IoU of 0.1).
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from pydantic import Field

from medseg.instances import overlaps
from medseg.metrics import Number
from medseg.pair import Pair
from medseg.settings import Settings

NUMBERS = {
    "lesion_f1": Number("", "higher"),
    "lesion_sensitivity": Number("", "higher"),
    "lesion_precision": Number("", "higher"),
    "lesion_false_positives": Number("lesions", "lower"),
    "lesion_missed": Number("lesions", "lower"),
}
NEEDS_MM = False
ROUNDING = 1e-9
"""Relative: ten voxels of 0.1 mm3 are 1 mm3, on paper."""


class Options(Settings):
    iou: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """IoU above which a component finds a lesion; 0: one voxel is enough."""
    one_to_one: bool = False
    """A component finds one lesion at most, and a lesion is found by one component."""
    smallest_mm3: Annotated[float, Field(ge=0)] = 0.0
    """Volume of the smallest lesion that counts; of a photograph, pixels."""


def compute(pair: Pair, options: Options) -> dict[str, float]:
    truth, predicted = pair.components
    found = overlaps(truth.numbers, predicted.numbers).above(options.iou)
    if options.one_to_one:
        found = found.one_to_one()
    voxels = options.smallest_mm3 / (1000 * pair.voxel_ml) * (1 - ROUNDING)
    lesions, large = (sizes >= max(voxels, 1) for sizes in (found.truth, found.predicted))
    hit, right, used = np.zeros_like(lesions), np.zeros_like(large), np.zeros_like(large)
    hit[found.pairs[:, 0]] = True
    used[found.pairs[:, 1]] = True
    right[found.pairs[lesions[found.pairs[:, 0]], 1]] = True
    hits, missed, rights, wrong = (
        int(np.count_nonzero(each)) for each in (lesions & hit, lesions & ~hit, right, large & ~used)
    )
    sensitivity = hits / (hits + missed) if hits + missed else math.nan
    precision = rights / (rights + wrong) if rights + wrong else math.nan
    return {
        "lesion_f1": _f1(sensitivity, precision),
        "lesion_sensitivity": sensitivity,
        "lesion_precision": precision,
        "lesion_false_positives": float(wrong),
        "lesion_missed": float(missed),
    }


def _f1(sensitivity: float, precision: float) -> float:
    if math.isnan(sensitivity) and math.isnan(precision):
        return math.nan
    if not sensitivity > 0 or not precision > 0:
        return 0.0
    return 2 * sensitivity * precision / (sensitivity + precision)
