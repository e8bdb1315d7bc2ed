"""Metrics of components, topology and volume that can be checked on paper."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg import instances, plugins
from tests.masks import Masks, some


def line(text: str) -> np.ndarray:
    """A row of voxels: `.` is nothing, everything else is there."""
    return np.array([sign != "." for sign in text]).reshape(-1, 1, 1)


def measure(
    name: str, truth: np.ndarray, predicted: np.ndarray, spacing=(1.0, 1.0, 1.0), **options
) -> dict[str, float]:
    return Masks(truth, predicted, spacing).measure(name, **options)


def test_volumes_are_in_millilitres_and_per_cent():
    found = measure("volume", line("xx.."), line("xxx."), (5, 10, 20))  # voxels of 1 ml
    assert found == pytest.approx(
        {
            "volume_truth_ml": 2,
            "volume_predicted_ml": 3,
            "volume_difference_ml": 1,
            "volume_difference_percent": 50,
        }
    )
    assert measure("volume", line("xxx."), line("..x."), (5, 10, 20))["volume_difference_ml"] == pytest.approx(-2)
    nothing = measure("volume", line("...."), line("xx.."))
    assert math.isnan(nothing["volume_difference_percent"]) and nothing["volume_difference_ml"] == pytest.approx(0.002)
    assert measure("volume", line("xx.."), line("...."))["volume_difference_percent"] == -100


LESIONS = line("xx.x.xxx.....x.")
"""Of 2, 1, 3 and 1 voxels."""
FOUND = line("xx.xxxxx..x....")
"""One is found; two by one component, which is counted once; one is missed; one is none."""


def test_lesions_on_paper():
    assert measure("lesions", LESIONS, FOUND) == {
        "lesion_f1": pytest.approx(2 * 3 / 4 * 2 / 3 / (3 / 4 + 2 / 3)),
        "lesion_sensitivity": 3 / 4,
        "lesion_precision": 2 / 3,
        "lesion_false_positives": 1,
        "lesion_missed": 1,
    }
    # IoU of 2/2, 1/5 and 3/5: the component goes to the lesion of three voxels.
    single = measure("lesions", LESIONS, FOUND, one_to_one=True)
    assert (single["lesion_sensitivity"], single["lesion_missed"], single["lesion_precision"]) == (2 / 4, 2, 2 / 3)
    assert single["lesion_f1"] == pytest.approx(2 * 2 / (4 + 3))
    assert measure("lesions", LESIONS, FOUND, iou=0.5)["lesion_sensitivity"] == 2 / 4
    assert measure("lesions", LESIONS, FOUND, iou=0.6)["lesion_sensitivity"] == 1 / 4  # above, not at


def test_small_lesions_do_not_count_and_what_finds_them_is_not_wrong():
    large = measure("lesions", LESIONS, FOUND, (1, 0.1, 1), smallest_mm3=0.2)
    assert (large["lesion_sensitivity"], large["lesion_precision"], large["lesion_false_positives"]) == (1, 1, 0)
    # 3 x 0.7 is a little less than 2.1 in binary fractions.
    assert measure("lesions", LESIONS, LESIONS, (1, 0.7, 1), smallest_mm3=2.1)["lesion_sensitivity"] == 1
    small = measure("lesions", line("x..xx"), line("x...."), smallest_mm3=2)
    assert (small["lesion_sensitivity"], small["lesion_false_positives"]) == (0, 0)
    assert math.isnan(small["lesion_precision"])


def test_what_covers_everything_finds_little_unless_one_voxel_is_enough():
    whole = np.ones_like(LESIONS)
    assert measure("lesions", LESIONS, whole)["lesion_sensitivity"] == 2 / 4  # 2 and 3 of 15 voxels
    assert measure("lesions", LESIONS, whole, iou=0)["lesion_sensitivity"] == 1
    assert measure("lesions", LESIONS, whole, iou=0, one_to_one=True)["lesion_sensitivity"] == 1 / 4


def test_panoptic_quality_on_paper():
    # IoU of 1 and 3/5 above one half; four in the truth, three in the prediction.
    found = measure("panoptic", LESIONS, FOUND)
    assert found == pytest.approx({"pq": (1 + 3 / 5) / 3.5, "sq": (1 + 3 / 5) / 2, "rq": 2 / 3.5})
    assert measure("panoptic", line("x.."), line("xx."))["pq"] == 0  # one half is not above one half


@pytest.mark.parametrize(
    ("truth", "predicted", "f1", "sensitivity", "precision", "quality"),
    [
        ("...", "...", math.nan, math.nan, math.nan, math.nan),
        ("x..", "...", 0, 0, math.nan, 0),
        ("...", "x..", 0, math.nan, 0, 0),
    ],
)
def test_of_empty_masks(truth, predicted, f1, sensitivity, precision, quality):
    found = measure("lesions", line(truth), line(predicted))
    shares = [found["lesion_f1"], found["lesion_sensitivity"], found["lesion_precision"]]
    assert shares == pytest.approx([f1, sensitivity, precision], nan_ok=True)
    assert (found["lesion_missed"], found["lesion_false_positives"]) == (truth.count("x"), predicted.count("x"))
    panoptic = measure("panoptic", line(truth), line(predicted))
    assert panoptic == pytest.approx({"pq": quality, "sq": math.nan, "rq": quality}, nan_ok=True)
    either = math.nan if truth == predicted else 0
    for name in ("boundary_iou", "cldice"):
        assert measure(name, line(truth), line(predicted))[name] == pytest.approx(either, nan_ok=True)
    pieces = measure("betti", line(truth), line(predicted))
    assert list(pieces.values()) == [float(truth != predicted), 0, 0]


def test_boundary_iou_tells_what_iou_does_not():
    """Squares of 20 and 18 pixels: the rims of one pixel have nothing in common, those of two have one rim."""
    truth, predicted = np.zeros((2, 22, 22, 1), bool)
    truth[1:21, 1:21], predicted[2:20, 2:20] = True, True
    assert measure("iou", truth, predicted)["iou"] == pytest.approx(324 / 400)
    assert measure("boundary_iou", truth, predicted, width_mm=0)["boundary_iou"] == 0
    rims = [20**2 - 18**2, 18**2 - 16**2, 16**2 - 14**2]
    assert measure("boundary_iou", truth, predicted, width_mm=1)["boundary_iou"] == rims[1] / sum(rims)
    assert measure("boundary_iou", truth, predicted, width_mm=99)["boundary_iou"] == pytest.approx(324 / 400)
    assert measure("boundary_iou", truth, predicted, (0.7, 0.7, 1), width_mm=0.7)["boundary_iou"] == rims[1] / sum(rims)


def test_cldice_asks_for_the_centre_line_alone():
    tube, line_of_it = np.zeros((2, 30, 9, 9), bool)
    tube[3:27, 2:7, 2:7], line_of_it[3:27, 4, 4] = True, True
    assert measure("cldice", tube, line_of_it)["cldice"] == 1
    half = line_of_it.copy()
    half[15:] = False
    # All of the half line lies in the tube; of the tube's line, which thinning shortens, what it shares with it.
    shared = [index for index in range(3, 27) if measure("cldice", half, tube)["cldice"] and half[index, 4, 4]]
    assert 0.6 < measure("cldice", tube, half)["cldice"] < 0.75 and len(shared) == 12


@pytest.mark.parametrize("width", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_cldice_knows_straight_tubes_of_any_width(width, depth):
    """Of those of even width thinning by scikit-image leaves nothing."""
    tube = np.zeros((30, 9, 9), bool)
    tube[3:27, 1 : 1 + width, 1 : 1 + depth] = True
    aside = np.zeros_like(tube)
    aside[3:27, 8, 8] = True
    assert measure("cldice", tube, tube)["cldice"] == 1
    assert measure("cldice", tube, tube | aside)["cldice"] < 0.8
    assert measure("cldice", tube, aside)["cldice"] == 0


def ring() -> np.ndarray:
    mask = np.ones((5, 5, 1), bool)
    mask[2, 2] = False
    return mask


def test_betti_numbers_on_paper():
    shell = np.ones((4, 4, 4), bool)
    shell[1:3, 1:3, 1:3] = False
    ball, empty = np.ones((4, 4, 4), bool), np.zeros((4, 4, 4), bool)
    assert list(measure("betti", shell, ball).values()) == [0, 0, 1]
    assert list(measure("betti", shell, empty).values()) == [1, 0, 1]
    torus = np.concatenate([ring()] * 2, axis=2)
    assert list(measure("betti", torus, np.ones_like(torus)).values()) == [0, 1, 0]
    # A hole of a picture is a tunnel of the plate that it is, and two corners that touch are one piece.
    assert list(measure("betti", ring(), np.zeros_like(ring())).values()) == [1, 1, 0]
    assert list(measure("betti", np.eye(3, dtype=bool)[..., None], np.zeros((3, 3, 1), bool)).values()) == [1, 0, 0]


def cube(*corners: tuple[int, int]) -> np.ndarray:
    """(start, side) of cubes along the diagonal of a grid of 60 voxels."""
    mask = np.zeros((60, 60, 60), bool)
    for start, side in corners:
        mask[start : start + side, start : start + side, start : start + side] = True
    return mask


def test_brats_penalises_what_is_missed_and_what_is_none():
    truth, predicted = cube((5, 5), (30, 5)), cube((5, 5), (50, 4))
    found = measure("brats", truth, predicted)
    assert found["brats_lesion_dice"] == pytest.approx(1 / 3)  # found, missed, wrong
    assert found["brats_lesion_hd95"] == pytest.approx((0 + 374 + 374) / 3)
    assert found["brats_dice"] == pytest.approx(2 * 125 / (250 + 189)) and 30 < found["brats_hd95"] < 100


@pytest.mark.parametrize("shape", [(5, 4, 3), (5, 4, 1)])
@pytest.mark.parametrize("dilation", [0, 3])
def test_brats_has_a_value_where_nothing_is(shape, dilation):
    nothing = np.zeros(shape, bool)
    found = measure("brats", nothing, nothing, dilation=dilation)
    assert found == {"brats_dice": 1, "brats_hd95": 0, "brats_lesion_dice": 1, "brats_lesion_hd95": 0}
    assert measure("brats", nothing, ~nothing, dilation=dilation)["brats_lesion_hd95"] == 374


def test_brats_joins_near_lesions_and_leaves_out_small_ones():
    near, far = cube((5, 4), (12, 4)), cube((5, 4), (20, 4))
    # Three voxels between them are bridged by three steps from either side: one lesion, found by its half.
    assert measure("brats", near, cube((5, 4)))["brats_lesion_dice"] == pytest.approx(2 * 64 / (128 + 64))
    assert measure("brats", near, cube((5, 4)), dilation=1)["brats_lesion_dice"] == pytest.approx(1 / 2)
    assert measure("brats", far, cube((5, 4)))["brats_lesion_dice"] == pytest.approx(1 / 2)
    small = cube((5, 4), (20, 3))  # 27 mm3
    assert measure("brats", small, cube((5, 4)))["brats_lesion_dice"] == 1
    assert measure("brats", small, small)["brats_lesion_dice"] == 1  # what touches it is not wrong
    assert measure("brats", small, cube((5, 4)), smallest_mm3=26)["brats_lesion_dice"] == 1 / 2
    assert measure("brats", cube((5, 3)), cube())["brats_lesion_dice"] == 1  # nothing that counts, and nothing wrong
    # Plates of one voxel's thickness have surfaces on both sides in space, and none in a picture.
    thin, wide = np.zeros((2, 20, 20, 3), bool)
    thin[2:6, 2:6, 1], wide[2:8, 2:8, 1] = True, True
    assert measure("brats", thin, wide, smallest_mm3=1)["brats_lesion_hd95"] == 2
    flat = measure("brats", thin[..., 1:2], wide[..., 1:2], smallest_mm3=1)
    assert flat["brats_lesion_hd95"] == pytest.approx(math.sqrt(5))
    plate = np.zeros((9, 9, 9), bool)
    plate[2:7, 2:7, 2:4] = True  # 50 mm3, which is not above 50
    assert measure("brats", plate, np.zeros_like(plate))["brats_lesion_dice"] == 1


@pytest.mark.parametrize(
    ("truth", "predicted", "numbers"),
    [
        (cube(), cube(), [1, 0, 1, 0]),
        (cube((5, 5)), cube(), [0, 373.13, 0, 374]),
        (cube(), cube((5, 5)), [0, 373.13, 0, 374]),
    ],
)
def test_brats_gives_empty_masks_a_value(truth, predicted, numbers):
    assert list(measure("brats", truth, predicted).values()) == numbers


def test_of_equal_pairs_the_lowest_numbers_go_first():
    found = instances.overlaps(np.array([1, 1, 1, 1, 2, 2]), np.array([2, 2, 5, 5, 0, 7])).one_to_one()
    assert found.pairs.tolist() == [[1, 2], [2, 7]] and found.iou.tolist() == [1 / 2, 1 / 2]


def test_numbers_of_instances_need_not_follow_one_another_nor_agree():
    truth = np.array([0, 7, 7, 7, 0, 200, 200, 0])
    predicted = np.array([0, 3, 3, 9, 9, 50, 50, 50])
    found = instances.overlaps(truth, predicted)
    assert {tuple(pair): iou for pair, iou in zip(found.pairs.tolist(), found.iou.tolist(), strict=True)} == {
        (7, 3): 2 / 3,
        (7, 9): 1 / 4,
        (200, 50): 2 / 3,
    }
    assert instances.panoptic_quality(found) == pytest.approx({"pq": (4 / 3) / 2.5, "sq": 2 / 3, "rq": 2 / 2.5})


PAIRS = some(300, seed=3)
STRUCTURAL = ("betti", "boundary_iou", "brats", "cldice", "lesions", "panoptic", "volume")
anything = st.sampled_from(PAIRS)


@settings(max_examples=60, deadline=None)
@given(anything, st.sampled_from(STRUCTURAL))
def test_what_lies_around_makes_no_difference(masks, name):
    wide = [(2, 3), (0, 4), (0, 0) if masks.flat else (1, 2)]
    inside = Masks(np.pad(masks.truth, wide), np.pad(masks.predicted, wide), masks.spacing)
    assert inside.measure(name) == pytest.approx(masks.measure(name), nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(anything)
def test_truth_and_prediction_may_change_places(masks):
    turned = Masks(masks.predicted, masks.truth, masks.spacing)
    for name in ("betti", "boundary_iou", "cldice", "panoptic"):
        assert turned.measure(name) == pytest.approx(masks.measure(name), nan_ok=True)
    for options in ({}, {"iou": 0}, {"one_to_one": True}):
        here, there = masks.measure("lesions", **options), turned.measure("lesions", **options)
        assert here["lesion_sensitivity"] == pytest.approx(there["lesion_precision"], nan_ok=True)
        assert here["lesion_f1"] == pytest.approx(there["lesion_f1"], nan_ok=True)
        assert here["lesion_missed"] == there["lesion_false_positives"]
    assert turned.measure("volume")["volume_difference_ml"] == -masks.measure("volume")["volume_difference_ml"]


@settings(max_examples=60, deadline=None)
@given(anything)
def test_a_mask_agrees_with_itself_in_full(masks):
    same = Masks(masks.truth, masks.truth, masks.spacing)
    for name in STRUCTURAL:
        numbers = plugins.find("metrics", name).NUMBERS
        for number, value in same.measure(name).items():
            best = {"higher": 1, "lower": 0, "nearer zero": 0, "neither": value}[numbers[number].better]
            assert value == best or (math.isnan(value) and not masks.truth.any())


@settings(max_examples=40, deadline=None)
@given(anything, st.floats(0, 0.9), st.floats(0, 0.9))
def test_who_asks_for_more_overlap_finds_fewer_lesions(masks, one, other):
    low, high = sorted((one, other))
    for single in (False, True):
        few, many = (masks.measure("lesions", iou=iou, one_to_one=single)["lesion_missed"] for iou in (high, low))
        assert few >= many
