"""Screening: the sensitivity that a class reaches at fixed specificities.

Over a whole set: places (images, slices or voxels) of all cases are pooled. The threshold is the lowest that keeps the
specificity at or above what is asked for, without interpolation; it is chosen on these very cases, so a threshold that
was fixed before would do a little worse. nan where a class is everywhere or nowhere. Unit: none, 0 to 1.
Source: Maier-Hein et al. 2024, "Metrics reloaded", Nature Methods 21, doi:10.1038/s41592-023-02151-z.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from medseg.prediction import Evidence
from medseg.settings import Settings
from medseg.statistics import places

OVER = "set"
UNIT = ""
HIGHER_IS_BETTER = True
INTERVAL = True


class Options(Settings):
    specificities: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = (0.9, 0.95)
    """Shares of the places without the class that must not be called."""


def compute(cases: Sequence[Evidence], *, names: tuple[str, ...], options: Options) -> dict[str, float]:
    each = places(cases, len(names)).of_each()
    return {
        f"{name}: sensitivity at specificity {specificity:g}": _sensitivity(truth, scores, specificity)
        for name, (truth, scores) in zip(names, each, strict=True)
        for specificity in options.specificities
    }


def _sensitivity(truth: np.ndarray, scores: np.ndarray, specificity: float) -> float:
    positives, negatives = scores[truth], np.sort(scores[~truth])
    if not len(positives) or not len(negatives):
        return float("nan")
    # So many negatives must stay uncalled; a hair less, because 0.55 * 100 comes out above 55.
    spared = math.ceil(specificity * len(negatives) - 1e-9)
    return float(np.mean(positives > negatives[spared - 1]))
