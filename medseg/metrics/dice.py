"""Dice: overlap of the two masks, 2 |A and B| / (|A| + |B|).

Unit: none, 0 to 1. Empty masks: nan (undefined) when both are empty, 0 when one is.
Source: Dice 1945, "Measures of the Amount of Ecologic Association Between Species", Ecology 26.
"""

from __future__ import annotations

import math

from medseg.metrics import Number
from medseg.pair import Pair
from medseg.settings import Settings

NUMBERS = {"dice": Number("", "higher")}
NEEDS_MM = False


class Options(Settings):
    pass


def compute(pair: Pair, options: Options) -> dict[str, float]:
    voxels = pair.voxels
    whole = voxels.truth + voxels.predicted
    return {"dice": 2 * voxels.both / whole if whole else math.nan}
