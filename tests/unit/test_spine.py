"""Instances of a real spine, against the numbers of panoptica's tutorial."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from medseg import instances, plugins
from medseg.pair import Pair
from tests.reference import ROOT, needed

FOLDER = ROOT / "metrics" / "panoptica_spine" / "spine_seg"
pytestmark = needed


def spine(kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    folder = FOLDER / kind
    truth, predicted = (nib.load(folder / f"{side}.nii.gz") for side in ("ref", "pred"))
    return np.asarray(truth.dataobj), np.asarray(predicted.dataobj), np.array(truth.header.get_zooms(), np.float64)


@pytest.mark.parametrize("kind", ["matched_instance", "unmatched_instance"])
def test_vertebrae_of_a_spine_are_recognised_as_panoptica_does(kind):
    """Numbers of its tutorial. Whether the same vertebra has the same number in both maps makes no difference."""
    truth, predicted, _ = spine(kind)
    found = instances.overlaps(truth, predicted)
    assert (np.count_nonzero(found.truth), np.count_nonzero(found.predicted)) == (22, 22)
    assert len(found.above(0.5).pairs) == 19
    quality = {"rq": 0.8636363636363636, "sq": 0.8328184295330797, "pq": 0.7192522800512962}
    assert instances.panoptic_quality(found) == pytest.approx(quality)


def test_parts_of_a_spine_are_recognised_as_panoptica_does():
    """It takes the components of all labels together; a label has its own numbers here."""
    truth, predicted, spacing = spine("semantic")
    maps = [np.zeros(truth.shape, int), np.zeros(truth.shape, int)]
    for label in np.unique(truth[truth > 0]):
        pair = Pair(truth == label, predicted == label, spacing)
        for numbers, parts in zip(maps, pair.components, strict=True):
            numbers[parts.numbers > 0] = numbers.max() + parts.numbers[parts.numbers > 0]
    found = instances.overlaps(*maps)
    counts = [np.count_nonzero(each) for each in (found.truth, found.predicted, found.above(0.5).iou)]
    assert counts == [87, 89, 73]
    quality = {"rq": 0.8295454545454546, "sq": 0.7940127477906024, "pq": 0.6586696657808406}
    assert instances.panoptic_quality(found) == pytest.approx(quality)
    metric = plugins.find("metrics", "panoptic")
    rows = [metric.compute(Pair.of(truth == n, predicted == n, spacing_mm=spacing), metric.Options()) for n in (41, 49)]
    assert all(0 < row["pq"] <= row["sq"] <= 1 for row in rows)
