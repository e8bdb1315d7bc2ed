"""Normalised surface distance (surface Dice): share of both surfaces that lies within a tolerance of the other.

Unit: none, 0 to 1. Every surface voxel (see `medseg.surface`) counts once, as in MONAI; DeepMind's surface-distance
weighs them by area, and differs a little. A distance equal to the tolerance is within it.
Empty masks: nan (undefined) when both are empty, 0 when one is.
Source: Nikolov et al. 2021, "Clinically Applicable Segmentation of Head and Neck Anatomy for Radiotherapy",
J Med Internet Res 23, arXiv:1809.04430.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from medseg.settings import Settings
from medseg.surface import distances_mm

UNIT = ""
HIGHER_IS_BETTER = True
NEEDS_MM = True
ROUNDING = 1e-6
"""Relative; distances are float32, so one that equals the tolerance may come out a little above it."""


class Options(Settings):
    tolerance_mm: Annotated[float, Field(ge=0)] = 2.0
    """Distance that is accepted; of the order of the variation between human readers."""


def compute(truth: np.ndarray, predicted: np.ndarray, *, spacing_mm: np.ndarray, options: Options) -> float:
    present = truth.any(), predicted.any()
    if not all(present):
        return 0.0 if any(present) else float("nan")
    both = np.concatenate(distances_mm(truth, predicted, spacing_mm))
    return np.count_nonzero(both <= options.tolerance_mm * (1 + ROUNDING)) / both.size
