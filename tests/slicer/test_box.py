"""Boxes in space as voxels."""

from __future__ import annotations

import numpy as np
import pytest

from MedSegLib import box

SCAN = np.diag([-2.0, 2.0, 3.0, 1.0])
SHAPE = (10, 20, 30)


def at(*ijk: float) -> np.ndarray:
    return np.array([SCAN[:3, :3] @ ijk])


def test_a_voxel_counts_from_one_border_to_the_other() -> None:
    assert box.around(at(4.4, 4.6, 5), SCAN, SHAPE) == ((4, 5), (5, 6), (5, 6))


def test_borders_that_only_meet_are_not_an_overlap() -> None:
    points = np.concatenate([at(2.5, 2.5, 2.5), at(4.5, 4.5, 4.5)])
    assert box.around(points, SCAN, SHAPE) == ((3, 5), (3, 5), (3, 5))


def test_what_reaches_out_of_the_scan_is_cut_off() -> None:
    points = np.concatenate([at(-50, 18, -1), at(0, 90, 90)])
    assert box.around(points, SCAN, SHAPE) == ((0, 1), (18, 20), (0, 30))


@pytest.mark.parametrize("place", [(-2, 5, 5), (5, 20.6, 5), (5, 5, 31)])
def test_a_box_beside_the_scan_is_told(place: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="beside the scan"):
        box.around(at(*place), SCAN, SHAPE)


def test_all_of_the_scan_is_no_box_for_the_command_line() -> None:
    assert box.text(((0, 10), (0, 20), (0, 30)), SHAPE) == ""
    assert box.text(((0, 10), (0, 20), (1, 30)), SHAPE) == "0:10,0:20,1:30"


def test_corners_are_half_a_size_from_the_centre() -> None:
    turned = np.array([[0, -1.0, 0, 5], [1, 0, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]])
    found = box.corners(turned, (2, 4, 6))
    assert found.shape == (8, 3)
    assert (found.min(0), found.max(0)) == (pytest.approx([3, 5, 4]), pytest.approx([7, 7, 10]))
