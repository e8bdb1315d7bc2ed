"""Contours of masks: whoever fills them by pixel centres, by whatever rule, gets the mask back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from matplotlib.path import Path as Polygon
from skimage.draw import polygon2mask

from medseg.dicom import contours

MASKS = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.booleans())


def picture(*lines: str) -> np.ndarray:
    """(columns, rows) mask of lines of text, one a row."""
    return np.array([[mark == "#" for mark in line] for line in lines]).T


NESTED = picture(  # a pixel in a hole of an island in a hole; an ear with a hole; a pixel beside
    "#########..",
    "#.......#..",
    "#.#####.#..",
    "#.#...#.#..",
    "#.#.#.#.###",
    "#.#...#.#.#",
    "#.#####.###",
    "#.......#..",
    "#########.#",
)


def area(contour: np.ndarray) -> float:
    x, y = contour.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def wound(found: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """By matplotlib: how many contours a centre is in, by the winding number of each."""
    centres = np.argwhere(np.ones(size))
    count = sum(Polygon(np.vstack([one, one[:1]]), closed=True).contains_points(centres).astype(int) for one in found)
    return np.reshape(count if found else np.zeros(len(centres)), size)


@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_other_libraries_fill_the_contours_with_the_mask(mask: np.ndarray) -> None:
    found = contours.trace(mask)
    parity = sum((polygon2mask(mask.shape, one).astype(int) for one in found), np.zeros(mask.shape, int))
    np.testing.assert_array_equal(parity, mask)  # not over 1: united or XORed, the same
    np.testing.assert_array_equal(wound(found, mask.shape), mask)


@settings(max_examples=300, deadline=None)
@given(MASKS)
def test_contours_keep_to_the_edges_of_pixels(mask: np.ndarray) -> None:
    found = contours.trace(mask)
    np.testing.assert_array_equal(contours.fill(found, mask.shape), mask)
    assert sum(area(one) for one in found) == np.count_nonzero(mask)
    for one in found:
        assert len(one) >= 4 and not (one * 2 % 2 == 0).any()  # half numbers only
        steps = np.roll(one, -1, axis=0) - one
        assert (np.count_nonzero(steps, axis=1) == 1).all()  # along one axis each, and none of no length


def steps(contour: np.ndarray) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    """A contour's way from pixel corner to pixel corner."""
    for here, there in zip(contour, np.roll(contour, -1, axis=0), strict=True):
        length = int(np.abs(there - here).sum())
        way = [tuple(float(part) for part in here + (there - here) * n / length) for n in range(length + 1)]
        yield from pairwise(way)  # type: ignore[misc]


@settings(max_examples=300, deadline=None)
@given(MASKS)
def test_contours_go_over_an_outline_once_and_through_a_channel_there_and_back(mask: np.ndarray) -> None:
    padded = np.pad(mask, 1)
    ways = Counter(step for one in contours.trace(mask) for step in steps(one))
    for (here, there), times in ways.items():
        middle = (np.array(here) + there) / 2
        across = np.array([0.5, 0]) if here[0] == there[0] else np.array([0, 0.5])
        sides = [bool(padded[tuple((middle + side).astype(int) + 1)]) for side in (-across, across)]
        assert times == 1 and any(sides)
        assert all(sides) == ((there, here) in ways)


def test_rings_in_rings() -> None:
    found = contours.trace(NESTED)
    assert [round(area(one)) for one in found] == [37, 16, 1, 1]  # outer ring with its ear, inner ring, centre, beside
    np.testing.assert_array_equal(contours.fill(found, NESTED.shape), NESTED)


def test_one_pixel_is_a_square_around_its_centre() -> None:
    (found,) = contours.trace(picture("...", "..#"))
    assert sorted(map(tuple, found.tolist())) == [(1.5, 0.5), (1.5, 1.5), (2.5, 0.5), (2.5, 1.5)]


def test_pixels_that_touch_at_a_corner_have_contours_of_their_own() -> None:
    assert [len(one) for one in contours.trace(picture("#.", ".#"))] == [4, 4]
    assert [len(one) for one in contours.trace(picture(".#", "#."))] == [4, 4]


def test_many_holes_under_one_edge() -> None:
    mask = np.ones((31, 9), bool)
    mask[1:-1:2, 1:-1:3] = False
    (found,) = contours.trace(mask)
    np.testing.assert_array_equal(contours.fill([found], mask.shape), mask)
    np.testing.assert_array_equal(wound([found], mask.shape), mask)


@settings(max_examples=200, deadline=None)
@given(
    arrays.arrays(
        float, st.tuples(st.integers(3, 9), st.just(2)), elements=st.integers(-900, 1900).map(lambda v: v / 100)
    ),
    st.tuples(st.integers(1, 14), st.integers(1, 14)),
)
def test_any_polygon_is_filled_as_by_the_crossings_of_a_ray(corners: np.ndarray, size: tuple[int, int]) -> None:
    """One pixel after the other, in exact arithmetic of hundredths."""
    whole = np.rint(corners * 100).astype(int).tolist()
    expected = np.zeros(size, bool)
    for (x0, y0), (x1, y1) in zip(whole, whole[1:] + whole[:1], strict=True):
        for i in range(size[0]):
            for j in range(size[1]):
                if (y0 < 100 * j) != (y1 < 100 * j):  # the ray towards column 0 from this centre meets the edge
                    side = (100 * i - x0) * (y1 - y0) - (100 * j - y0) * (x1 - x0)
                    expected[i, j] ^= side * (y1 - y0) >= 0
    found = contours.fill([corners], size)
    exact = expected == found
    for i, j in np.argwhere(~exact):  # only where the centre is on an edge, which division rounds
        assert any(
            abs((100 * i - x0) * (y1 - y0) - (100 * j - y0) * (x1 - x0)) == 0
            for (x0, y0), (x1, y1) in zip(whole, whole[1:] + whole[:1], strict=True)
        )


@pytest.mark.parametrize("size", [(1, 1), (4, 7)])
def test_nothing_has_no_contour_and_all_has_one(size: tuple[int, int]) -> None:
    assert contours.trace(np.zeros(size, bool)) == []
    (found,) = contours.trace(np.ones(size, bool))
    assert len(found) == 4 and area(found) == np.prod(size)
