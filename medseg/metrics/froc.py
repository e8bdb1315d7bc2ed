"""FROC: the share of lesions that is found at so many false positives a scan, over all thresholds of the probability.

Over a whole set. Candidates are the connected components (26 neighbours, 8 in pictures) of probabilities above one
half, or another threshold, and score their highest probability. A candidate of which the IoU with a lesion of the truth
is above 0.1 finds it (and may find several: the rule of `lesions`); all others are false positives. Further candidates
of a lesion count for nothing, and the best one's score is the lesion's.
* `sensitivity at n false positives`: the highest of all thresholds that have no more than n a scan, without
  interpolation; scans without a lesion count, those of which nothing is known do not.
* `CPM`: the mean over 1/8, 1/4, 1/2, 1, 2, 4 and 8.
nan where there is no lesion. Unit: none, 0 to 1.
Source: Setio et al. 2017, "Validation, comparison, and combination of algorithms for automatic detection of pulmonary
nodules", Medical Image Analysis 42, doi:10.1016/j.media.2017.06.015 (who interpolate).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from medseg.instances import overlaps
from medseg.labels import IGNORE
from medseg.pair import Pair
from medseg.prediction import Evidence
from medseg.refusal import Refusal
from medseg.settings import Settings
from medseg.statistics import remembered

OVER = "set"
UNIT = ""
HIGHER_IS_BETTER = True
INTERVAL = True
RATES = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
"""False positives a scan."""


class Options(Settings):
    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Probability above which a voxel belongs to a candidate. Lower ones bring more candidates, but make them larger
    and join them, until they fit no lesion any more."""
    iou: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """IoU above which a candidate finds a lesion; 0: one voxel is enough."""


def compute(cases: Sequence[Evidence], *, names: tuple[str, ...], options: Options) -> dict[str, float]:
    """A number a row.

    Raises:
        Refusal: the truth is not of places in space, but of whole images or slices.
    """
    rows: dict[str, float] = {}
    for place, name in enumerate(names):
        found = [one for one in remembered(cases, _scores, place, options.threshold, options.iou) if one is not None]
        lesions, wrong = (np.sort(np.concatenate([one[part] for one in found] or [np.zeros(0)])) for part in (0, 1))
        at = [_sensitivity(lesions, wrong, int(rate * len(found) + 1e-9)) for rate in RATES]
        rows |= {
            f"{name}: sensitivity at {rate:g} false positives": value for rate, value in zip(RATES, at, strict=True)
        }
        rows[f"{name}: CPM"] = float(np.mean(at))
    return rows


def _sensitivity(lesions: np.ndarray, wrong: np.ndarray, allowed: int) -> float:
    """Share of the lesions' ascending scores that lies above the score of the first false positive too many."""
    if not len(lesions):
        return float("nan")
    bar = wrong[-allowed - 1] if len(wrong) > allowed else 0.0
    return float(np.count_nonzero(lesions > bar) / len(lesions))


def _scores(case: Evidence, place: int, threshold: float, iou: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Of the lesions of one case (0 for those that no candidate finds), and of the false positives; None where nothing
    is known."""
    if case.truth.ndim not in (3, 4):
        raise Refusal(
            case.case,
            found=f"truth of shape {case.truth.shape[1:]}",
            needed="label maps, in which lesions have a place",
            remedy="leave this metric out",
        )
    known = case.truth[place] != IGNORE
    if not known.any():
        return None
    masks = case.truth[place] == 1, (case.probabilities[place] > threshold) & known
    ours, theirs = (mask.reshape(*mask.shape[:2], -1) for mask in masks)
    truth, candidates = Pair(ours, theirs, np.ones(3)).components
    found = overlaps(truth.numbers, candidates.numbers).above(iou)
    highest = np.zeros(candidates.total + 1)
    np.maximum.at(highest, candidates.numbers[theirs], case.probabilities[place].reshape(theirs.shape)[theirs])
    lesions = np.zeros(truth.total + 1)
    np.maximum.at(lesions, found.pairs[:, 0], highest[found.pairs[:, 1]])
    wrong = np.delete(highest, [0, *found.pairs[:, 1]])
    return lesions[1:], wrong
