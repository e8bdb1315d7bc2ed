"""Sensitivity (recall): share of the true voxels that were found, |A and B| / |A|.

Unit: none, 0 to 1. Empty masks: nan (undefined) when the truth is empty, whatever the prediction; 0 when only the
prediction is.
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
    true = np.count_nonzero(truth)
    return np.count_nonzero(truth & predicted) / true if true else float("nan")
