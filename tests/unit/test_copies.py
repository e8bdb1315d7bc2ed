"""One image under two patients is seen when the data are prepared: no split can see it."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg import config
from medseg.engine import material
from medseg.engine.material import Material
from medseg.refusal import Refusal
from tests import tiny

IMAGE, COPY = "p1_a.nii.gz", "p3_a.nii.gz"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tiny.data_set(tmp_path / "data")


def assembled(data: Path, *changes: str) -> Material:
    loaded = config.load(tiny.recipe(data.parent / "recipe.yaml", data), list(changes))
    return material.assemble(loaded, None, announce=lambda text: None)


def test_a_copy_under_another_patient_is_refused_also_with_its_axes_turned(data: Path) -> None:
    images = data / "images"
    original = nib.load(images / IMAGE)
    turned = original.as_reoriented([[0, -1], [1, 1], [2, 1]])
    assert not np.array_equal(np.asarray(turned.dataobj), np.asarray(original.dataobj))
    nib.save(turned, images / COPY)
    for _ in range(2):  # also where all is in the cache already
        with pytest.raises(Refusal) as refusal:
            assembled(data)
        assert IMAGE in refusal.value.found and "patients 'p1' and 'p3'" in refusal.value.found
        assert COPY in refusal.value.where and "give both the same patient id" in refusal.value.remedy
    assert assembled(data, "split.kind=none").split.stamp  # which says itself that patients are on two sides


def test_a_copy_of_the_same_patient_is_none_of_its_business(data: Path) -> None:
    shutil.copy(data / "images" / IMAGE, data / "images" / "p1_b.nii.gz")
    assert len(assembled(data).prepared) == 4


def test_blank_images_of_several_patients_are_no_copies(data: Path) -> None:
    """Slices above the head, say, in a data set of slices."""
    for name in (IMAGE, COPY):
        image = nib.load(data / "images" / name)
        nib.save(nib.Nifti1Image(np.zeros(image.shape, np.float32), image.affine), data / "images" / name)
    assert len(assembled(data).prepared) == 4
