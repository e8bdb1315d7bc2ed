"""Intersection over union (Jaccard index), |A and B| / |A or B|.

Unit: none, 0 to 1. Empty masks: nan (undefined) when both are empty, 0 when one is.
Source: Jaccard 1912, "The Distribution of the Flora in the Alpine Zone", New Phytologist 11.
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
    union = np.count_nonzero(truth | predicted)
    return np.count_nonzero(truth & predicted) / union if union else float("nan")
