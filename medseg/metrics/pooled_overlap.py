"""Pooled overlap: Dice, IoU, sensitivity, specificity and accuracy of each label over the voxels of all cases at once.

A large structure weighs more than a small one, and a case without the structure costs only its false alarms: such
numbers are higher than means over cases (`dice`), and some papers on skin lesions give them without saying so. A voxel
is found where its probability lies above the threshold. nan where there is nothing to count. Unit: none, 0 to 1.
Source: Maier-Hein et al. 2024, "Metrics reloaded", Nature Methods 21, doi:10.1038/s41592-023-02151-z.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from medseg.labels import IGNORE
from medseg.prediction import Evidence
from medseg.settings import Settings
from medseg.statistics import of_each_case, share

OVER = "set"
UNIT = ""
HIGHER_IS_BETTER = True
INTERVAL = True


class Options(Settings):
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability above which a voxel is found."""


def compute(cases: Sequence[Evidence], *, names: tuple[str, ...], options: Options) -> dict[str, float]:
    """Counts are added up case by case, so that memory does not grow with the set."""
    rows: dict[str, float] = {}
    for place, name in enumerate(names):
        counts = of_each_case(cases, _counts, place, options.threshold)
        both, there, found, known = counts.sum(axis=0) if len(counts) else np.zeros(4)
        rows |= {
            f"{name}: Dice": share(2 * both, there + found),
            f"{name}: IoU": share(both, there + found - both),
            f"{name}: sensitivity": share(both, there),
            f"{name}: specificity": share(known - there - found + both, known - there),
            f"{name}: accuracy": share(known - there - found + 2 * both, known),
        }
    return rows


def _counts(case: Evidence, place: int, threshold: float) -> list[int]:
    """Voxels of one label that are true and found, true, found, known."""
    known, there = case.truth[place] != IGNORE, case.truth[place] == 1
    found = (case.probabilities[place] > threshold) & known
    return [int(np.count_nonzero(each)) for each in (there & found, there, found, known)]
