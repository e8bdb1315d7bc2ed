"""Panoptic quality of a structure's connected components: how many are recognised, and how well these are outlined.

A component of the truth is recognised by the one of the prediction with which its IoU is above one half; there can be
no second one. Components are connected by all 26 neighbours (8 in a flat image). Of maps whose numbers are instances,
`medseg.instances` gives the same.
* `rq`: recognition quality, the F1 of components: TP / (TP + FP / 2 + FN / 2).
* `sq`: segmentation quality, the mean IoU of those that are recognised.
* `pq`: their product.
Unit: none, 0 to 1. Empty masks: nan (undefined) when both are empty; `pq` and `rq` 0 and `sq` nan when one is, or
nothing is recognised.
Source: Kirillov et al. 2019, "Panoptic Segmentation", CVPR, arXiv:1801.00868.
"""

from __future__ import annotations

from medseg import instances
from medseg.metrics import Number
from medseg.pair import Pair
from medseg.settings import Settings

NUMBERS = {name: Number("", "higher") for name in ("pq", "sq", "rq")}
NEEDS_MM = False


class Options(Settings):
    pass


def compute(pair: Pair, options: Options) -> dict[str, float]:
    truth, predicted = pair.components
    return instances.panoptic_quality(instances.overlaps(truth.numbers, predicted.numbers))
