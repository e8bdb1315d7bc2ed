"""Channels on one grid, on turned grids, on other grids, and a real study whose sequences do not match."""

import os
from pathlib import Path

import numpy as np
import pytest

from medseg.geometry import axis_map
from medseg.refusal import Refusal
from medseg.transforms.channels import combine
from medseg.volume import Source, Volume

DATA = os.environ.get("MEDSEG_REFERENCE_DATA")


def head(affine: np.ndarray, shape=(24, 26, 20), *, name="a.nii.gz", invert=False) -> Volume:
    """An egg with two off-centre dots, painted at the world coordinates of each voxel."""
    index = np.stack(np.meshgrid(*(np.arange(size) for size in shape), [1], indexing="ij"))[..., 0].reshape(4, -1)
    x, y, z = (affine @ index)[:3]
    value = 100.0 * ((x / 32) ** 2 + (y / 40) ** 2 + (z / 36) ** 2 < 1)
    for centre, size in (((12, 10, 5), 9), ((-10, -14, -8), 12)):
        value += 80.0 * (sum((a - b) ** 2 for a, b in zip((x, y, z), centre, strict=True)) < size**2)
    value = value.reshape(1, *shape)
    return Volume(200 - value if invert else value, affine, Source(Path(name)), channels=(name[0],))


def grid(offset=(0.0, 0.0, 0.0), spacing=(4.0, 4.0, 5.0), shape=(24, 26, 20)) -> np.ndarray:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = np.array(offset) - np.array(spacing) * (np.array(shape) - 1) / 2
    return affine


def test_one_volume_is_itself_and_same_grids_are_stacked():
    first, second = head(grid()), head(grid((0.001, 0, 0)), name="b.nii.gz")
    assert combine([first], policy="refuse") is first
    both = combine([first, second], policy="refuse")
    assert both.array.shape == (2, 24, 26, 20) and both.channels == ("a", "b") and both.source.path == Path("a.nii.gz")


def test_another_axis_order_is_turned_exactly():
    first, second = head(grid()), head(grid(), name="b.nii.gz", invert=True)
    axes = axis_map(second.affine, "SPL")
    turned = Volume(axes.apply(second.array), axes.affine(second.affine, second.shape), second.source)
    both = combine([first, turned], policy="refuse")
    assert np.array_equal(both.array[1], second.array[0])


def test_another_grid_is_refused_with_both_names_and_the_distance():
    with pytest.raises(Refusal, match=r"b\.nii\.gz: found a grid up to 5 mm away from that of a\.nii\.gz"):
        combine([head(grid()), head(grid((3, 4, 0)), name="b.nii.gz")], policy="refuse")
    other = head(grid(shape=(20, 26, 20)), (20, 26, 20), name="b.nii.gz")
    with pytest.raises(Refusal, match="20 x 26 x 20 voxels instead of 24 x 26 x 20"):
        combine([head(grid()), other], policy="refuse")


def test_resample_reads_at_the_same_place():
    fine = head(grid(spacing=(2, 2, 2.5), shape=(48, 52, 40), offset=(1.3, 0, 0)), (48, 52, 40), name="b.nii.gz")
    both = combine([head(grid()), fine], policy="resample")
    first, second = both.array
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.95


def test_register_finds_a_shift_and_always_the_same_one():
    moved = head(grid(), name="b.nii.gz", invert=True)
    wrong = Volume(moved.array, grid((7.0, -6.0, 5.0)), moved.source)  # the patient moved; the header says otherwise
    first = head(grid())
    only_resampled = combine([first, wrong], policy="resample").array[1]
    registered = combine([first, wrong], policy="register").array[1]
    inner = (slice(4, -4),) * 3
    before = np.abs(only_resampled - moved.array[0])[inner].mean()
    after = np.abs(registered - moved.array[0])[inner].mean()
    assert after < before / 3
    assert np.array_equal(registered, combine([first, wrong], policy="register").array[1])


@pytest.mark.reference_data
@pytest.mark.skipif(not DATA, reason="MEDSEG_REFERENCE_DATA does not name a folder of real scans")
def test_a_real_brain_study_with_turned_sequences():
    import nibabel

    study = Path(DATA or "") / "mr" / "tcga_fg_6692_native"
    if not study.is_dir():
        pytest.skip(f"no {study}")
    volumes = []
    for pattern in ("*t1c.nii.gz", "*fla.nii.gz"):
        path = next(study.glob(pattern))
        file = nibabel.load(path)
        volumes.append(Volume(np.asarray(file.dataobj)[None], file.affine, Source(path)))
    with pytest.raises(Refusal, match="mm away from that of"):
        combine(volumes, policy="refuse")
    scores = {}
    for policy in ("resample", "register"):
        both = combine(volumes, policy=policy)
        assert both.shape == volumes[0].shape and np.isfinite(both.array).all()
        scores[policy] = mutual_information(*both.array)
    assert scores["register"] > scores["resample"] - 0.01  # they were scanned in one session: little is left to gain


def mutual_information(first: np.ndarray, second: np.ndarray) -> float:
    """In nats, from a joint histogram of 32 x 32 bins."""
    joint, _, _ = np.histogram2d(first.ravel(), second.ravel(), bins=32)
    joint /= joint.sum()
    product = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    return float((joint[joint > 0] * np.log(joint[joint > 0] / product[joint > 0])).sum())
