"""Clean-up steps on maps that can be checked by eye, and against SciPy on random ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medseg import plugins
from medseg.labels import LabelTable
from medseg.refusal import Refusal

ORGANS = LabelTable.of({"liver": 5, "tumour": 9})
"""Network classes: 1 liver, 2 tumour."""
REGIONS = LabelTable.of({"whole": [1, 2], "core": [2]})
ONE = LabelTable.of({"thing": 1})


def clean(name: str, target: np.ndarray, table: LabelTable, spacing=(1.0, 1.0, 1.0), **options) -> np.ndarray:
    step = plugins.find("postprocess", name)
    return step.apply(target.copy(), table=table, spacing_mm=np.array(spacing), options=step.Options(**options))


def flat(*rows: str) -> np.ndarray:
    """Network target (1, I, J, 1) from rows of digits, '.' for background."""
    return np.array([[int(c) if c != "." else 0 for c in row] for row in rows], dtype=np.uint8)[None, :, :, None]


def test_keep_largest_cleans_each_label_by_itself():
    before = flat("11.1", "1...", "..22", "2...")
    assert (clean("keep_largest", before, ORGANS) == flat("11..", "1...", "..22", "....")).all()
    assert (clean("keep_largest", before, ORGANS, labels=("liver",)) == flat("11..", "1...", "..22", "2...")).all()


@pytest.mark.parametrize("shape", [(1, 3, 1), (3, 1, 1), (1, 1, 7)])
def test_a_line_of_voxels_with_gaps_is_cleaned_too(shape):
    """The bounding box of a few stray voxels, in which cc3d alone expects too few components."""
    before, wanted = np.zeros((2, 1, *shape), np.uint8)
    before.reshape(-1)[::2] = 1
    wanted.reshape(-1)[0] = 1
    assert (clean("keep_largest", before, ONE) == wanted).all()
    assert (clean("remove_small", before, ONE, min_ml=0) == before).all()


def test_keep_largest_counts_corners_as_neighbours_unless_told_otherwise():
    before = flat("11.", "..1")
    assert (clean("keep_largest", before, ONE) == before).all()
    assert (clean("keep_largest", before, ONE, connectivity=6) == flat("11.", "...")).all()


def test_regions_are_cleaned_channel_by_channel():
    before = np.concatenate([flat("111.1"), flat(".11.1")])
    assert (clean("keep_largest", before, REGIONS, labels=("core",)) == [*flat("111.1"), *flat(".11..")]).all()


def test_remove_small_goes_by_volume():
    before = flat("11.1", "....", "1...")  # components of 2, 1 and 1 voxels of 10 x 10 x 10 mm = 1 ml
    ten = (10.0, 10.0, 10.0)
    assert (clean("remove_small", before, ONE, ten, min_ml=2) == flat("11..", "....", "....")).all()
    assert (clean("remove_small", before, ONE, ten, min_ml=1) == before).all()
    assert not clean("remove_small", before, ONE, ten, min_ml=2.001).any()


def test_a_component_of_exactly_the_volume_stays():
    # 3 voxels of 0.1^3 mm: the product of the spacings is not exactly 0.001 in binary.
    assert clean("remove_small", flat("111"), ONE, (0.1, 0.1, 0.1), min_ml=3e-6).sum() == 3


def test_fill_holes_of_a_slice_keeps_other_labels_and_open_bays():
    before = flat("11111.", "1...1.", "1.2.1.", "1...1.", "111111", "1....1", "1.1111")
    after = flat("11111.", "11111.", "11211.", "11111.", "111111", "1....1", "1.1111")
    assert (clean("fill_holes", before, ORGANS) == after).all()


def test_fill_holes_in_three_dimensions():
    shell = np.zeros((1, 5, 5, 5), dtype=np.uint8)
    shell[0, 1:4, 1:4, 1:4] = 1
    shell[0, 2, 2, 2] = 0
    assert clean("fill_holes", shell, ONE).sum() == 27
    shell[0, 1, 2, 2] = 0  # a way out
    assert clean("fill_holes", shell, ONE).sum() == 25


def test_an_unknown_label_is_refused_with_the_nearest_name():
    with pytest.raises(Refusal, match="did you mean 'liver'"):
        clean("keep_largest", flat("1"), ORGANS, labels=("livr",))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(2, 9)] * 3), st.floats(0.3, 0.9))
def test_equal_scipy(seed, shape, share):
    mask = np.random.default_rng(seed).random(shape) < share
    target = mask[None].astype(np.uint8)
    assert (clean("fill_holes", target, ONE)[0] == ndimage.binary_fill_holes(mask)).all()

    components, _ = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(components.ravel())
    kept = clean("remove_small", target, ONE, (10, 10, 10), min_ml=4)[0]
    assert (kept == (mask & (sizes[components] >= 4))).all()
    assert clean("keep_largest", target, ONE).sum() == sizes[1:].max(initial=0)
