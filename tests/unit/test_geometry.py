"""Which world axis each voxel axis runs along."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy.optimize import linear_sum_assignment

from medseg.geometry import orientation, world_axes


@given(seed=some.integers(0, 2**32 - 1))
def test_voxel_axes_are_assigned_as_scipy_assigns_them(seed):
    affine = np.eye(4)
    affine[:3, :3] = np.random.default_rng(seed).normal(size=(3, 3))
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    world, voxel = linear_sum_assignment(-np.abs(cosines))
    expected = {
        int(column): (int(row), bool(cosines[row, column] < 0)) for row, column in zip(world, voxel, strict=True)
    }
    axes, against = world_axes(affine)
    assert dict(enumerate(zip(axes, against, strict=True))) == expected


@pytest.mark.parametrize(
    ("columns", "letters"),
    [(((1, 0, 0), (0, 1, 0), (0, 0, 1)), "RAS"), (((0, 0, 2), (-1, 0, 0), (0, -3, 0)), "SLP")],
)
def test_letters_of_a_straight_grid(columns, letters):
    affine = np.eye(4)
    affine[:3, :3] = np.array(columns).T
    assert orientation(affine) == letters
