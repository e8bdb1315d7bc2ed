"""Centre-line Dice: whether the centre lines of tubes (vessels, airways, nerves) lie within the other mask.

The harmonic mean of two shares: of the prediction's skeleton that lies in the truth, and of the truth's skeleton that
lies in the prediction. Skeletons are scikit-image's, by thinning; they are lines of voxels, whatever these measure in
mm. In space its thinning takes away straight pieces of even width, such as two voxels; a component of which nothing is
left is thinned at twice the resolution instead. It also depends a little on the order of the axes. Slow for large
structures: some ten seconds for a box of 10 million voxels. The loss of this name has a soft skeleton and so other
numbers.
Unit: none, 0 to 1. Empty masks: nan (undefined) when both are empty, 0 when one is.
Source: Shit et al. 2021, "clDice - a Novel Topology-Preserving Loss Function for Tubular Structure Segmentation", CVPR,
arXiv:2003.07311; Lee et al. 1994, "Building skeleton models via 3-D medial surface/axis thinning algorithms".
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from medseg.metrics import Number
from medseg.pair import Pair, Parts
from medseg.settings import Settings
from medseg.surface import Flat

NUMBERS = {"cldice": Number("", "higher")}
NEEDS_MM = False


class Options(Settings):
    pass


def compute(pair: Pair, options: Options) -> dict[str, float]:
    if pair.empty != "none":
        return {"cldice": 0.0 if pair.empty == "one" else math.nan}
    ours, theirs = (_skeleton(parts, pair.flat) for parts in pair.components)
    precise, sensitive = (
        int(np.count_nonzero(line & mask)) / int(np.count_nonzero(line))
        for line, mask in ((theirs, pair.truth), (ours, pair.predicted))
    )
    return {"cldice": 2 * precise * sensitive / (precise + sensitive) if precise + sensitive else 0.0}


def _skeleton(parts: Parts, flat: Flat) -> np.ndarray:
    """Of a flat image that of the plane."""
    from skimage.morphology import skeletonize

    mask = parts.numbers > 0
    line: np.ndarray = skeletonize(mask.squeeze(axis=flat.index(True)) if any(flat) else mask).reshape(mask.shape)
    left = np.bincount(parts.numbers[line], minlength=parts.total + 1)
    for number, box in enumerate(ndimage.find_objects(parts.numbers) if not left[1:].all() else [], 1):
        if not left[number]:
            places = np.argwhere(skeletonize(_finer(parts.numbers[box] == number)))
            line[box][tuple(places.T // 2)] = True
    return line


def _finer(mask: np.ndarray) -> np.ndarray:
    """With a voxel between any two, which is there if both are: all widths are odd."""
    for axis in range(3):
        some = np.moveaxis(mask, axis, 0)
        more = np.zeros((2 * len(some) - 1, *some.shape[1:]), bool)
        more[::2] = some
        more[1::2] = some[1:] & some[:-1]
        mask = np.moveaxis(more, 0, axis)
    return mask
