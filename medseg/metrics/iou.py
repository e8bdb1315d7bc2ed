"""Intersection over union (Jaccard index), |A and B| / |A or B|.

Unit: none, 0 to 1. Empty masks: nan (undefined) when both are empty, 0 when one is.
Source: Jaccard 1912, "The Distribution of the Flora in the Alpine Zone", New Phytologist 11.
"""

from __future__ import annotations

import math

from medseg.metrics import Number
from medseg.pair import Pair
from medseg.settings import Settings

NUMBERS = {"iou": Number("", "higher")}
NEEDS_MM = False


class Options(Settings):
    pass


def compute(pair: Pair, options: Options) -> dict[str, float]:
    voxels = pair.voxels
    union = voxels.truth + voxels.predicted - voxels.both
    return {"iou": voxels.both / union if union else math.nan}
