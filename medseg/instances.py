"""Instances (lesions, vertebrae, cells) of a truth and of a prediction, and which of them are the same."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Overlaps(NamedTuple):
    """Instances by their numbers, and the pairs of them that share voxels.

    Attributes:
        truth: (n + 1,) voxels of each instance of the truth; 0 where there is none of that number, and at 0.
        predicted: (m + 1,) the same of the prediction.
        pairs: (k, 2) an instance of the truth and one of the prediction.
        iou: (k,) what a pair shares over what both cover together; above 0.
    """

    truth: np.ndarray
    predicted: np.ndarray
    pairs: np.ndarray
    iou: np.ndarray

    def above(self, iou: float) -> Overlaps:
        """Without the pairs of this IoU or less."""
        kept = self.iou > iou
        return self._replace(pairs=self.pairs[kept], iou=self.iou[kept])

    def one_to_one(self) -> Overlaps:
        """Only pairs of which no instance is in two: that of the highest IoU first, of equal ones that of the lowest
        numbers. Pairs above one half are so anyway."""
        used: tuple[set[int], set[int]] = set(), set()
        kept = []
        for place in np.lexsort((self.pairs[:, 1], self.pairs[:, 0], -self.iou)):
            first, second = (int(number) for number in self.pairs[place])
            if first not in used[0] and second not in used[1]:
                used[0].add(first)
                used[1].add(second)
                kept.append(place)
        kept = sorted(kept)
        return self._replace(pairs=self.pairs[kept], iou=self.iou[kept])


def overlaps(truth: np.ndarray, predicted: np.ndarray) -> Overlaps:
    """Of two maps of one shape: whole numbers from 0, which is nothing. Numbers need not follow one another, and those
    of the two maps need not have to do with one another."""
    sizes = [np.bincount(numbers.ravel(), minlength=1) for numbers in (truth, predicted)]
    both = (truth > 0) & (predicted > 0)
    codes, shared = np.unique(truth[both].astype(np.int64) * len(sizes[1]) + predicted[both], return_counts=True)
    pairs = np.stack(np.divmod(codes, len(sizes[1])), axis=1)
    for some in sizes:
        some[0] = 0
    return Overlaps(sizes[0], sizes[1], pairs, shared / (sizes[0][pairs[:, 0]] + sizes[1][pairs[:, 1]] - shared))


def panoptic_quality(found: Overlaps) -> dict[str, float]:
    """`pq`, `sq` and `rq` of instances, as `metrics.panoptic` explains them. nan where there are none at all; `sq` also
    where none is recognised."""
    recognised = found.above(0.5)
    count, there, claimed = (int(np.count_nonzero(each)) for each in (recognised.iou, found.truth, found.predicted))
    if not there + claimed:
        return dict.fromkeys(("pq", "sq", "rq"), float("nan"))
    quality = float(recognised.iou.mean()) if count else float("nan")
    rate = 2 * count / (there + claimed)
    return {"pq": quality * rate if count else 0.0, "sq": quality, "rq": rate}
