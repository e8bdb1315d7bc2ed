"""Label maps laid on original slices: against looking each pixel's place up one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medseg import originals
from medseg.volume import Slices, Source, Volume

SHAPE = (9, 8, 7)
TURNED = np.array([[0.0, -1.1, 0, 3], [0.9, 0, 0.1, -4], [0.1, 0, 2, 5], [0, 0, 0, 1]])


def volume(slices: Slices | None) -> Volume:
    array = np.random.default_rng(0).integers(1, 200, (2, *SHAPE)).astype(np.uint8)
    return Volume(array, np.diag([-0.7, -0.8, 2.5, 1.0]), Source(slices=slices))


def slices(count: int, *, lean: float = 0.0, turn: float = 0.0) -> Slices:
    """Leaning along the rows, or turned about the normal, at places between the planes and beyond them."""
    planes = np.repeat(np.diag([-0.7, -0.8, 2.5, 1.0])[None], count, axis=0)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    planes[:, :2, :2] = rotation @ planes[0, :2, :2]
    planes[:, 2, 2] = 1
    planes[:, :3, 3] = np.array([[0.3, lean * n, -2.6 + 2.2 * n] for n in range(count)])
    return Slices(planes, (7, 10))


@pytest.mark.parametrize("given", [slices(9), slices(9, lean=0.9), slices(6, turn=0.4)], ids=["even", "lean", "turned"])
def test_every_pixel_takes_the_nearest_voxel(given: Slices) -> None:
    made = volume(given)
    laid = originals.lay(made)
    assert laid.shape == (2, 7, 10, len(given.affines))
    to_voxel = np.linalg.inv(made.affine)
    for n, plane in enumerate(given.affines):
        for column in range(7):
            for row in range(10):
                at = np.rint((to_voxel @ plane @ [column, row, 0, 1])[:3]).astype(int)
                inside = all(0 <= index < side for index, side in zip(at, SHAPE, strict=True))
                expected = made.array[:, at[0], at[1], at[2]] if inside else np.zeros(2)
                np.testing.assert_array_equal(laid[:, column, row, n], expected)
    assert (laid > 0).any() and (laid == 0).any()


def test_the_planes_of_a_regular_scan_are_its_slices() -> None:
    made = replace(volume(None), affine=TURNED)
    assert originals.lay(made) is made.array
    planes = originals.affines(made)
    np.testing.assert_allclose(planes[4] @ [2, 3, 0, 1], TURNED @ [2, 3, 4, 1])
