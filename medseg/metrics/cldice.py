"""Centre-line Dice: whether the centre lines of tubes (vessels, airways, nerves) lie within the other mask.

The harmonic mean of two shares: of the prediction's skeleton that lies in the truth, and of the truth's skeleton that
lies in the prediction. Skeletons are scikit-image's, by thinning; they are lines of voxels, whatever these measure in
mm. Thinning depends a little on the order of the axes. Slow for large structures: some seconds for 10 million voxels of
box. The loss of this name has a soft skeleton, and other numbers.
Unit: none, 0 to 1. Empty masks: nan (undefined) when both are empty, 0 when one is.
Source: Shit et al. 2021, "clDice - a Novel Topology-Preserving Loss Function for Tubular Structure Segmentation", CVPR,
arXiv:2003.07311; Lee et al. 1994, "Building skeleton models via 3-D medial surface/axis thinning algorithms".
"""

from __future__ import annotations

import math

import numpy as np

from medseg.metrics import Number
from medseg.pair import Pair
from medseg.settings import Settings

NUMBERS = {"cldice": Number("", "higher")}
NEEDS_MM = False


class Options(Settings):
    pass


def compute(pair: Pair, options: Options) -> dict[str, float]:
    if pair.empty != "none":
        return {"cldice": 0.0 if pair.empty == "one" else math.nan}
    ours, theirs = (_skeleton(mask, pair.flat) for mask in (pair.truth, pair.predicted))
    precise = np.count_nonzero(theirs & pair.truth) / np.count_nonzero(theirs)
    sensitive = np.count_nonzero(ours & pair.predicted) / np.count_nonzero(ours)
    return {"cldice": 2 * precise * sensitive / (precise + sensitive) if precise + sensitive else 0.0}


def _skeleton(mask: np.ndarray, flat: tuple[bool, ...]) -> np.ndarray:
    """Of a flat image that of the plane."""
    from skimage.morphology import skeletonize

    plane = mask.squeeze(axis=flat.index(True)) if any(flat) else mask
    line: np.ndarray = skeletonize(plane).reshape(mask.shape)
    return line
