"""Volume error: predicted minus true volume in millilitres.

Unit: ml; positive when too much was segmented, best at 0. Empty masks have a volume of 0 ml, so it is always defined.
It says nothing about place: two masks of equal size that do not touch have an error of 0.
"""

from __future__ import annotations

import numpy as np

from medseg.settings import Settings

UNIT = "ml"
HIGHER_IS_BETTER = False
NEEDS_MM = True


class Options(Settings):
    pass


def compute(truth: np.ndarray, predicted: np.ndarray, *, spacing_mm: np.ndarray, options: Options) -> float:
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    return (np.count_nonzero(predicted) - np.count_nonzero(truth)) * voxel_ml
