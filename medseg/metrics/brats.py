"""BraTS: the challenge's own numbers of 2021 (whole regions) and from 2023 on (lesion by lesion), with its penalties.

Here alone an empty mask has a value that takes part in means, so that numbers compare with the challenge's. Regions
(whole tumour, tumour core, enhancing tumour) are those of the label table, as labels that overlap.
* `brats_dice`, `brats_hd95` (2021): Dice, and the 95th percentile of surface distances, of a whole region.
* `brats_lesion_dice`, `brats_lesion_hd95` (2023): lesions of the truth are the parts of it that one component of the
  dilated truth holds, so that near ones are one. A lesion is compared with all components of the prediction that touch
  it when dilated by itself. Dice (0) and HD95 (the penalty) of lesions that nothing touches count, and so does each
  component that touches no lesion. Then the mean over these and over the lesions above the smallest size; smaller ones
  do not count, but what touches them is not wrong. Dilation is by the 18 neighbours, components are by all 26.
Distances are those between surface elements by their area, the larger of both directions, as in the code of 2023, also
for a whole region (there called legacy numbers). Options are the glioma task's; metastases have `{dilation: 1,
smallest_mm3: 2}`, meningioma `{dilation: 1}`. Lesions at the border of the image may grow together beyond it.
Unit: none, 0 to 1, and mm. Empty masks: Dice 1 and HD95 0 when both are empty; Dice 0 and HD95 a penalty when one is,
which is the diagonal of 240 x 240 x 155 mm in 2021, and 374 mm from 2023 on.
Source: Baid et al. 2021, arXiv:2107.02314; Saluja et al., github.com/rachitsaluja/BraTS-2023-Metrics.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy import ndimage

from medseg.metrics import Number
from medseg.pair import Pair
from medseg.settings import Settings
from medseg.surface import reach

NUMBERS = {
    "brats_dice": Number("", "higher"),
    "brats_hd95": Number("mm", "lower"),
    "brats_lesion_dice": Number("", "higher"),
    "brats_lesion_hd95": Number("mm", "lower"),
}
NEEDS_MM = True
PENALTY_2021 = 373.13
NEIGHBOURS = ndimage.generate_binary_structure(3, 2)
SHARE = 0.95


class Options(Settings):
    dilation: Annotated[int, Field(ge=0)] = 3
    """Steps by which the truth grows, in voxels, to join lesions and to reach components near by."""
    smallest_mm3: Annotated[float, Field(ge=0)] = 50.0
    """Lesions of this volume or less do not count."""
    penalty_mm: Annotated[float, Field(ge=0)] = 374.0
    """HD95 of a lesion that is missed, and of a component that is none."""


def compute(pair: Pair, options: Options) -> dict[str, float]:
    if pair.empty == "both":
        return dict(zip(NUMBERS, (1.0, 0.0, 1.0, 0.0), strict=True))
    dice, hd95 = _compare(pair, PENALTY_2021)
    lesions, wrong = _lesions(pair, options)
    scores = [*lesions, *[(0.0, options.penalty_mm)] * wrong] or [(1.0, 0.0)]
    lesion_dice, lesion_hd95 = np.mean(scores, axis=0).tolist()
    return dict(zip(NUMBERS, (dice, hd95, lesion_dice, lesion_hd95), strict=True))


def _lesions(pair: Pair, options: Options) -> tuple[list[tuple[float, float]], int]:
    """Dice and HD95 of each lesion that is large enough; how many components of the prediction touch none. At most one
    mask is empty."""
    reach = options.dilation
    rim = [(0, 0) if flat else (reach, reach) for flat in pair.flat]
    truth, numbers = np.pad(pair.truth, rim), np.pad(pair.components[1].numbers, rim)
    joined = np.where(truth, ndimage.label(_grown(truth, reach), np.ones((3, 3, 3)))[0], 0)
    boxes = ndimage.find_objects(numbers)
    scores, touched = [], np.zeros(len(boxes) + 1, bool)
    for number, box in enumerate(ndimage.find_objects(joined), 1):
        around = tuple(slice(max(side.start - reach, 0), side.stop + reach) for side in box)
        near = np.unique(numbers[around][_grown(joined[around] == number, reach)])
        near = near[near > 0]
        touched[near] = True
        if np.count_nonzero(joined[box] == number) * 1000 * pair.voxel_ml > options.smallest_mm3:
            part = _around([box, *(boxes[one - 1] for one in near)])
            masks = joined[part] == number, np.isin(numbers[part], near)
            lesion = Pair.of(*masks, spacing_mm=pair.spacing_mm)
            scores.append(_compare(replace(lesion, flat=pair.flat), options.penalty_mm))
    return scores, int(np.count_nonzero(~touched[1:]))


def _around(boxes: list[tuple[slice, ...]]) -> tuple[slice, ...]:
    """The smallest box around some."""
    sides = zip(*boxes, strict=True)
    return tuple(slice(min(one.start for one in side), max(one.stop for one in side)) for side in sides)


def _grown(mask: np.ndarray, steps: int) -> np.ndarray:
    if not steps:
        return mask
    grown: np.ndarray = ndimage.binary_dilation(mask, NEIGHBOURS, iterations=steps)
    return grown


def _compare(pair: Pair, penalty: float) -> tuple[float, float]:
    """Dice and HD95 of two masks of which at most one is empty."""
    if pair.empty == "one":
        return 0.0, penalty
    truth, predicted, both = pair.voxels
    found = pair.distances("elements")
    sides = (found.there, found.weights_there), (found.back, found.weights_back)
    return 2 * both / (truth + predicted), max(reach(*side, SHARE) for side in sides)
