"""The structures of a case, each as two masks in the box around them, and what metrics say of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from medseg.config import Chosen
from medseg.labels import LabelTable
from medseg.metrics import Number
from medseg.pair import Pair
from medseg.volume import Volume

Box = tuple[slice, ...]
NOWHERE: Box = (slice(0, 0),) * 3


def of_case(truth: Volume, predicted: np.ndarray, table: LabelTable) -> Iterator[Pair]:
    """The labels of a table, in its order. Voxels at which a label's truth is not known are in neither mask.

    Args:
        truth: network target (1 or R, I, J, K) as `LabelTable.encode` makes it.
        predicted: the same on the same grid.
    """
    targets = truth.array, predicted
    boxes = [table.boxes(target) for target in targets]
    flat = tuple(size == 1 for size in truth.shape)
    for place, label in enumerate(table.labels):
        box = _around([found[place] for found in boxes if place in found])
        ours, theirs = (table.mask(target[:, *box], place) for target in targets)
        known = table.known(truth.array[:, *box], place)
        if known is not None:
            ours, theirs = ours & known, theirs & known
        yield Pair(ours, theirs, truth.spacing_mm, flat, label.name, truth.unit)


def measure(pair: Pair, metrics: Sequence[Chosen]) -> dict[str, float]:
    """All numbers of all metrics; nan for those in mm of a photograph, which has no millimetres."""
    found: dict[str, float] = {}
    for metric in metrics:
        module = metric.module()
        if pair.unit != "mm" and module.NEEDS_MM:
            found |= dict.fromkeys(module.NUMBERS, math.nan)
        else:
            found |= module.compute(pair, metric.options)
    return found


def numbers(metrics: Sequence[Chosen]) -> dict[str, Number]:
    """What `measure` gives, by name."""
    return {name: number for metric in metrics for name, number in metric.module().NUMBERS.items()}


def _around(boxes: Sequence[Box]) -> Box:
    """The smallest box around some; none have an empty one."""
    if not boxes:
        return NOWHERE
    return tuple(
        slice(min(side.start for side in sides), max(side.stop for side in sides)) for sides in zip(*boxes, strict=True)
    )
