"""Sensitivity (recall): share of the true voxels that were found, |A and B| / |A|.

Unit: none, 0 to 1. Empty masks: nan (undefined) when the truth is empty, whatever the prediction; 0 when only the
prediction is.
Source: Maier-Hein et al. 2024, "Metrics reloaded", Nature Methods 21, doi:10.1038/s41592-023-02151-z.
"""

from __future__ import annotations

import math

from medseg.metrics import Number
from medseg.pair import Pair
from medseg.settings import Settings

NUMBERS = {"sensitivity": Number("", "higher")}
NEEDS_MM = False


class Options(Settings):
    pass


def compute(pair: Pair, options: Options) -> dict[str, float]:
    voxels = pair.voxels
    return {"sensitivity": voxels.both / voxels.truth if voxels.truth else math.nan}
