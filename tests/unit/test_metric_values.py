"""Metrics on masks that can be checked on paper, and against brute force and MONAI on random ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist

from medseg import plugins
from medseg.pair import Pair
from medseg.surface import reach, surface


def measure(name: str, truth: np.ndarray, predicted: np.ndarray, spacing=(1.0, 1.0, 1.0), **options) -> float:
    metric = plugins.find("metrics", name)
    return metric.compute(Pair.of(truth, predicted, spacing_mm=np.array(spacing)), metric.Options(**options))[name]


def box(shape: tuple[int, int, int], *ranges: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(*bounds) for bounds in ranges)] = True
    return mask


LINE = (8, 3, 3)
TRUE = box(LINE, (1, 5), (1, 2), (1, 2))  # a rod of voxels 1 to 4
SHIFTED = box(LINE, (3, 7), (1, 2), (1, 2))  # a rod of voxels 3 to 6: two voxels in common
EMPTY = np.zeros(LINE, dtype=bool)


@pytest.mark.parametrize(
    ("name", "value"),
    [("dice", 4 / 8), ("iou", 2 / 6), ("sensitivity", 2 / 4), ("precision", 2 / 4)],
)
def test_overlap_of_two_rods(name, value):
    assert measure(name, TRUE, SHIFTED) == pytest.approx(value)


def test_surface_distances_of_two_rods():
    # Distances from the true rod: 2, 1, 0, 0 voxels of 3 mm; from the other one 0, 0, 1, 2. 95th percentile of
    # 0, 0, 3, 6: position 0.95 * 3 = 2.85, so 3 + 0.85 * 3.
    assert measure("hd95", TRUE, SHIFTED, spacing=(3, 1, 1)) == pytest.approx(5.55)
    assert measure("hd", TRUE, SHIFTED, spacing=(3, 1, 1)) == pytest.approx(6)
    assert measure("assd", TRUE, SHIFTED, spacing=(3, 1, 1)) == pytest.approx((6 + 3 + 3 + 6) / 8)
    assert measure("nsd", TRUE, SHIFTED, spacing=(3, 1, 1), tolerance_mm=2.9) == pytest.approx(4 / 8)
    assert measure("nsd", TRUE, SHIFTED, spacing=(3, 1, 1), tolerance_mm=3) == pytest.approx(6 / 8)


def test_the_mean_of_both_directions_weighs_a_small_surface_as_much_as_a_large_one():
    metric, dot = plugins.find("metrics", "assd"), box(LINE, (1, 2), (1, 2), (1, 2))
    # from the rod's voxels to the dot 0, 1, 2, 3 mm; from the dot 0
    found = metric.compute(Pair.of(TRUE, dot, spacing_mm=np.ones(3)), metric.Options())
    assert found == pytest.approx({"assd": 6 / 5, "masd": (6 / 4 + 0) / 2})


def test_a_share_of_the_area_is_reached_at_the_distance_that_completes_it():
    assert reach(np.arange(20.0), np.ones(20), 0.95) == 18, "19 of 20"
    assert reach(np.array([0.0, 1, 7]), np.array([90.0, 4, 6]), 0.95) == 7, "by weight, not by number"


def test_elements_count_by_their_area():
    # Eight corners of a voxel (sqrt(3)/8 each) stand for one; a rod of four has another 3 mm of four edges.
    corner, edge = np.sqrt(3) / 8, np.sqrt(2) / 2
    dot = box(LINE, (1, 2), (1, 2), (1, 2))
    found = Pair.of(dot, TRUE, spacing_mm=np.ones(3)).distances("elements")
    assert found.weights_there.sum() == pytest.approx(8 * corner)
    assert found.weights_back.sum() == pytest.approx(8 * corner + 3 * 4 * edge)
    assert found.there.max() == 0 and found.back.max() == 3  # along the dot's sides the rod has edges


def test_elements_of_a_flat_mask_count_by_their_length():
    flat = Pair.of(box((4, 5, 1), (1, 3), (1, 2), (0, 1)), box((4, 5, 1), (1, 3), (1, 3), (0, 1)), spacing_mm=[1, 2, 9])
    found = flat.distances("elements")
    corner = np.hypot(1, 2) / 2
    assert found.weights_there.sum() == pytest.approx(4 * corner + 2 * 1)  # two edges along i
    assert found.weights_back.sum() == pytest.approx(4 * corner + 2 * 1 + 2 * 2)


def test_a_label_may_have_a_tolerance_of_its_own():
    metric = plugins.find("metrics", "nsd")
    pairs = [Pair.of(TRUE, SHIFTED, spacing_mm=np.array([3.0, 1, 1]), label=label) for label in ("liver", "vein")]
    options = metric.Options(tolerance_mm=2.9, tolerances_mm={"vein": 3})
    assert [metric.compute(pair, options)["nsd"] for pair in pairs] == pytest.approx([4 / 8, 6 / 8])


def test_a_distance_equal_to_the_tolerance_is_within_it():
    near = box(LINE, (2, 6), (1, 2), (1, 2))
    assert measure("nsd", TRUE, near, spacing=(0.7, 1, 1), tolerance_mm=0.7) == 1


@pytest.mark.parametrize(
    ("name", "both_empty", "no_truth", "no_prediction"),
    [
        ("dice", math.nan, 0, 0),
        ("iou", math.nan, 0, 0),
        ("nsd", math.nan, 0, 0),
        ("hd", math.nan, math.inf, math.inf),
        ("hd95", math.nan, math.inf, math.inf),
        ("assd", math.nan, math.inf, math.inf),
        ("sensitivity", math.nan, math.nan, 0),
        ("precision", math.nan, 0, math.nan),
    ],
)
def test_empty_masks(name, both_empty, no_truth, no_prediction):
    assert measure(name, EMPTY, EMPTY) == pytest.approx(both_empty, nan_ok=True)
    assert measure(name, EMPTY, TRUE) == pytest.approx(no_truth, nan_ok=True)
    assert measure(name, TRUE, EMPTY) == pytest.approx(no_prediction, nan_ok=True)


def test_the_surface_of_a_cube_is_all_but_its_core_even_at_the_edge_of_the_image():
    cube = np.ones((4, 4, 4), dtype=bool)
    assert np.argwhere(~surface(cube)).min() == 1
    assert surface(cube).sum() == 4**3 - 2**3


def test_a_flat_image_has_an_outline():
    truth, predicted = box((9, 9, 1), (1, 8), (1, 8), (0, 1)), box((9, 9, 1), (2, 7), (2, 7), (0, 1))
    # The outlines run at distance 1 of each other, up to sqrt(2) at the 4 of 24 corners.
    assert measure("nsd", truth, predicted, tolerance_mm=1) == pytest.approx((20 + 16) / (24 + 16))
    assert measure("hd95", truth, predicted) == pytest.approx(math.sqrt(2))
    # Were every voxel of a flat mask surface, the centre would count too, and nsd at 0 would be 50 / 74.
    assert measure("nsd", truth, predicted, tolerance_mm=0) == 0


@st.composite
def pairs(draw) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """Two random, ragged masks and an odd spacing."""
    shape = draw(st.tuples(*[st.integers(2, 9)] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share = draw(st.floats(0.05, 0.95))
    spacing = draw(st.tuples(*[st.floats(0.3, 5).map(lambda size: round(size, 3))] * 3))
    return rng.random(shape) < share, rng.random(shape) < share, spacing


def brute_force(a: np.ndarray, b: np.ndarray, spacing) -> tuple[np.ndarray, np.ndarray]:
    points = [np.argwhere(mask & ~binary_erosion(mask)) * np.array(spacing) for mask in (a, b)]
    between = cdist(*points)
    return between.min(axis=1), between.min(axis=0)


@settings(max_examples=40, deadline=None)
@given(pairs())
def test_surface_metrics_equal_brute_force_and_monai(pair):
    a, b, spacing = pair
    assume(a.any() and b.any())
    there, back = brute_force(a, b, spacing)
    hd95, nsd = measure("hd95", a, b, spacing), measure("nsd", a, b, spacing, tolerance_mm=1.23456)
    assert hd95 == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))
    assert measure("hd", a, b, spacing) == pytest.approx(max(there.max(), back.max()))
    assert measure("assd", a, b, spacing) == pytest.approx(np.mean(np.concatenate([there, back])))
    assert nsd == pytest.approx(np.mean(np.concatenate([there, back]) <= 1.23456))

    one_hot = [torch.from_numpy(mask)[None, None] for mask in (b, a)]
    monai_hd95 = compute_hausdorff_distance(*one_hot, include_background=True, percentile=95, spacing=spacing)
    monai_nsd = compute_surface_dice(*one_hot, [1.23456], include_background=True, spacing=spacing)
    assert hd95 == pytest.approx(monai_hd95.item(), rel=1e-5)  # float32
    assert nsd == pytest.approx(monai_nsd.item())
    assert measure("dice", a, b) == pytest.approx(compute_dice(*one_hot).item())


@settings(max_examples=25, deadline=None)
@given(pairs())
def test_laws(pair):
    a, b, spacing = pair
    assume(a.any() and b.any())
    assert measure("dice", a, a) == measure("iou", a, a) == measure("nsd", a, a) == 1
    assert measure("hd95", a, a, spacing) == 0
    for name in ("dice", "iou", "hd95", "nsd"):
        assert measure(name, a, b, spacing) == pytest.approx(measure(name, b, a, spacing))
    assert measure("sensitivity", a, b) == measure("precision", b, a)
    dice, iou = measure("dice", a, b), measure("iou", a, b)
    assert dice == pytest.approx(2 * iou / (1 + iou))
    doubled = tuple(2 * size for size in spacing)
    assert measure("hd95", a, b, doubled) == pytest.approx(2 * measure("hd95", a, b, spacing), rel=1e-5)
