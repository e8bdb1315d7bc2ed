"""Every real DICOM file, alone in a folder: read as other programs read it, or refused with a reason named here.

Pixels are compared with pydicom's own decoders, SimpleITK, dcmtk and dcm2niix; places with SimpleITK and dcm2niix.
"""

from __future__ import annotations

import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from medseg import readers
from medseg.dicom import pixels, suv
from medseg.geometry import LPS_FROM_RAS
from medseg.readers import dicom as dicom_reader
from medseg.refusal import Refusal
from medseg.volume import Volume
from tests import judges, reference
from tests.unit.test_reference_readers import assert_same

pytestmark = reference.needed
DICOM = reference.ROOT / "dicom"
FILES = [
    *reference.files("dicom", (".dcm", "")),
    *reference.files("pet", (".dcm",)),
    *reference.files("ct/dcmqi_ct3slice", (".dcm",)),
]
STRUCTURES = {"RT.dcm", "rt.dcm", "invalid_reference_rt.dcm", "non_existent_reference_rt.dcm"}
FILES = [path for path in FILES if path.name not in STRUCTURES]  # they need their scan, and have tests of their own

NOWHERE = {  # images without a place in space; their pixels are compared all the same
    "dicom/highdicom/dx_image.dcm": "no ImagePositionPatient",
    "dicom/nibabel/0.dcm": "Siemens mosaic",
    "dicom/nibabel/1.dcm": "Siemens mosaic",
    "dicom/pydicom/JPEG2000.dcm": "no ImagePositionPatient",
    "dicom/pydicom/JPGExtended.dcm": "no ImagePositionPatient",
    "dicom/pydicom/image_dfl.dcm": "no ImagePositionPatient",
    "dicom/pydicom_data/JLSL_16_15_1_1F.dcm": "no ImagePositionPatient",
    "dicom/pydicom_data/emri_small.dcm": "10 frames without a position",
    "dicom/pydicom_data/emri_small_RLE.dcm": "10 frames without a position",
    "dicom/pydicom_data/emri_small_big_endian.dcm": "10 frames without a position",
    "dicom/pydicom_data/emri_small_jpeg_2k_lossless.dcm": "10 frames without a position",
    "dicom/pydicom_data/emri_small_jpeg_ls_lossless.dcm": "10 frames without a position",
}
NOT_READ = {
    "dicom/highdicom/seg_image_cr_binary.dcm": "no ImagePositionPatient",
    "dicom/pydicom/ExplVR_BigEnd.dcm": "colour pixels",
    "dicom/pydicom/MR_truncated.dcm": "pixels cut short",
    "dicom/pydicom/badVR.dcm": "no image (RTDOSE)",
    "dicom/pydicom/liver_1frame.dcm": "1 frames but positions for 3",
    "dicom/pydicom/no_meta.dcm": "no DICOM signature",
    "dicom/pydicom/rtdose.dcm": "no image (RTDOSE)",
    "dicom/pydicom/rtstruct.dcm": "no DICOM signature",
    "dicom/pydicom_data/emri_small_jpeg_2k_lossless_too_short.dcm": "",
    "dicom/pydicom_data/liver_rle.dcm": "RLE encoded pixel data with 1 bits",
}
REFUSED = NOWHERE | NOT_READ
SEGMENTATIONS = ("seg_", "liver")
SCANS = [path for path in FILES if str(path.relative_to(reference.ROOT)) not in NOT_READ]
SCANS = [path for path in SCANS if not path.name.startswith(SEGMENTATIONS)]
BY_DCMTK = {  # compressed as pydicom alone decodes nothing: what dcmtk makes of it, and by how much it may differ
    "dicom/pydicom/JPGExtended.dcm": 1,  # lossy: decoders round differently
    "dicom/pydicom_data/bad_sequence.dcm": 0,
}


def name(path: Path) -> str:
    return str(path.relative_to(reference.ROOT))


def alone(path: Path, folder: Path) -> Path:
    """A copy; where it is a slice that does not say how thick it is, it is refused, and then given a millimetre."""
    file = Path(shutil.copy(path, folder / path.name))
    try:
        readers.read(file)
    except Refusal as refusal:
        if "without SliceThickness" not in str(refusal):
            return file
        header = dataset(path)
        assert header.get("SliceThickness") in (None, "")
        header.SliceThickness = 1
        header.save_as(file)
    return file


def dataset(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(path)


def itk(path: Path) -> Volume:
    image = sitk.ReadImage(str(path), imageIO="GDCMImageIO")
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return Volume(sitk.GetArrayFromImage(image).T[None], LPS_FROM_RAS @ affine)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_file_alone_is_read_as_simpleitk_reads_it_or_refused(path: Path, tmp_path: Path) -> None:
    file = alone(path, tmp_path)
    try:
        reader = readers.find(file)
        options = dicom_reader.Options(repair="refuse") if reader is dicom_reader else reader.Options()
        volume = reader.read(file, options)
    except Refusal as refusal:
        assert name(path) in REFUSED, str(refusal)
        assert REFUSED[name(path)] in str(refusal) and refusal.remedy
        return
    assert name(path) not in REFUSED
    if volume.source.reader == "dicom_seg":
        assert_segments(path, volume)
        return
    header = dataset(file)
    if header.Modality == "PT":
        factor = suv.factor([suv.facts(header)])
        volume = volume.with_array(volume.array / factor)
    if "PerFrameFunctionalGroupsSequence" in header:  # SimpleITK rescales every frame by one slope
        assert_frames(header, volume)
        return
    assert_same_slice(volume, itk(file))


def assert_same_slice(a: Volume, b: Volume) -> None:
    """Same pixels, and the same plane; SimpleITK has its own ideas of the thickness of one slice."""
    np.testing.assert_allclose(a.array, b.array, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(a.affine[:3, [0, 1, 3]], b.affine[:3, [0, 1, 3]], atol=1e-3)
    assert a.affine[:3, 2] @ b.affine[:3, 2] > 0


def assert_segments(path: Path, volume: Volume) -> None:
    """As many voxels of each segment as its frames have pixels."""
    header = dataset(path)
    frames = header.pixel_array.reshape(-1, header.Rows, header.Columns)
    expected: dict[int, float] = {}
    for frame, group in zip(frames, header.PerFrameFunctionalGroupsSequence, strict=True):
        number = group.get("SegmentIdentificationSequence") or header.SharedFunctionalGroupsSequence[0].get(
            "SegmentIdentificationSequence"
        )
        expected[number[0].ReferencedSegmentNumber] = expected.get(number[0].ReferencedSegmentNumber, 0) + float(
            frame.sum()
        )
    if header.SegmentationType == "FRACTIONAL":
        expected = {number: value / header.MaximumFractionalValue for number, value in expected.items()}
        found = {number: float(volume.array[n].sum()) for n, number in enumerate(volume.source.notes["segments"])}
    elif len(volume.array) > 1:
        found = {number: float(volume.array[n].sum()) for n, number in enumerate(volume.source.notes["segments"])}
    else:
        found = {number: float((volume.array == number).sum()) for number in volume.source.notes["segments"]}
    assert {n: v for n, v in found.items() if v} == pytest.approx({n: v for n, v in expected.items() if v}, rel=1e-5)


def assert_frames(header: Any, volume: Volume) -> None:
    """Each slice holds the pixels of the frame that it says it came from, at that frame's own place."""
    frames = header.pixel_array.reshape(-1, header.Rows, header.Columns)
    shared = header.SharedFunctionalGroupsSequence[0]
    for k, instance in enumerate(volume.source.instances):
        number = (instance.frame or 1) - 1
        group = header.PerFrameFunctionalGroupsSequence[number]
        rescale = (
            group.get("PixelValueTransformationSequence") or shared.get("PixelValueTransformationSequence") or [{}]
        )[0]
        values = frames[number] * float(rescale.get("RescaleSlope", 1)) + float(rescale.get("RescaleIntercept", 0))
        np.testing.assert_allclose(volume.array[0, :, :, k].T, values, rtol=1e-6)
        place = (group.get("PlanePositionSequence") or shared.PlanePositionSequence)[0].ImagePositionPatient
        here = (LPS_FROM_RAS @ volume.affine @ [0, 0, k, 1])[:3]
        np.testing.assert_allclose(here, [float(value) for value in place], atol=0.01)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("path", SCANS, ids=name)
def test_stored_pixels_are_those_of_other_decoders(path: Path, tmp_path: Path) -> None:
    header = dataset(path)
    bound = 0
    if name(path) in BY_DCMTK:
        if not shutil.which("dcmdjpeg"):
            pytest.skip("not installed: dcmdjpeg (Debian package dcmtk)")
        bound = BY_DCMTK[name(path)]
        subprocess.run(["dcmdjpeg", str(path), str(tmp_path / "plain")], check=True, timeout=60)
        header = dataset(tmp_path / "plain")
    expected = header.pixel_array.reshape(-1, header.get("Rows"), header.get("Columns"))
    stored = pixels.opened(path)
    for number, frame in enumerate(expected):
        found = stored(number)
        assert found.dtype.isnative
        assert np.abs(found.astype(np.float64) - frame).max() <= bound


@pytest.mark.parametrize(
    ("file", "program"),
    [
        ("pydicom/MR_small_RLE.dcm", "dcmdrle"),
        ("pydicom_data/emri_small_RLE.dcm", "dcmdrle"),
        ("pydicom/MR_small_jpeg_ls_lossless.dcm", "dcmdjpls"),
        ("pydicom_data/JLSL_16_15_1_1F.dcm", "dcmdjpls"),
        ("pydicom_data/emri_small_jpeg_ls_lossless.dcm", "dcmdjpls"),
        ("pydicom_data/emri_small_jpeg_2k_lossless.dcm", "gdcmconv"),
        ("pydicom/693_J2KI.dcm", "gdcmconv"),
        ("pydicom/JPEG2000.dcm", "gdcmconv"),
    ],
)
@judges.needs("dcmdrle", "dcmdjpls", "gdcmconv")[1]
@pytest.mark.dicom_tools
def test_frames_equal_what_other_programs_unpack(file: str, program: str, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    words = [program, "--raw"] if program == "gdcmconv" else [program]
    subprocess.run([*words, str(DICOM / file), str(plain)], check=True, timeout=60, capture_output=True)
    header = dataset(plain)
    assert not header.file_meta.TransferSyntaxUID.is_encapsulated
    stored = pixels.opened(DICOM / file)
    for number, frame in enumerate(header.pixel_array.reshape(-1, header.Rows, header.Columns)):
        np.testing.assert_array_equal(stored(number), frame)


@pytest.mark.parametrize("syntax", ["RLE", "big_endian", "jpeg_2k_lossless", "jpeg_ls_lossless"])
def test_twins_of_one_enhanced_file(syntax: str) -> None:
    plain, packed = (pixels.opened(DICOM / "pydicom_data" / f"emri_small{end}.dcm") for end in ("", f"_{syntax}"))
    for number in range(10):
        np.testing.assert_array_equal(plain(number), packed(number))


@pytest.mark.parametrize(
    "folder",
    [
        "dicom/torchio",
        "dicom/rt_utils/mock_data",
        "dicom/dicom2nifti/ge/anatomical/001",
        "dicom/dicom2nifti/siemens/anatomical/001",
        "dicom/dicom2nifti/philips_enhanced/anatomical/001",
        "dicom/niivue_enhanced",
        "ct/dcmqi_ct3slice/ct-3slice",
    ],
)
@judges.needs("dcm2niix")[1]
@pytest.mark.dicom_tools
def test_series_equal_dcm2niix(folder: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["dcm2niix", "-z", "n", "-b", "n", "-p", "n", "-f", "out", "-o", str(tmp_path), str(reference.ROOT / folder)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    (made,) = tmp_path.glob("*.nii")
    assert done.returncode == 0
    assert_same(readers.read(reference.ROOT / folder), readers.read(made), tolerance_mm=2e-3, relative=1e-4)


def test_no_name_above_is_that_of_a_file_long_gone() -> None:
    assert set(REFUSED) <= {name(path) for path in FILES}
