"""Screening: operating points of a class: the sensitivity at fixed specificities, Youden's index, and the thresholds.

Over a whole set: places (images, slices or voxels) of all cases are pooled. A class is called where its probability
lies above the threshold. For a specificity it is the lowest that keeps it at or above what is asked for, without
interpolation; Youden's has the highest sum of sensitivity and specificity (the lowest of equals). Both are chosen on
these very cases: to know what one is worth, give it to `classification` as its threshold on other cases. nan where a
class is everywhere or nowhere. Unit: none, 0 to 1.
Source: Maier-Hein et al. 2024, "Metrics reloaded", Nature Methods 21, doi:10.1038/s41592-023-02151-z; Youden 1950,
"Index for rating diagnostic tests", Cancer 3.
"""

from __future__ import annotations

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
SAID = ("value of", "sensitivity at", "specificity at")


class Options(Settings):
    specificities: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = (0.9, 0.95)
    """Shares of the places without the class that must not be called."""


def compute(cases: Sequence[Evidence], *, names: tuple[str, ...], options: Options) -> dict[str, float]:
    rows: dict[str, float] = {}
    for name, (truth, scores) in zip(names, places(cases, len(names)).of_each(), strict=True):
        points = _points(scores[truth], scores[~truth])
        found = {specificity: _at(points, specificity) for specificity in options.specificities}
        rows |= {f"{name}: sensitivity at specificity {wanted:g}": point[1] for wanted, point in found.items()}
        rows |= {f"{name}: threshold for specificity {wanted:g}": point[0] for wanted, point in found.items()}
        best = points[:, int((points[1] + points[2]).argmax())]
        rows |= {f"{name}: {said} Youden's threshold": value for said, value in zip(SAID, best.tolist(), strict=True)}
    return rows


def _points(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """(3, n): thresholds, half-way between the scores that there are and rising to the highest; sensitivity and
    specificity at each. One column of nan where there are no positives or no negatives."""
    if not len(positives) or not len(negatives):
        return np.full((3, 1), np.nan)
    there = np.unique(np.concatenate([positives, negatives])).astype(np.float64)
    thresholds = np.append((there[1:] + there[:-1]) / 2, there[-1])
    missed, spared = (
        np.searchsorted(np.sort(some), thresholds, side="right") / len(some) for some in (positives, negatives)
    )
    return np.stack([thresholds, 1 - missed, spared])


def _at(points: np.ndarray, specificity: float) -> list[float]:
    """The first point of a specificity, or a hair less: 55 of 100 is less than 0.55."""
    enough = np.flatnonzero(points[2] >= specificity - 1e-9)
    return points[:, enough[0] if len(enough) else 0].tolist()
