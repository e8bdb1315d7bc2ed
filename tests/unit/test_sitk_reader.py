"""NRRD and MetaImage: ITK's LPS becomes RAS, vectors become channels."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg import readers
from medseg.readers._voxels import CHUNK_BYTES
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


NRRD = ("type: short", "dimension: 3", "sizes: 2 2 2", "encoding: raw", "endian: little")
PLACE = ("space directions: (2,0,0) (0,3,0) (0,0,4)", "space origin: (10,20,30)")


def nrrd(path: Path, *lines: str) -> Path:
    path.write_bytes("\n".join(("NRRD0004", *NRRD, *lines, "", "")).encode() + bytes(16))
    return path


@pytest.mark.parametrize(
    ("space", "places"),
    [
        ("left-posterior-superior", [-10, -20, 30]),
        ("RAS", [10, 20, 30]),
        ("LAS", [-10, 20, 30]),
    ],
)
def test_spaces_of_nrrd(tmp_path: Path, space: str, places: list[float]) -> None:
    units = 'space units: "mm" "mm" "mm"'
    volume = readers.read(nrrd(tmp_path / "a.nrrd", f"space: {space}", *PLACE, units))
    np.testing.assert_array_equal(volume.affine[:3, 3], places)
    np.testing.assert_array_equal(volume.spacing_mm, [2, 3, 4])


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ((), "no space, so left and right are unknown"),
        (("space dimension: 3", *PLACE), "no space, so"),
        (("space: scanner-xyz", *PLACE), "space 'scanner-xyz', so left and right"),
        (("space: 3D-right-handed", *PLACE), "space '3D-right-handed'"),
        (("space: LPS",), "no space directions, so the size of a voxel"),
        (("space: LPS", *PLACE, 'space units: "um" "um" "um"'), "space units 'um'"),
        (("space: LPS", *PLACE, 'Space Units: "mm" "mm" "cm"'), "space units 'cm'"),
    ],
)
def test_an_nrrd_that_does_not_tell_its_place_is_refused(tmp_path: Path, lines: tuple[str, ...], found: str) -> None:
    """SimpleITK takes any space for LPS, and any unit for millimetres."""
    with pytest.raises(Refusal, match=re.escape(found)):
        readers.read(nrrd(tmp_path / "a.nrrd", *lines))


@pytest.mark.parametrize("suffix", [".mha", ".mhd"])
@pytest.mark.parametrize("kind", ["flipped", "short", "cut"])
def test_a_compressed_metaimage_that_is_damaged_is_refused(tmp_path: Path, suffix: str, kind: str) -> None:
    """SimpleITK reads what is before the damage; behind it is whatever was in memory."""
    array = np.random.default_rng(0).integers(0, 1000, (30, 20, 10), dtype=np.int16)
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(image(array), str(path), useCompression=True)
    np.testing.assert_array_equal(readers.read(path).array[0], array.T)
    data = path if suffix == ".mha" else tmp_path / "scan.zraw"
    head, local, packed = data.read_bytes().rpartition(b"LOCAL\n")
    middle = len(packed) // 2
    if kind == "flipped":
        packed = packed[:middle] + bytes([packed[middle] ^ 0xFF]) + packed[middle + 1 :]
    else:  # as long as the header says, and too little
        less = zlib.compress(array.tobytes()[:1000]) if kind == "short" else packed[:middle]
        packed = less + bytes(len(packed) - len(less))
    data.write_bytes(head + local + packed)
    with pytest.raises(Refusal, match=r"bytes of voxels, packed"):
        readers.read(path)


@pytest.mark.parametrize("more", [0, 1, 257, 1000])
def test_a_whole_compressed_metaimage_is_read_whatever_its_size(tmp_path: Path, more: int) -> None:
    """The last piece may come out after all of the file is taken in."""
    array = np.repeat(np.arange(5, dtype=np.uint8), CHUNK_BYTES)[-CHUNK_BYTES - more :].reshape(1, 1, -1)
    sitk.WriteImage(image(array), str(tmp_path / "a.mha"), useCompression=True)
    np.testing.assert_array_equal(readers.read(tmp_path / "a.mha").array[0], array.T)


def test_four_axes_of_simpleitk(tmp_path: Path) -> None:
    """ITK writes no space for them into an NRRD, and MetaImage needs none."""
    array = np.arange(48, dtype=np.float32).reshape(2, 4, 3, 2)
    made = sitk.GetImageFromArray(array, isVector=False)
    sitk.WriteImage(made, str(tmp_path / "a.nrrd"))
    with pytest.raises(Refusal, match=r"as ITK writes every 4-D image; .*vector image \(sitk\.Compose\) or as \.mha"):
        readers.read(tmp_path / "a.nrrd")
    channels = [made[:, :, :, n] for n in range(2)]
    sitk.WriteImage(sitk.Compose(channels), str(tmp_path / "b.nrrd"))
    sitk.WriteImage(made, str(tmp_path / "b.mha"))
    for name in ("b.nrrd", "b.mha"):
        np.testing.assert_array_equal(readers.read(tmp_path / name).array, array.transpose(0, 3, 2, 1))


@pytest.mark.parametrize("suffix", [".gipl", ".vtk"])
def test_formats_without_left_and_right_are_not_read(tmp_path: Path, suffix: str) -> None:
    sitk.WriteImage(image(np.zeros((4, 3, 2), np.int16)), str(tmp_path / f"a{suffix}"))
    with pytest.raises(Refusal, match="no reader knows"):
        readers.read(tmp_path / f"a{suffix}")
