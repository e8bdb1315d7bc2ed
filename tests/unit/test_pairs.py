"""Structures of a case as pairs of masks: in the box around both, and with the numbers that whole masks have."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg import config
from medseg.engine import pairs
from medseg.labels import LabelTable
from medseg.pair import Pair
from medseg.volume import Volume

ORGANS = LabelTable.of({"liver": 5, "spleen": 1, "nowhere": 2})
REGIONS = LabelTable.of({"WT": [1, 2, 4], "TC": [1, 4], "ET": [4]})
METRICS = [config.choose("metrics", name) for name in ("dice", "hd95", "assd", "nsd", "volume")]
AFFINE = np.diag([0.7, 1.3, 2.9, 1])


def of(truth: np.ndarray, predicted: np.ndarray, table: LabelTable, unit: str = "mm") -> list[Pair]:
    volume = Volume(table.encode(truth), AFFINE, unit=unit)
    return list(pairs.of_case(volume, table.encode(predicted), table))


def block(shape: tuple[int, int, int], *parts: tuple[int, tuple[slice, slice, slice]]) -> np.ndarray:
    values = np.zeros(shape, np.uint8)
    for number, box in parts:
        values[box] = number
    return values


TRUTH = block((30, 31, 32), (5, np.s_[2:8, 3:9, 4:10]), (1, np.s_[20:22, 20:22, 20:22]))
PREDICTED = block((30, 31, 32), (5, np.s_[3:8, 3:9, 4:12]))


def test_masks_come_in_the_smallest_box_around_both():
    liver, spleen, nowhere = of(TRUTH, PREDICTED, ORGANS)
    assert [pair.label for pair in (liver, spleen, nowhere)] == list(ORGANS.names)
    assert liver.truth.shape == liver.predicted.shape == (6, 6, 8)
    assert spleen.truth.shape == (2, 2, 2) and spleen.truth.all() and not spleen.predicted.any()
    assert nowhere.truth.size == 0
    assert [pair.empty for pair in (liver, spleen, nowhere)] == ["none", "one", "both"]
    assert liver.voxels == (216, 240, 180)


def test_a_label_in_neither_has_no_numbers_and_one_that_was_missed_the_worst():
    _, spleen, nowhere = (pairs.measure(pair, METRICS) for pair in of(TRUTH, PREDICTED, ORGANS))
    assert [spleen[name] for name in ("dice", "hd95", "assd", "nsd")] == [0, math.inf, math.inf, 0]
    assert all(math.isnan(nowhere[name]) for name in ("dice", "hd95", "assd", "nsd"))


@st.composite
def cases(draw) -> tuple[np.ndarray, np.ndarray, LabelTable]:
    table = draw(st.sampled_from([ORGANS, REGIONS, replace(ORGANS, ignore=9), replace(REGIONS, ignore=9)]))
    shape = draw(st.tuples(*[st.integers(1, 9)] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    numbers = [0, 0, 0, *sorted(table.known_values)]
    truth, predicted = rng.choice(numbers, (2, *shape)).astype(np.uint8)
    predicted[predicted == 9] = 0
    if draw(st.booleans()):  # as readers and orientation leave them in memory
        truth = np.asfortranarray(truth)
    return truth, predicted, table


@settings(max_examples=60, deadline=None)
@given(cases())
def test_the_numbers_are_those_of_whole_masks(case):
    truth, predicted, table = case
    target, answer = table.encode(truth), table.encode(predicted)
    for place, pair in enumerate(of(truth, predicted, table)):
        known = truth != 9 if table.ignore else np.ones(truth.shape, bool)
        masks = [table.mask(each, place) & known for each in (target, answer)]
        whole = Pair.of(*masks, spacing_mm=np.diag(AFFINE)[:3], label=pair.label)
        loose = Pair(*masks, pair.spacing_mm, pair.flat, pair.label)
        assert pairs.measure(pair, METRICS) == pytest.approx(pairs.measure(whole, METRICS), nan_ok=True)
        assert pairs.measure(pair, METRICS) == pytest.approx(pairs.measure(loose, METRICS), nan_ok=True)


def test_a_photograph_has_overlaps_and_no_millimetres():
    picture = block((30, 31, 1), (5, np.s_[2:8, 3:9, 0:1]))
    liver = pairs.measure(of(picture, picture, ORGANS, unit="px")[0], METRICS)
    assert liver["dice"] == 1
    assert all(math.isnan(liver[name]) for name in ("hd95", "assd", "nsd", "volume_difference_ml"))


def test_what_metrics_share_is_computed_once():
    liver = of(TRUTH, PREDICTED, ORGANS)[0]
    assert liver.distances("voxels") is liver.distances("voxels")
    assert liver.distances("elements") is not liver.distances("voxels")
    assert liver.components is liver.components
    assert [parts.total for parts in liver.components] == [1, 1]


def test_voxels_that_share_a_corner_are_one_component():
    truth = block((6, 6, 6), (5, np.s_[1:2, 1:2, 1:2]), (5, np.s_[2:3, 2:3, 2:3]))
    assert [parts.total for parts in of(truth, np.roll(truth, 1, axis=0), ORGANS)[0].components] == [1, 1]
    truth[2, 2, 2], truth[4, 4, 4] = 0, 5
    assert of(truth, truth, ORGANS)[0].components[0].total == 2
