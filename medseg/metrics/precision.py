"""Precision (positive predictive value): share of the predicted voxels that are true, |A and B| / |B|.

Unit: none, 0 to 1. Empty masks: nan (undefined) when the prediction is empty, whatever the truth; 0 when only the
truth is.
Source: Maier-Hein et al. 2024, "Metrics reloaded", Nature Methods 21, doi:10.1038/s41592-023-02151-z.
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
    claimed = np.count_nonzero(predicted)
    return np.count_nonzero(truth & predicted) / claimed if claimed else float("nan")
