"""Where patches are cut, what lies beyond the border, and that workers agree."""

import multiprocessing
import pickle

import numpy as np
import pytest

from medseg.data import cache
from medseg.data.patches import PatchSource, cut, draw_patch, generator_for
from medseg.labels import LabelTable
from medseg.plan import Normalisation, Plan
from medseg.transforms import prepare
from medseg.volume import Volume

TABLE = LabelTable.of({"large": 1, "tiny": 2})
PLAN = Plan(
    orientation="RAS",
    spacing_mm="native",
    patch=(8, 8, 8),
    batch=1,
    normalisation=(Normalisation(kind="none"),),
    crop="none",
    order=3,
    channels=("CT",),
)


@pytest.fixture
def folders(tmp_path):
    for name, shape in (("a", (20, 24, 6)), ("b", (30, 8, 16))):
        values = np.zeros((1, *shape), np.uint8)
        values[0, 2:15, 1:7], values[0, 17, 5, 3] = 1, 2
        scan = Volume(np.arange(values.size, dtype=np.float32).reshape(values.shape), np.eye(4))
        image, undo = prepare.image(scan, PLAN)
        target = prepare.target(scan.with_array(values), undo, TABLE)
        cache.write_case(tmp_path / name, name, image, target, undo, TABLE)
    return [tmp_path / "a", tmp_path / "b"]


def test_cut_on_paper():
    array = np.arange(1, 5).reshape(1, 4, 1, 1)
    assert cut(array, (1, 0, 0), (2, 1, 1)).flatten().tolist() == [2, 3]
    assert cut(array, (-1, 0, 0), (6, 1, 1)).flatten().tolist() == [0, 1, 2, 3, 4, 0]
    assert cut(array, (3, 0, 0), (3, 1, 1)).flatten().tolist() == [4, 0, 0]
    copy = cut(array, (0, 0, 0), (4, 1, 1))
    copy[:] = 9
    assert array.flatten().tolist() == [1, 2, 3, 4]


def test_patches_stay_inside_and_meet_the_tiny_label(folders):
    prepared = cache.open_case(folders[0])
    met = 0
    for index in range(400):
        start = draw_patch(generator_for(1, 0, index), prepared, (8, 8, 8), foreground_share=0.5)
        assert all(0 <= start[axis] <= prepared.image.shape[1 + axis] - 8 for axis in (0, 1))
        assert start[2] == -1  # 6 voxels centred in 8
        met += bool((cut(prepared.target, start, (8, 8, 8)) == 2).any())
    assert met > 400 * 0.5 * 0.5 * 0.8  # half are foreground, half of these the tiny label


def test_a_sample_hangs_on_seed_epoch_and_number_only(folders):
    source = PatchSource([folders], (8, 8, 8), 12, seed=3)
    forwards = [source[index] for index in range(12)]
    again = PatchSource([folders], (8, 8, 8), 12, seed=3)
    for index in reversed(range(12)):
        image, target, case = again[index]
        assert case == forwards[index][2]
        assert np.array_equal(image, forwards[index][0]) and np.array_equal(target, forwards[index][1])
        assert image.shape == (1, 8, 8, 8) and type(image) is np.ndarray
    assert any(not np.array_equal(source.at(1)[index][0], forwards[index][0]) for index in range(12))
    assert {case for _, _, case in forwards} == {"a", "b"}
    with pytest.raises(IndexError):
        source[12]


def test_workers_started_afresh_cut_the_same(folders):
    source = PatchSource([folders], (8, 8, 8), 4, seed=3)
    expected = [source[index] for index in range(4)]
    assert len(pickle.dumps(source)) < 2000  # the opened cases stay behind
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        got = pool.map(source.__getitem__, range(4))
    for (image, target, case), (image2, target2, case2) in zip(expected, got, strict=True):
        assert np.array_equal(image, image2) and np.array_equal(target, target2) and case == case2
