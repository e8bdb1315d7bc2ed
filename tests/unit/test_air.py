"""What counts as air around a patient, on scans that a reader can picture."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from medseg.plan import Normalisation, Plan
from medseg.transforms import air
from medseg.transforms.prepare import image
from medseg.volume import Volume
from tests import reference

CT = Normalisation(kind="ct", lower=-1000, upper=1000, mean=0, sd=500)
MR = Normalisation(kind="zscore")


def plan(*how: Normalisation, orientation: str = "RAS", spacing="native", crop: str = "none") -> Plan:
    channels = tuple(f"c{number}" for number in range(len(how)))
    return Plan(
        orientation=orientation,
        spacing_mm=spacing,
        patch=(8, 8, 8),
        batch=1,
        normalisation=how,
        crop=crop,
        order=1,
        channels=channels,
    )


def seen(array: np.ndarray, how: Plan, affine: np.ndarray | None = None) -> air.Tissue:
    scan = Volume(array if array.ndim == 4 else array[None], np.eye(4) * [8, 8, 8, 1] if affine is None else affine)
    return air.tissue(scan, image(scan, how)[1], [how])


def body(shape=(15, 15, 15), margin: int = 4) -> np.ndarray:
    """Air with a body that reaches from the first slice to the last, in voxels of 8 mm."""
    array = np.full(shape, -1000, np.int16)
    array[margin:-margin, margin:-margin] = 40
    return array


def test_air_around_the_patient_is_air_but_for_a_margin():
    found = seen(body(), plan(CT)).blocks
    expected = np.zeros((15, 15, 15), bool)
    expected[2:-2, 2:-2] = True  # 10 mm are two blocks of 8 mm
    assert (found == expected).all()


def test_the_margin_is_10_mm_or_a_block():
    thick = np.diag([20.0, 5.0, 8.0, 1.0])  # blocks of 1, 2 and 1 voxels: 20, 10 and 8 mm
    array = np.full((9, 18, 9), -1000, np.int16)
    array[4, 8:10, 4] = 0
    found = np.argwhere(seen(array, plan(CT), thick).blocks)
    assert found.min(axis=0).tolist() == [3, 3, 2] and found.max(axis=0).tolist() == [5, 5, 6]


def test_air_inside_the_patient_is_not():
    array = body()
    array[6:9, 6:9, 3:12] = -1000  # a pneumothorax
    assert (seen(array, plan(CT)).blocks == seen(body(), plan(CT)).blocks).all()


def test_lungs_that_the_first_slice_cuts_through_are_not():
    array = body(margin=2)
    array[5:10, 5:10, :] = -1000
    assert seen(array, plan(CT)).blocks[7, 7].all()


@pytest.mark.parametrize("orientation", ["RAS", "SAR", "LPI"])
def test_head_and_feet_are_those_of_the_patient(orientation):
    """The same in whatever order the network sees the axes."""
    array = body((15, 15, 15))
    array[5:10, 5:10, :] = -1000  # open at both ends
    across = body((15, 15, 15))
    across[:, 5:10, 5:10] = -1000  # open to the left and right
    assert seen(array, plan(CT, orientation=orientation)).blocks.sum() == 11 * 11 * 15
    assert seen(across, plan(CT, orientation=orientation)).blocks.sum() < 11 * 11 * 15


def test_what_is_no_deeper_than_the_threshold_is_tissue():
    at, above = body(), body()
    at[0, 0], above[0, 0] = -800, -799
    assert not seen(at, plan(CT)).blocks[0, 0].any() and seen(above, plan(CT)).blocks[0, 0].all()


def test_one_voxel_of_tissue_makes_a_block_tissue():
    array = np.full((64, 64, 64), -1000, np.int16)
    array[20, 33, 41] = 0  # in voxels of 1 mm
    found = seen(array, plan(CT), np.eye(4))
    assert found.sides == (8, 8, 8)
    assert np.argwhere(found.blocks).min(axis=0).tolist() == [0, 2, 3]
    assert np.argwhere(found.blocks).max(axis=0).tolist() == [4, 6, 7]


def test_of_other_scans_only_the_lowest_value_is_air():
    array = np.full((9, 9, 9), -3.0, np.float32)
    array[4, 4, 4] = -2.9
    assert seen(array, plan(MR)).blocks.sum() == 5**3
    assert seen(array + 3, plan(MR)).blocks.sum() == 5**3, "whatever it is"
    assert not seen(array - 900, plan(CT)).blocks.any()


def test_a_channel_with_tissue_is_enough():
    array = np.zeros((2, 9, 9, 9), np.float32)
    array[1, 4, 4, 4] = 1
    assert seen(array, plan(MR, MR)).blocks.sum() == seen(array[::-1], plan(MR, MR)).blocks.sum() == 5**3
    array[1] -= 2000
    assert seen(array, plan(CT, MR)).blocks.sum() == 5**3, "CT and PET: not by Hounsfield units"


def test_what_is_no_number_may_be_tissue():
    array = np.full((9, 9, 9), -1000, np.float32)
    array[4, 4, 4] = np.nan
    assert seen(array, plan(CT)).blocks[4, 4, 4]


def test_nothing_but_air():
    assert not seen(np.full((9, 9, 9), -1024, np.int16), plan(CT)).blocks.any()


def test_boxes_are_found_on_the_prepared_grid():
    """The crop begins at voxel 4, and prepared voxels are two of the scan."""
    array = np.zeros((40, 9, 9), np.float32)
    array[4:38] = 1
    array[4:38, 0, 0] = 0
    array[4, 0, 0] = array[37, 0, 0] = 2
    scan = Volume(array[None], np.diag([8.0, 8.0, 8.0, 1.0]))
    how = plan(MR, spacing=(16.0, 8.0, 8.0), crop="nonzero")
    undo = image(scan, how)[1]
    assert undo.crop[0] == (4, 38) and undo.prepared[0] == 17
    blocks = np.zeros((40, 9, 9), bool)
    blocks[20] = True  # lies in prepared voxel 8
    found = air.Tissue(blocks, (1, 1, 1), undo)
    whole = slice(0, 9)
    assert [found.under((slice(at, at + 1), whole, whole)) for at in range(17)] == [at in (7, 8, 9) for at in range(17)]
    assert found.under((slice(-3, 30), slice(-5, 20), slice(3, 4))), "tiles may reach beyond the image"


@settings(max_examples=40, deadline=None)
@given(
    some.sampled_from(list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))),
    some.tuples(*[some.integers(1, 20)] * 3),
    some.tuples(*[some.sampled_from([1.0, 3.0, 9.0])] * 3),
    some.integers(0, 10**6),
)
def test_the_blocks_do_not_depend_on_how_the_scan_is_stored(stored, shape, spacing, seed):
    generator = np.random.default_rng(seed)
    array = np.where(generator.random(shape) < 0.02, 0, -1000).astype(np.int16)
    affine = np.diag([*spacing, 1.0])
    permutation, flips = stored
    turned = array.transpose(permutation)[tuple(slice(None, None, flip) for flip in flips)]
    back = np.zeros((4, 4))
    back[3, 3] = 1
    for new, (old, flip) in enumerate(zip(permutation, flips, strict=True)):
        back[old, new], back[old, 3] = flip, 0 if flip == 1 else shape[old] - 1
    assert (seen(array, plan(CT), affine).blocks == seen(turned, plan(CT), affine @ back).blocks).all()


@settings(max_examples=40, deadline=None)
@given(some.tuples(*[some.integers(1, 20)] * 3), some.tuples(*[some.integers(1, 9)] * 3), some.integers(0, 10**6))
def test_highest_and_lowest_are_those_of_a_plain_loop(shape, sides, seed):
    array = np.random.default_rng(seed).integers(-50, 50, shape).astype(np.int16)
    highest, lowest = air._extremes(array.transpose(2, 0, 1), (sides[2], sides[0], sides[1]))
    assert lowest == array.min()
    for place in np.ndindex(highest.shape):
        block = tuple(slice(at * side, (at + 1) * side) for at, side in zip(place, (sides[2], *sides[:2]), strict=True))
        assert highest[place] == array.transpose(2, 0, 1)[block].max()


class TestRealScans:
    pytestmark = reference.needed

    def test_every_structure_of_a_thorax_lies_in_tissue(self):
        """Lungs, airways and all, on a CT that ends within the lungs."""
        folder = reference.ROOT / "ct" / "totalsegmentator"
        ct, labels = nib.load(folder / "example_ct_sm.nii.gz"), nib.load(folder / "example_seg.nii.gz")
        noisy = np.asarray(ct.dataobj)
        wide = np.pad(noisy, ((60, 60), (60, 60), (0, 0)), constant_values=noisy.min())
        found = seen(wide, plan(CT, orientation="".join(nib.aff2axcodes(ct.affine))), ct.affine)
        voxels = found.blocks.repeat(found.sides[0], 0).repeat(found.sides[1], 1).repeat(found.sides[2], 2)
        there = voxels[: wide.shape[0], : wide.shape[1], : wide.shape[2]]
        assert there[60:-60, 60:-60][np.asarray(labels.dataobj) > 0].all() and there.mean() < 0.4


def test_the_box_holds_the_tissue_and_10_mm():
    found = seen(body(), plan(CT))
    assert found.box == (slice(3, 12), slice(3, 12), slice(0, 15)), "10 mm are 1.25 voxels; blocks would be 2"
    array = np.full((64, 64, 64), -1000, np.int16)
    array[20, 33, 41] = 0  # in blocks of 8 voxels of 1 mm
    assert seen(array, plan(CT), np.eye(4)).box == (slice(6, 34), slice(22, 50), slice(30, 58))
    coarse = seen(array, plan(CT, spacing=(2.0, 1.0, 1.0)), np.eye(4))
    assert coarse.box == (slice(3, 17), slice(22, 50), slice(30, 58))
    assert seen(np.full((9, 9, 9), -1024, np.int16), plan(CT)).box is None


def test_the_box_lies_on_what_is_left_of_the_scan():
    array = np.zeros((40, 9, 9), np.float32)
    array[4:38, 2:7, 2:7] = 1
    scan = Volume(array[None], np.diag([8.0, 8.0, 8.0, 1.0]))
    how = plan(MR, crop="nonzero")
    assert air.tissue(scan, image(scan, how)[1], [how]).box == (slice(0, 34), slice(0, 5), slice(0, 5))
