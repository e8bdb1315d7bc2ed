"""Uncertainty: whether a network's doubt tells where it is wrong; doubt is the entropy of its probabilities, in nats.

Over a whole set: places (images, slices or voxels) of all cases are pooled. An answer is the likeliest class where
classes exclude each other, else every class above one half, and right if all of it is.
* `AUROC of the most certain ...`: the mean AUROC over classes of that share of the places (all equally certain ones
  with it). It rises as less is kept if doubt is of use.
* `errors told by doubt`: the chance that a wrong answer has more entropy than a right one; one half says nothing.
* `entropy of right answers`, `entropy of wrong answers`: means.
With test-time mirroring (`predict.mirror`) the probabilities are those of the mean over the mirrored images. nan where
nothing is known, no answer is wrong, or none is right. Unit: none, or nats.
Source: Leibig et al. 2017, "Leveraging uncertainty information from deep neural networks for disease detection",
Scientific Reports 7, doi:10.1038/s41598-017-17876-z.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from medseg import ranking
from medseg.prediction import Evidence
from medseg.settings import Settings
from medseg.statistics import Places, entropy, mean_of_defined, places

OVER = "set"
UNIT = ""
HIGHER_IS_BETTER = True
INTERVAL = True


class Options(Settings):
    shares: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = (0.9, 0.8, 0.7, 0.5)
    """Shares of the places to keep, the most certain ones."""


def compute(cases: Sequence[Evidence], *, names: tuple[str, ...], options: Options) -> dict[str, float]:
    pooled = places(cases, len(names)).known()
    doubts = entropy(pooled.probabilities, exclusive=pooled.exclusive)
    right = _right(pooled)
    rows = {f"AUROC of the most certain {share:.0%}": _auroc(pooled, doubts, share) for share in options.shares}
    return rows | {
        "errors told by doubt": ranking.auroc(~right, doubts),
        "entropy of right answers": mean_of_defined([doubts[right].mean()] if right.any() else []),
        "entropy of wrong answers": mean_of_defined([doubts[~right].mean()] if not right.all() else []),
    }


def _right(pooled: Places) -> np.ndarray:
    """(N,) boolean."""
    if pooled.exclusive:
        return pooled.truth.argmax(axis=0) == pooled.probabilities.argmax(axis=0)
    return ((pooled.truth == 1) == (pooled.probabilities > 0.5)).all(axis=0)


def _auroc(pooled: Places, doubts: np.ndarray, share: float) -> float:
    if not len(doubts):
        return float("nan")
    most = np.sort(doubts)[max(0, int(np.ceil(share * len(doubts) - 1e-9)) - 1)]
    kept = doubts <= most
    rows = zip(pooled.truth[:, kept], pooled.probabilities[:, kept], strict=True)
    return mean_of_defined([ranking.auroc(truth == 1, chances) for truth, chances in rows])
