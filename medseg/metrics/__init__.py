"""Metrics, one file each with `Options` and `compute`.

Most compare one structure's masks in one case, a `Pair`, and give the `NUMBERS` that they name. nan means undefined:
such a case takes no part in a mean and is counted apart. Where exactly one of the two masks is empty, overlaps are 0
and distances infinite. `NEEDS_MM`: a photograph has no such number. Those that say `OVER = "set"` look at the evidence
of all cases at once and answer with a number a row, with `UNIT` and `HIGHER_IS_BETTER`; `INTERVAL` says whether they
are quick enough for intervals by resampling.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from medseg.prediction import Evidence
from medseg.refusal import Refusal


class Number(NamedTuple):
    """What a number of a metric is: its unit ("" for none), and which way it is better. Names are unique over all
    metrics."""

    unit: str
    better: Literal["higher", "lower", "nearer zero", "neither"]


VESSELS = 3
"""Labels of the retina's metrics: arteries, veins, all vessels."""


def vessel_maps(case: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """Truth and probabilities of arteries, veins and all vessels, each (3, rows, columns).

    Evidence as the pipeline has it, (3, I, J, 1) with columns first, is turned; (3, rows, columns) stays.

    Raises:
        Refusal: other than three labels, or a volume.
    """
    truth, chances = case.truth, case.probabilities
    flat = truth.ndim == 3 or (truth.ndim == 4 and truth.shape[3] == 1)
    if len(truth) != VESSELS or not flat:
        raise Refusal(
            case.case,
            found=f"{len(truth)} labels on a grid of {truth.shape[1:]}",
            needed="pictures with the labels artery, vein and all vessels, in this order",
            remedy="leave this metric out",
        )
    if truth.ndim == 3:
        return truth, chances
    return truth[..., 0].swapaxes(1, 2), chances[..., 0].swapaxes(1, 2)
