"""The readers on real files: each is read right or refused, and what is read equals independent readers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from scipy import ndimage

from medseg import readers
from medseg.geometry import LPS_FROM_RAS, axis_map
from medseg.labels import LabelTable
from medseg.outputs import dicom_seg
from medseg.prediction import Prediction
from medseg.refusal import Refusal
from medseg.volume import Volume
from tests import judges, reference

pytestmark = reference.needed
DICOM = reference.ROOT / "dicom"
FILES = reference.files("dicom", (".dcm", ""))
FOLDERS = sorted({path.parent for path in FILES})

TILTED = DICOM / "dcm_qa_ct_philips_tilt"
REFUSED = {  # folder: words of the refusal
    "dicom2nifti/failing/notavolume/001": "4 slices at 1 place",
    "rt_utils/one_slice_data": "without SliceThickness",
    "nibabel": "without SliceThickness",
    "pydicom": "no DICOM signature",
    "pydicom_data": "4 series",
}
REPAIRED = {  # folder: words of what was found
    "dcm_qa_ct_philips_tilt": "leans by 18.50 degrees",
    "dicom2nifti/failing/gantrytilting/001": "leans by 14.00 degrees",
    "dicom2nifti/failing/sliceincrement/001": "1 missing slice of 5 mm",
}


def name(path: Path) -> str:
    return str(path.relative_to(DICOM))


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("path", [*FOLDERS, *FILES], ids=name)
def test_every_file_is_read_or_refused(path: Path) -> None:
    expected = REFUSED.get(name(path))
    try:
        volume = readers.read(path)
    except Refusal as refusal:
        assert expected is None or expected in str(refusal), str(refusal)
        assert expected is not None or path.is_file(), str(refusal)
        return
    assert expected is None
    assert np.isfinite(volume.affine).all() and volume.source.patient_id is not None
    # alone and with its siblings, a file is the same series
    if volume.source.reader == "dicom":
        assert volume.source.notes["off_grid_mm"] <= 0.01
        said = volume.source.notes["preflight"]
        found = REPAIRED.get(name(path if path.is_dir() else path.parent), "")
        assert found in said and ("repaired: " in said) == bool(found)
        assert (volume.source.slices is None) != bool(found)


def centre(plane: np.ndarray) -> np.ndarray:
    """Column and row in the middle of the cylinder of the tilted phantom, on a (columns, rows) plane that cuts it: the
    one round thing of plastic with a diameter of some 76 pixels."""
    plastic = ndimage.binary_fill_holes(ndimage.binary_opening((plane > 30) & (plane < 250), iterations=4))
    parts = ndimage.find_objects(ndimage.label(plastic)[0])
    round_ones = [part for part in parts if all(72 <= one.stop - one.start <= 80 for one in part)]
    assert len(round_ones) == 1
    return np.array([(one.start + one.stop - 1) / 2 for one in round_ones[0]])


CUT = range(8)
"""Slices of the phantom that cut its cylinder; a plate hides it in the others."""


def test_the_tilted_phantom_comes_out_straight() -> None:
    """Its plate stands at a right angle to its cylinder, and the cylinder's middle lies on a straight line, where the
    header of every original slice puts it. The phantom lies askew in the scanner: its cylinder leans against the
    slices by 12.7 degrees."""
    volume = readers.read(TILTED)
    spacing = volume.spacing_mm
    centres = np.array([centre(volume.array[0, :, :, k]) for k in CUT])
    lines = [np.polynomial.Polynomial.fit(CUT, centres[:, axis], 1) for axis in (0, 1)]
    for axis in (0, 1):
        assert np.abs(lines[axis](np.array(CUT)) - centres[:, axis]).max() < 1
    # beside the cylinder, a strip of the plate alone: its long direction, by rows and planes
    strip = np.argwhere((volume.array[0, 306:316, 100:420] > 30) & (volume.array[0, 306:316, 100:420] < 250)) * spacing
    along = np.linalg.svd((strip - strip.mean(axis=0))[:, 1:], full_matrices=False)[2][0]
    axis_mm = np.array([lines[1].convert().coef[1] * spacing[1], spacing[2]])
    between = np.degrees(np.arccos(abs(along @ axis_mm) / np.linalg.norm(axis_mm)))
    assert abs(between - 90) < 2  # 18 degrees off where slices are stacked as if they did not lean
    slices = volume.source.slices
    assert slices is not None
    for k in CUT:
        original = pydicom.dcmread(volume.source.instances[k].path)
        pixels = original.pixel_array.T * float(original.RescaleSlope) + float(original.RescaleIntercept)
        stated = slices.affines[k] @ [*centre(pixels), 0, 1]
        found = volume.affine @ [*centres[k], k, 1]
        assert np.linalg.norm(stated - found) < spacing[0]
        np.testing.assert_allclose((LPS_FROM_RAS @ slices.affines[k])[:3, 3], original.ImagePositionPatient)


@pytest.mark.parametrize("program", [pytest.param("dcm2niix", marks=judges.needs("dcm2niix"))])
def test_the_tilted_phantom_equals_another_tilt_correction(program: str, tmp_path: Path) -> None:
    """dcm2niix grows the same canvas; it rounds some values the other way, and a slice's first and last row may
    count as outside."""
    subprocess.run([program, "-o", tmp_path, "-f", "tilted", TILTED], check=True, capture_output=True)
    theirs, ours = readers.read(tmp_path / "tilted_Tilt_1.nii"), readers.read(TILTED)
    first, second = (axis_map(volume.affine, "RAS") for volume in (theirs, ours))
    np.testing.assert_allclose(
        first.affine(theirs.affine, theirs.shape), second.affine(ours.affine, ours.shape), atol=1e-3
    )
    off = np.abs(first.apply(theirs.array)[0].astype(float) - second.apply(ours.array)[0])
    assert off.shape == (512, 537, 16)
    assert ((off > 1).any(axis=0).sum(axis=0) <= 2).all()  # rows of each slice
    assert (off == 0).mean() > 0.99


def itk(path: Path) -> Volume:
    """What SimpleITK's series reader makes of a folder."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return Volume(sitk.GetArrayFromImage(image).T[None], LPS_FROM_RAS @ affine)


def assert_same(a: Volume, b: Volume, tolerance_mm: float, relative: float = 1e-6) -> None:
    """Same voxels at the same places, whatever their axis order."""
    first, second = (axis_map(volume.affine, "RAS") for volume in (a, b))
    np.testing.assert_allclose(first.apply(a.array), second.apply(b.array), rtol=relative, atol=1e-4)
    places = (first.affine(a.affine, a.shape), second.affine(b.affine, b.shape))
    np.testing.assert_allclose(*places, atol=tolerance_mm)


@pytest.mark.parametrize(
    "folder",
    [
        "torchio",
        "rt_utils/mock_data",
        "rt_utils/oriented_data",
        "dicom2nifti/ge/anatomical/001",
        "dicom2nifti/siemens/anatomical/001",
        "dicom2nifti/generic/anatomical/002_non_isotropic",
    ],
)
def test_series_equal_simpleitk(folder: str) -> None:
    assert_same(readers.read(DICOM / folder), itk(DICOM / folder), tolerance_mm=1e-3)


@pytest.mark.parametrize(
    ("folder", "truth"),
    [
        ("ge/anatomical/001", "ge/anatomical/001_ground_truth.nii.gz"),
        ("siemens/anatomical/001", "siemens/anatomical/001_ground_truth.nii.gz"),
        ("philips_enhanced/anatomical/001", "philips_enhanced/anatomical/001_ground_truth.nii.gz"),
        ("generic/compressed_rle/001", "generic/compressed_rle/001_ground_truth.nii.gz"),
        ("generic/compressed_jpegls/001", "generic/compressed_jpegls/001_ground_truth.nii.gz"),
        ("generic/anatomical/002_non_isotropic", "generic/anatomical/002_non_isotropic_ground_truth.nii.gz"),
    ],
)
def test_series_equal_the_given_nifti(folder: str, truth: str) -> None:
    root = DICOM / "dicom2nifti"
    assert_same(readers.read(root / folder), readers.read(root / truth), tolerance_mm=2e-3, relative=1e-4)


@pytest.mark.parametrize("codec", ["RLE", "bigendian", "implicit", "jp2klossless", "jpeg_ls_lossless", "padded"])
def test_transfer_syntaxes_give_the_same_pixels(codec: str, tmp_path: Path) -> None:
    volumes = []
    for number, file in enumerate(("MR_small.dcm", f"MR_small_{codec}.dcm")):
        (tmp_path / str(number)).mkdir()
        shutil.copy(DICOM / "pydicom" / file, tmp_path / str(number))
        volumes.append(readers.read(tmp_path / str(number)))
    np.testing.assert_array_equal(volumes[0].array, volumes[1].array)
    np.testing.assert_array_equal(volumes[0].affine, volumes[1].affine)


def test_truncated_pixels_are_refused(tmp_path: Path) -> None:
    shutil.copy(DICOM / "pydicom" / "MR_truncated.dcm", tmp_path)
    with pytest.raises(Refusal, match="MR_truncated"):
        readers.read(tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        "torchio",
        "rt_utils/mock_data",
        "niivue_enhanced",
        "../ct/dcmqi_ct3slice/ct-3slice",
    ],
)
def test_a_segmentation_can_be_laid_on_real_series(source: str, tmp_path: Path) -> None:
    volume = readers.read(DICOM / source)
    target = np.zeros((1, *volume.shape), np.uint8)
    target[0, 5:20, 10:40, : volume.shape[2] - 1] = 1
    target[0, 30:33, 10:11, 0] = 2
    made = Prediction("c", LabelTable.of({"liver": 1, "spleen": 2}), volume.with_array(target))
    dicom_seg.write(made, tmp_path / "seg.dcm", dicom_seg.Options())  # reads it back and compares
    assert readers.read(tmp_path / "seg.dcm").source.notes["segments"] == {1: "liver", 2: "spleen"}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("dicom2nifti/ge/anatomical/001", "no FrameOfReferenceUID"),
        ("dicom2nifti/philips_enhanced/anatomical/001", "no FrameOfReferenceUID"),
        ("rt_utils/oriented_data", "no FrameOfReferenceUID"),
    ],
)
def test_series_that_a_segmentation_cannot_refer_to(source: str, text: str, tmp_path: Path) -> None:
    volume = readers.read(DICOM / source)
    made = Prediction("c", LabelTable.of({"a": 1}), volume.with_array(np.ones((1, *volume.shape), np.uint8)))
    with pytest.raises(Refusal, match=text):
        dicom_seg.write(made, tmp_path / "seg.dcm", dicom_seg.Options())


@pytest.mark.parametrize("path", reference.files("nifti", (".nii", ".gz")), ids=lambda path: path.name)
def test_nifti_equals_nibabel(path: Path) -> None:
    volume, image = readers.read(path), nib.load(path)
    np.testing.assert_array_equal(volume.affine, image.affine)
    # scaled values: nibabel keeps double precision, single precision has 24 bits
    np.testing.assert_allclose(volume.array[0], np.asarray(image.dataobj), rtol=2**-24)


def test_one_brain_in_every_orientation_is_one_brain() -> None:
    files = sorted((reference.ROOT / "nifti" / "orientations").glob("*.nii.gz"))
    reference_volume = readers.read(files[0])
    for file in files[1:]:
        assert_same(readers.read(file), reference_volume, tolerance_mm=1e-3)


def test_dcmqi_segmentation_lies_on_its_scan() -> None:
    folder = reference.ROOT / "ct" / "dcmqi_ct3slice"
    segmentation, painted = readers.read(folder / "liver.dcm"), readers.read(folder / "liver_seg.nrrd")
    assert_same(segmentation, painted, tolerance_mm=1e-2)
