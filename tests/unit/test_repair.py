"""Repair of uneven stacks, against what must hold for any of them: positions, exact copies, the way back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg import originals
from medseg.dicom import repair
from medseg.dicom.frames import Frame
from medseg.geometry import LPS_FROM_RAS
from medseg.volume import Instance, Source, Volume

ROWS, COLUMNS = 9, 7
SPACING = (0.8, 0.6)
OUTSIDE = -1e6
RAMP = np.array([3.0, -2.0, 5.0, 40.0])
"""Value per mm along x, y, z (RAS+), and at the origin."""


def frames(places: np.ndarray, turn: np.ndarray | None = None, size: tuple[int, int] = (ROWS, COLUMNS)) -> list[Frame]:
    """One for each (row mm, column mm, height mm), in a frame turned by a rotation matrix."""
    axes = np.eye(3) if turn is None else turn
    return [
        Frame(
            instance=Instance(Path(f"{n}"), "", f"1.{n}"),
            position=tuple(axes @ [place[1], place[0], place[2]] + [-30, 20, 55]),
            row=tuple(axes[:, 0]),
            column=tuple(axes[:, 1]),
            spacing_mm=SPACING,
            size=size,
            slope=1.0,
            intercept=0.0,
            thickness_mm=None,
        )
        for n, place in enumerate(places)
    ]


def ramp(affine: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(rows, columns) of `RAMP` on a plane."""
    j, i = np.mgrid[: size[0], : size[1]]
    return (RAMP[:3] @ affine[:3, :3])[0] * i + (RAMP[:3] @ affine[:3, :3])[1] * j + RAMP @ affine[:, 3]


def header_affine(frame: Frame) -> np.ndarray:
    """(column, row, 0, 1) -> RAS+ mm, from the frame alone."""
    lps = np.eye(4)
    lps[:3, 0] = np.array(frame.row) * frame.spacing_mm[1]
    lps[:3, 1] = np.array(frame.column) * frame.spacing_mm[0]
    lps[:3, 2] = np.cross(frame.row, frame.column)
    lps[:3, 3] = frame.position
    return LPS_FROM_RAS @ lps


def on(made: repair.Grid) -> np.ndarray:
    """(planes, rows, columns) of `RAMP` on a grid."""
    planes = np.repeat(made.affine[None], made.shape[0], axis=0)
    planes[:, :3, 3] += np.arange(made.shape[0])[:, None] * made.affine[:3, 2]
    return np.stack([ramp(plane, made.shape[1:]) for plane in planes])


def leaning(count: int, step_mm: float, lean_mm: float) -> np.ndarray:
    return np.arange(count)[:, None] * [lean_mm, 0, step_mm]


numbers = st.integers(0, 10_000)


@st.composite
def stacks(draw: st.DrawFn) -> list[Frame]:
    """Any steps from 1 to 4 mm, any sideways shifts, any rotation."""
    generator = np.random.default_rng(draw(numbers))
    count = draw(st.integers(2, 8))
    steps = generator.uniform(1, 4, count - 1) if draw(st.booleans()) else 2.5 * generator.integers(1, 4, count - 1)
    sideways = generator.uniform(-2, 2, (count, 2)) if draw(st.booleans()) else leaning(count, 0, 0.7)[:, :2]
    places = np.column_stack([sideways, np.concatenate([[0], np.cumsum(steps)])])
    turn, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    turn[:, 2] = np.cross(turn[:, 0], turn[:, 1])
    return frames(places, turn)


@given(stacks())
def test_a_ramp_in_space_stays_where_it_is(given_frames: list[Frame]) -> None:
    """Linear interpolation keeps a ramp, so that every voxel tells where its value came from."""
    made = repair.plan(given_frames)
    stack = np.stack([ramp(header_affine(frame), frame.size) for frame in given_frames])
    voxels, truth = repair.resample(stack, made, OUTSIDE), on(made)
    covered = voxels != OUTSIDE
    per_axis = np.abs(RAMP[:3] @ made.affine[:3, :3])
    assert np.abs(voxels - truth)[covered].max() <= per_axis.sum() * 0.501  # half a voxel along each axis
    for k, plane in enumerate(voxels):  # between the outer pixels' centres, exactly
        beside = np.flatnonzero(np.abs(made.heights - k) < 1e-9)
        if not beside.size:
            above = int(np.searchsorted(made.heights, k))
            beside = np.array([above - 1, above])
        low = np.ceil(made.shifts[beside].max(axis=0) - 1e-9).astype(int)
        high = np.floor(made.shifts[beside].min(axis=0) + [ROWS - 1, COLUMNS - 1] + 1e-9).astype(int)
        inner = (slice(low[0], high[0] + 1), slice(low[1], high[1] + 1))
        assert covered[k][inner].all()
        np.testing.assert_allclose(plane[inner], truth[k][inner], atol=1e-2)  # headers are trusted to 1e-3 of a pixel


@given(stacks())
def test_every_original_pixel_has_its_place(given_frames: list[Frame]) -> None:
    made = repair.plan(given_frames)
    assert made.residual_mm <= 0.005
    for frame, affine in zip(given_frames, made.slices.affines, strict=True):
        corners = np.array([[0, 0, 0, 1], [COLUMNS - 1, 0, 0, 1], [0, ROWS - 1, 0, 1]]).T
        np.testing.assert_allclose(affine @ corners, header_affine(frame) @ corners, atol=1e-9)
        index = (np.linalg.inv(made.affine) @ affine @ [[0, COLUMNS - 1], [0, ROWS - 1], [0, 0], [1, 1]])[:3]
        last = np.array(made.shape[::-1]) - 1
        assert index.min() > -0.01 and (index.T - last).max() < 0.01


@given(stacks())
def test_a_label_comes_back_on_every_original_slice(given_frames: list[Frame]) -> None:
    """Half of space is a label: on the grid, and on the slices up to half a voxel from the border."""
    made = repair.plan(given_frames)
    truth = on(made)
    border = float(np.median(truth))
    labels = (truth > border).astype(np.uint8).transpose(2, 1, 0)[None]
    laid = originals.lay(Volume(labels, made.affine, Source(slices=made.slices)))[0]
    reach = np.abs(RAMP[:3] @ made.affine[:3, :3]).sum() / 2 + 1e-6
    for n, frame in enumerate(given_frames):
        own = ramp(header_affine(frame), frame.size).T
        assert (laid[..., n] == (own > border))[np.abs(own - border) > reach].all()


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.float32])
def test_slices_on_the_grid_come_back_bit_for_bit(kind: type) -> None:
    places = np.delete(np.array([[0, 0, 3.0 * n] for n in range(8)]), [2, 5], axis=0)
    places[3:, 0] += 1.6  # two whole rows
    stack = np.random.default_rng(0).integers(-(2**14), 2**14, (6, ROWS, COLUMNS)).astype(kind) * 3
    made = repair.plan(frames(places))
    voxels = repair.resample(stack, made, OUTSIDE if kind is not np.int16 else -(2**15))
    assert voxels.dtype == kind and voxels.shape == (8, ROWS + 2, COLUMNS)
    for n, k in enumerate([0, 1, 3, 4, 6, 7]):
        top = 2 if n >= 3 else 0
        np.testing.assert_array_equal(voxels[k, top : top + ROWS], stack[n])


def test_whole_numbers_are_rounded_and_large_ones_kept() -> None:
    places = np.array([[0, 0, 0], [0, 0, 3.0], [0, 0, 9.0]])
    stack = np.array([0, 2**30 + 3, 1])[:, None, None] * np.ones((1, ROWS, COLUMNS), np.int64)
    voxels = repair.resample(stack.astype(np.int32), repair.plan(frames(places)), -5)
    np.testing.assert_array_equal(voxels[:, 0, 0], [0, 2**30 + 3, 2**29 + 2, 1])


def test_a_leaning_stack_grows_by_what_it_leans() -> None:
    made = repair.plan(frames(leaning(5, 3, 0.2)))
    assert made.shape == (5, ROWS + 1, COLUMNS)
    voxels = repair.resample(np.ones((5, ROWS, COLUMNS), np.int16), made, -7)
    # a quarter of a row down, its first pixel is nearest to row 0; three quarters down, to row 1
    np.testing.assert_array_equal(voxels[1, :, 0], [*[1] * ROWS, -7])
    np.testing.assert_array_equal(voxels[3, :, 0], [-7, *[1] * ROWS])


def test_nothing_is_blended_with_the_outside() -> None:
    """A plane half-way between two slices that lie sideways of one another takes what one of them has alone."""
    places = np.array([[0, 0, 0], [0, 0, 2.0], [0, 1.2, 6.0], [0, 1.2, 8.0]])
    made = repair.plan(frames(places))
    voxels = repair.resample(np.full((4, ROWS, COLUMNS), 100, np.int16), made, -1024)
    assert set(np.unique(voxels)) == {-1024, 100}
    np.testing.assert_array_equal(voxels[2, 0], [-1024] * 2 + [100] * (COLUMNS - 2) + [-1024] * 2)


def test_a_slice_alone_reaches_half_a_step() -> None:
    """Planes are 1.2 mm apart; slice 1, two columns to the right of the others, is 0.4 mm below plane 2."""
    places = np.array([[0, 0, 0], [0, 1.2, 2.0], [0, 0, 3.2], [0, 0, 6.0]])
    stack = np.array([10, 20, 20, 40])[:, None, None] * np.ones((1, ROWS, COLUMNS), np.int16)
    voxels = repair.resample(stack.astype(np.int16), repair.plan(frames(places)), -9)
    np.testing.assert_array_equal(voxels[2, 0], [-9] * 2 + [20] * COLUMNS)
    np.testing.assert_array_equal(voxels[1, 0, [0, 1, -2, -1]], [-9] * 4)  # slice 1 is 0.8 mm away


def test_the_grid_is_as_fine_as_the_finer_part() -> None:
    heights = np.concatenate([np.arange(10) * 3.0, 27 + np.arange(1, 11) * 5.0])
    made = repair.plan(frames(np.column_stack([np.zeros((20, 2)), heights])))
    assert made.step_mm == pytest.approx(77 / 26)
    jitter = np.arange(20) * 3.0 + np.where(np.arange(20) == 7, 1.5, 0)
    assert repair.plan(frames(np.column_stack([np.zeros((20, 2)), jitter]))).step_mm == pytest.approx(3)


@pytest.mark.parametrize(("step", "digits"), [(0.625, 1), (1.25, 1), (0.33, 2)])
def test_steps_that_were_rounded_are_one_step(step: float, digits: int) -> None:
    heights = (np.arange(100) * step).round(digits)
    made = repair.plan(frames(np.column_stack([np.zeros((100, 2)), heights])))
    assert made.shape[0] == 100
    np.testing.assert_allclose(made.heights, np.arange(100), atol=1.01 * 10**-digits / step)


@pytest.mark.parametrize(
    ("modality", "lowest", "kind", "fill"),
    [("CT", 20, "int16", -1024), ("CT", -3024, "int16", -3024), ("CT", 20, "uint16", 0), ("MR", 5, "float32", 5)],
)
def test_outside_is_the_lowest_value_and_air_in_ct(modality: str, lowest: int, kind: str, fill: float) -> None:
    assert repair.padding(np.array([lowest, 90], kind), modality) == fill
