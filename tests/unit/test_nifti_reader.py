"""NIfTI and MGH: values, types, affines and units as the header means them; damage and doubt are refused."""

from __future__ import annotations

import gzip
import mmap
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg import readers, scratch
from medseg.refusal import Refusal

AFFINE = np.array([[0, 0, 2.0, 10], [-0.5, 0, 0, 20], [0, 1.5, 0, 30], [0, 0, 0, 1]])


def save(path: Path, array: np.ndarray, change: dict[str, object] | None = None, sform: int = 1) -> Path:
    image = nib.Nifti1Image(array, AFFINE)
    image.set_sform(AFFINE, code=sform)
    image.set_qform(AFFINE, code=0)
    for name, value in (change or {}).items():
        image.header[name] = value
    nib.save(image, path)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_unscaled_values_keep_their_type(tmp_path: Path, dtype: type) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    volume = readers.read(save(tmp_path / "a.nii.gz", array))
    np.testing.assert_array_equal(volume.array, array[None])
    assert volume.array.dtype == dtype
    np.testing.assert_array_equal(volume.affine, AFFINE)


def test_scaled_values_become_float(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    image = nib.Nifti1Image(array, AFFINE)
    image.header.set_slope_inter(0.5, -3)
    nib.save(image, tmp_path / "a.nii")
    volume = readers.read(tmp_path / "a.nii")
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array[0], nib.load(tmp_path / "a.nii").get_fdata())


def test_big_endian_pair_and_nifti_2(tmp_path: Path) -> None:
    array = np.arange(24, dtype=">i2").reshape(2, 3, 4)
    big = nib.Nifti1Image(array, AFFINE, nib.Nifti1Header(endianness=">"))
    nib.save(big, tmp_path / "big.nii")
    nib.save(nib.Nifti2Image(array.astype(np.int16), AFFINE), tmp_path / "two.nii.gz")
    nib.save(nib.Nifti1Pair(array.astype(np.int16), AFFINE), tmp_path / "pair.img")
    for name in ("big.nii", "two.nii.gz", "pair.img", "pair.hdr"):
        volume = readers.read(tmp_path / name)
        np.testing.assert_array_equal(volume.array[0], array)
        assert volume.array.dtype.isnative
        np.testing.assert_allclose(volume.affine, AFFINE)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 3), (1, 2, 3, 1)),
        ((2, 3, 4, 1), (1, 2, 3, 4)),
        ((2, 3, 4, 5), (5, 2, 3, 4)),
        ((2, 3, 4, 1, 3), (3, 2, 3, 4)),
    ],
)
def test_last_axis_becomes_channels(tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    volume = readers.read(save(tmp_path / "a.nii", array))
    assert volume.array.shape == expected
    if len(shape) == 4 and shape[3] > 1:
        np.testing.assert_array_equal(volume.array[3], array[..., 3])


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("meter", 1000), ("micron", 0.001), ("unknown", 1)])
def test_units(tmp_path: Path, unit: str, factor: float) -> None:
    image = nib.Nifti1Image(np.zeros((2, 3, 4), np.uint8), AFFINE)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(readers.read(tmp_path / "a.nii").affine[:3], AFFINE[:3] * factor)


def test_qform_is_taken_when_there_is_no_sform(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((2, 3, 4), np.uint8), AFFINE)
    image.set_sform(None, code=0)
    image.set_qform(AFFINE, code=1)
    nib.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(readers.read(tmp_path / "a.nii").affine, AFFINE, atol=1e-5)


def turned(degrees: float) -> np.ndarray:
    """`AFFINE` turned about the patient's long axis."""
    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    return np.array([[cosine, -sine, 0, 0], [sine, cosine, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ AFFINE


@pytest.mark.parametrize(("degrees", "said"), [(0.0, False), (0.01, False), (2.0, True), (180.0, True)])
def test_a_qform_elsewhere_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, degrees: float, said: bool
) -> None:
    """Two degrees change no entry of the affine by more than 0.08 mm, and move the far corner by 7."""
    image = nib.Nifti1Image(np.zeros((60, 50, 100), np.int16), AFFINE)
    image.set_sform(AFFINE, code=1)
    image.set_qform(turned(degrees), code=1)
    nib.save(image, tmp_path / "a.nii")
    np.testing.assert_array_equal(readers.read(tmp_path / "a.nii").affine, AFFINE)
    assert ("sform and qform put voxels up to" in caplog.text) == said


def test_voxel_sizes_that_the_sform_contradicts_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    array = np.zeros((20, 20, 20), np.int16)
    readers.read(save(tmp_path / "a.nii", array, {"pixdim": [1, -0.5, 1.5, 2, 1, 1, 1, 1]}))
    assert "sform and" not in caplog.text
    volume = readers.read(save(tmp_path / "b.nii", array, {"pixdim": [1, 0.5, 1.5, 2.5, 1, 1, 1, 1]}))
    assert "b.nii: sform and pixdim put voxels up to 19 voxels apart; the sform is used" in caplog.text
    np.testing.assert_array_equal(volume.spacing_mm, [0.5, 1.5, 2])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"sform_code": 0}, "neither a qform nor an sform"),
        ({"srow_x": [0, 0, 0, 0]}, "singular affine"),
        ({"srow_x": [np.nan, 0, 0, 0]}, "singular affine"),
        ({"pixdim": [1, 0, 1, 1, 1, 1, 1, 1]}, "voxel sizes"),
        ({"dim": [3, 2, 3, 400, 1, 1, 1, 1]}, "of voxels"),
        ({"dim": [3, 32767, 32767, 32767, 1, 1, 1, 1]}, "of voxels"),
        ({"datatype": 128, "bitpix": 24}, "voxels of type"),
    ],
)
def test_doubtful_headers_are_refused(tmp_path: Path, change: dict[str, object], text: str) -> None:
    path = save(tmp_path / "scan.nii", np.zeros((2, 3, 4), np.uint8))
    raw = bytearray(path.read_bytes())
    header = nib.Nifti1Header.from_fileobj(path.open("rb"))
    for name, value in change.items():
        header[name] = value
    raw[: header.structarr.nbytes] = header.structarr.tobytes()
    path.write_bytes(bytes(raw))
    with pytest.raises(Refusal, match=rf"scan\.nii: .*{text}"):
        readers.read(path)


def test_truncated_and_corrupted_gzip_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nii.gz", np.random.default_rng(0).integers(0, 99, (9, 9, 9)).astype(np.int16))
    whole = path.read_bytes()
    checksum = bytearray(whole)
    checksum[-6] ^= 1  # inside the CRC: the voxels are all there, but not what was written
    for damaged in (whole[:-9], whole[:-4], whole[: len(whole) // 2], bytes(checksum), whole[:5], b""):
        path.write_bytes(damaged)
        with pytest.raises(Refusal, match=r"scan\.nii\.gz"):
            readers.read(path)


def test_voxels_that_are_not_finite_are_counted(tmp_path: Path) -> None:
    array = np.zeros((2, 3, 4), np.float32)
    array[1, 2, 3], array[0, 1, 2] = np.nan, np.inf
    with pytest.raises(Refusal, match=r"2 voxels that are NaN or infinite, the first at .* = \(0, 0, 1, 2\)"):
        readers.read(save(tmp_path / "a.nii", array))


def test_analyze_is_refused(tmp_path: Path) -> None:
    nib.save(nib.AnalyzeImage(np.zeros((2, 3, 4), np.int16), np.eye(4)), tmp_path / "a.img")
    with pytest.raises(Refusal, match="left from right"):
        readers.read(tmp_path / "a.img")


def test_mgz(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    nib.save(nib.MGHImage(array, AFFINE), tmp_path / "a.mgz")
    volume = readers.read(tmp_path / "a.mgz")
    np.testing.assert_array_equal(volume.array[0], array)
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)


def lies_in_a_file(array: np.ndarray) -> bool:
    while array is not None and not isinstance(array, mmap.mmap):
        array = array.base
    return isinstance(array, mmap.mmap)


def test_voxels_stay_in_a_file_that_holds_them_as_they_are(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    nib.save(nib.Nifti1Pair(array, AFFINE), tmp_path / "pair.img")
    for path in (save(tmp_path / "a.nii", array), tmp_path / "pair.img"):
        found = readers.read(path).array
        assert lies_in_a_file(found) and not found.flags.writeable
        np.testing.assert_array_equal(found[0], array)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", ">f8", "<f4"])
@pytest.mark.parametrize("slope", [None, 0.25])
def test_pieces_make_the_whole(
    name: str, dtype: str, slope: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medseg.readers._voxels.CHUNK_BYTES", 56)  # an odd part of everything
    array = np.random.default_rng(0).integers(-999, 999, (3, 4, 5, 2)).astype(dtype)
    image = nib.Nifti1Image(array, AFFINE, nib.Nifti1Header(endianness=dtype[0]))
    image.set_data_dtype(dtype)
    if slope:
        image.header.set_slope_inter(slope, -7)
    nib.save(image, tmp_path / name)
    wanted = nib.load(tmp_path / name).get_fdata(dtype=np.float64)
    with scratch.on_disk(tmp_path, above=0):
        found = readers.read(tmp_path / name).array
    assert lies_in_a_file(found) and found.dtype == (np.float32 if slope else np.dtype(dtype).newbyteorder("="))
    np.testing.assert_allclose(np.moveaxis(found, 0, 3), wanted, rtol=1e-6)


def test_gzip_in_several_members_is_read_to_the_end(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    raw = path.read_bytes()
    packed = gzip.compress(raw[:360]) + gzip.compress(raw[360:])
    (tmp_path / "b.nii.gz").write_bytes(packed + bytes(100))  # as tapes and some archives pad it
    np.testing.assert_array_equal(readers.read(tmp_path / "b.nii.gz").array, readers.read(path).array)
    (tmp_path / "b.nii.gz").write_bytes(packed + b"no gzip")
    with pytest.raises(Refusal, match="damaged or truncated gzip"):
        readers.read(tmp_path / "b.nii.gz")


def test_more_than_the_header_says_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = save(tmp_path / "a.nii", np.zeros((2, 3, 4), np.uint8)).read_bytes()
    monkeypatch.setattr("medseg.readers._voxels.BEHIND_BYTES", 1000)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(raw + bytes(1000)))
    assert not readers.read(tmp_path / "a.nii.gz").array.any()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(raw + bytes(1001)))
    with pytest.raises(Refusal, match="more than 1376 bytes, of which the header explains 376"):
        readers.read(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_what_else_a_header_says_may_be_long(kind: type, tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    image = kind(array, AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 5000))
    nib.save(image, tmp_path / "a.nii")
    np.testing.assert_array_equal(readers.read(tmp_path / "a.nii").array[0], array)
