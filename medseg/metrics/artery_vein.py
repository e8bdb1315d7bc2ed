"""Arteries told from veins (sensitivity, specificity, accuracy, F1; artery = positive); AUROC, AUPR of vessel maps.

The labels are arteries, veins and all vessels. Pixels of all cases are pooled, then scored once. Rows:
* `all: ...` over the vessel pixels of the truth that are either artery or vein (not crossings, not uncertain ones): the
  likelier class against the true one; equal probabilities count as artery, two zeros as a class at random.
* `intersection: ...` the same over those that were also found as vessels (probability above one half). Papers report
  either; this one is kinder, because vessels that are missed are the harder ones to tell apart.
* each label's AUROC and AUPR (average precision) over the pixels where it is known whether it is there, and
  sensitivity, specificity and accuracy of all vessels at one half.
nan where there is nothing to count. Unit: none, 0 to 1.
Source: Morano et al. 2024, "RRWNet", Expert Systems with Applications, doi:10.1016/j.eswa.2024.124970.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from medseg.labels import IGNORE
from medseg.metrics import vessel_maps
from medseg.prediction import Evidence
from medseg.ranking import auroc, average_precision, precision_recall_area
from medseg.settings import Settings

OVER = "set"
UNIT = ""
HIGHER_IS_BETTER = True
INTERVAL = False
FOUND = 0.5
"""Probability above which a pixel is a vessel."""


class Options(Settings):
    as_published: bool = False
    """Count as RRWNet's original code does, to compare with its paper. There uncertain vessels are negatives in AUROC
    and AUPR of arteries and veins; true vessel pixels with two zeros get random probabilities also there, which
    flatters; AUPR is the area under trapezoids."""
    seed: int = Field(default=0, ge=0)
    """Of the random classes; each case starts anew."""


def compute(cases: Sequence[Evidence], *, names: tuple[str, ...], options: Options) -> dict[str, float]:
    """A number a row.

    Raises:
        Refusal: the labels are not three, or the cases no pictures.
    """
    chosen, ranked = [], []
    for case in cases:
        truth, chances = vessel_maps(case)
        definite = _definite(truth)
        told = _told(chances, definite, np.random.RandomState(options.seed))
        chosen.append(np.stack([truth[0] == 1, told[0] >= told[1], chances[2] > FOUND])[:, definite])
        ranked.append(_known(truth, told if options.as_published else chances, options.as_published))
    true, called, found = np.concatenate(chosen, axis=1) if chosen else np.zeros((3, 0), bool)
    rows = {f"all: {name}": value for name, value in _binary(true, called).items()}
    rows |= {f"intersection: {name}": value for name, value in _binary(true[found], called[found]).items()}
    for place, name in enumerate(names):
        there, score = (np.concatenate([one[place][part] for one in ranked] or [np.zeros(0)]) for part in (0, 1))
        rows[f"{name}: AUROC"] = auroc(there, score)
        rows[f"{name}: AUPR"] = (precision_recall_area if options.as_published else average_precision)(there, score)
        if place == 2:
            single = _binary(there.astype(bool), score > FOUND)
            rows |= {f"{name}: {key}": single[key] for key in ("sensitivity", "specificity", "accuracy")}
    return rows


def _definite(truth: np.ndarray) -> np.ndarray:
    """Where the truth is an artery or a vein, and not both."""
    known = (truth[0] != IGNORE) & (truth[1] != IGNORE)
    mask: np.ndarray = known & ((truth[0] == 1) != (truth[1] == 1))
    return mask


def _told(chances: np.ndarray, definite: np.ndarray, generator: np.random.RandomState) -> np.ndarray:
    """Probabilities of arteries and veins (and the vessels as they are), at random where both are 0 in a definite
    vessel. The original draws a number for every pixel."""
    neither = definite & (chances[0] == 0) & (chances[1] == 0)
    if not neither.any():
        return chances
    told = chances.astype(np.float64)
    told[0][neither] = generator.rand(*definite.shape)[neither]
    told[1][neither] = 1 - told[0][neither]
    return told


def _known(truth: np.ndarray, scores: np.ndarray, as_published: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """(truth, score) of each label where it is known."""
    pairs = []
    for place in range(len(truth)):
        known = truth[2 if as_published else place] != IGNORE
        pairs.append((truth[place][known] == 1, scores[place][known]))
    return pairs


def _binary(true: np.ndarray, called: np.ndarray) -> dict[str, float]:
    """Scores of two boolean arrays."""
    both, positives, claimed = (int(np.count_nonzero(each)) for each in (true & called, true, called))
    negatives, neither = true.size - positives, true.size - positives - claimed + both

    def share(part: int, whole: int) -> float:
        return part / whole if whole else float("nan")

    return {
        "sensitivity": share(both, positives),
        "specificity": share(neither, negatives),
        "accuracy": share(both + neither, true.size),
        "F1": share(2 * both, positives + claimed),
    }
