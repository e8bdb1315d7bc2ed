"""Dice: overlap of the two masks, 2 |A and B| / (|A| + |B|).

Unit: none, 0 to 1. Empty masks: nan (undefined) when both are empty, 0 when one is.
Source: Dice 1945, "Measures of the Amount of Ecologic Association Between Species", Ecology 26.
"""

from __future__ import annotations

import numpy as np

from medseg.settings import Settings

UNIT = ""
HIGHER_IS_BETTER = True
NEEDS_MM = False


class Options(Settings):
    pass


def compute(truth: np.ndarray, predicted: np.ndarray, *, spacing_mm: np.ndarray, options: Options) -> float:
    voxels = np.count_nonzero(truth) + np.count_nonzero(predicted)
    return 2 * np.count_nonzero(truth & predicted) / voxels if voxels else float("nan")
