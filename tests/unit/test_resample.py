"""resample against scipy.ndimage, which works the same splines out voxel by voxel."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy import ndimage

from medseg.resample import ROWS, cubic, linear, nearest, neighbours, part, reach, resample

TOLERANCE = 1e-4
"""Of the image's range. Positions and weights are float32: 6e-8 relative, times some 500 voxels along an axis, is
3e-5 of a voxel, and a value changes by at most the range within one voxel."""
sizes = some.integers(1, 90)


def by_scipy(array: np.ndarray, shape: tuple[int, int, int], order: int) -> np.ndarray:
    axes = [(np.arange(new) + 0.5) * (old / new) - 0.5 for old, new in zip(array.shape, shape, strict=True)]
    positions = np.meshgrid(*axes, indexing="ij")
    return ndimage.map_coordinates(array, positions, order=order, mode="nearest")


def whole(tensor: torch.Tensor, dim: int, new: int, order: int) -> torch.Tensor:
    old = tensor.shape[dim]
    return part(tensor, dim, sizes=(old, new), order=order, rows=slice(0, new))


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((7, 9, 11), (13, 5, 11)),
        ((1, 8, 5), (4, 8, 1)),
        ((16, 15, 3), (5, 31, 7)),
        ((2, 3, 40), (2, 3, 13)),
        ((12, 10, 6), (24, 20, 12)),
        ((9, 9, 9), (3, 3, 3)),
    ],
)
def test_equals_scipy(old, new, order):
    array = np.random.default_rng(1).uniform(-1000, 1000, old)
    expected = by_scipy(array, new, order)
    got = resample(torch.from_numpy(array)[None].float(), new, order)[0].numpy()
    assert got.shape == new
    assert np.abs(got - expected).max() <= TOLERANCE * np.ptp(array)


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, some.sampled_from([0, 1, 3]), some.integers(0, 2), some.integers(0, 99))
def test_any_axis_of_any_size_equals_scipy(old, new, order, dim, seed):
    shape, wanted = [2, 3, 2], [2, 3, 2]
    shape[dim], wanted[dim] = old, new
    array = np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)
    got = resample(torch.from_numpy(array)[None], tuple(wanted), order)[0].numpy()
    assert np.abs(got - by_scipy(array, tuple(wanted), order)).max() <= TOLERANCE * 2


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("new", [379, 1100])
def test_long_axis_equals_scipy(order, new):
    array = np.random.default_rng(2).uniform(0, 1, (512, 3, 2))
    expected = by_scipy(array, (new, 3, 2), order)
    got = resample(torch.from_numpy(array)[None], (new, 3, 2), order)[0].numpy()
    assert np.abs(got - expected).max() <= TOLERANCE


@settings(max_examples=100, deadline=None)
@given(sizes, sizes, some.sampled_from([0, 1, 3]), some.integers(0, 2), some.data())
def test_a_part_is_made_of_what_it_reaches_and_no_more(old, new, order, dim, data):
    start = data.draw(some.integers(0, new - 1))
    rows = slice(start, data.draw(some.integers(start + 1, new)))
    shape = [2, 3, 2]
    shape[dim] = old
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    low, high = reach(old, new, order)
    first = data.draw(some.integers(0, int(low[rows.start])))
    last = data.draw(some.integers(int(high[rows.stop - 1]), old - 1))
    held = tensor.narrow(dim, first, last + 1 - first)
    got = part(held, dim, sizes=(old, new), order=order, rows=rows, first=first)
    expected = whole(tensor, dim, new, order).narrow(dim, rows.start, rows.stop - rows.start)
    assert torch.allclose(got, expected, atol=1e-5)
    assert (np.diff(low) >= 0).all() and (np.diff(high) >= 0).all()
    # and what it reaches is not far more than it needs
    assert (high - low).max() <= {0: 0, 1: 1, 3: 26 + 2 * old / new}[order]


def test_two_to_four_on_paper():
    # samples stand at -0.25, 0.25, 0.75 and 1.25: the outer two are beyond the samples and repeat them
    assert resample(torch.tensor([[[[0.0, 4.0]]]]), (1, 1, 4), 1).flatten().tolist() == [0, 1, 3, 4]
    assert whole(torch.eye(2), 0, 4, 1).tolist() == [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]


def test_halfway_between_two_the_later_one_is_nearest():
    assert nearest(4, 2).tolist() == [1, 3]


def test_an_order_per_axis():
    tensor = torch.rand(2, 6, 7, 8)
    mixed = resample(tensor, (9, 7, 4), (3, 1, 0))
    by_hand = resample(resample(tensor, (9, 7, 8), 3), (9, 7, 4), 0)
    assert torch.allclose(mixed, by_hand, atol=1e-6)


def test_order_0_keeps_integers_and_equal_shapes_do_nothing():
    labels = torch.arange(8, dtype=torch.uint8).reshape(1, 2, 2, 2)
    assert resample(labels, (4, 4, 4), 0).dtype == torch.uint8
    image = torch.rand(1, 3, 4, 5)
    assert resample(image, (3, 4, 5), 3) is image


@pytest.mark.parametrize(("old", "new"), [(7, 12), (12, 7), (1, 3), (5, 5)])
def test_linear_and_nearest_are_the_parts_of_order_1_and_0(old, new):
    lower, upper, weight = neighbours(old, new)
    rows = linear(torch.eye(old), 0, lower, upper, weight)
    assert torch.allclose(rows, whole(torch.eye(old), 0, new, 1), atol=1e-6)
    assert torch.equal(torch.eye(old)[nearest(old, new)], whole(torch.eye(old), 0, new, 0))


def test_a_constant_stays_constant():
    for order in (0, 1, 3):
        assert torch.allclose(resample(torch.full((1, 5, 6, 7), 3.0), (9, 4, 8), order), torch.tensor(3.0), atol=1e-5)


@pytest.mark.parametrize(("old", "new"), [(2000, 1500), (2000, 4000), (3000, 40)])
def test_a_long_axis_takes_a_narrow_band(old, new):
    for stretch in cubic(old, new):
        assert len(stretch.weights) <= ROWS and stretch.weights.shape[1] <= ROWS * old / new + 24
