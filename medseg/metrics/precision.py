"""Precision (positive predictive value): share of the predicted voxels that are true, |A and B| / |B|.

Unit: none, 0 to 1. Empty masks: nan (undefined) when the prediction is empty, whatever the truth; 0 when only the
truth is.
Source: Maier-Hein et al. 2024, "Metrics reloaded", Nature Methods 21, doi:10.1038/s41592-023-02151-z.
"""

from __future__ import annotations

import math

from medseg.metrics import Number
from medseg.pair import Pair
from medseg.settings import Settings

NUMBERS = {"precision": Number("", "higher")}
NEEDS_MM = False


class Options(Settings):
    pass


def compute(pair: Pair, options: Options) -> dict[str, float]:
    voxels = pair.voxels
    return {"precision": voxels.both / voxels.predicted if voxels.predicted else math.nan}
