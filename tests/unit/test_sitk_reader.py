"""NRRD and MetaImage: ITK's LPS becomes RAS, vectors become channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg import readers
from medseg.refusal import Refusal


def image(array: np.ndarray, vector: bool = False) -> sitk.Image:
    made = sitk.GetImageFromArray(array, isVector=vector)
    made.SetSpacing((0.5, 1.5, 2.0))
    made.SetOrigin((10.0, 20.0, 30.0))
    made.SetDirection((0, 0, 1, 1, 0, 0, 0, 1, 0))
    return made


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
def test_voxels_lie_where_itk_puts_them(tmp_path: Path, suffix: str) -> None:
    made = image(np.arange(24, dtype=np.int16).reshape(4, 3, 2))
    sitk.WriteImage(made, str(tmp_path / f"a{suffix}"))
    volume = readers.read(tmp_path / f"a{suffix}")
    assert volume.shape == (2, 3, 4)
    for index in ((0, 0, 0), (1, 2, 3), (1, 0, 2)):
        x, y, z = made.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose((volume.affine @ [*index, 1])[:3], [-x, -y, z])
        assert volume.array[(0, *index)] == made[index]


def test_vectors_become_channels(tmp_path: Path) -> None:
    array = np.arange(48, dtype=np.float32).reshape(4, 3, 2, 2)
    sitk.WriteImage(image(array, vector=True), str(tmp_path / "a.nrrd"))
    volume = readers.read(tmp_path / "a.nrrd")
    assert volume.array.shape == (2, 2, 3, 4)
    np.testing.assert_array_equal(volume.array[1, 1, 2], array[:, 2, 1, 1])


def test_damaged_and_flat_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.mha"
    sitk.WriteImage(image(np.zeros((40, 30, 20), np.int16)), str(path))
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(Refusal, match=r"scan\.mha"):
        readers.read(path)
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 3), np.uint8)), str(tmp_path / "flat.mha"))
    with pytest.raises(Refusal, match="2 axes"):
        readers.read(tmp_path / "flat.mha")
