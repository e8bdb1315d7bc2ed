"""The sample data: the same bytes every time, readable by others, and not solvable by intensity."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image

from medseg.datasets import folder
from medseg.engine.baseline import fit_thresholds, threshold_dice

SAMPLE = Path(__file__).parents[2] / "sample_data"


def digests(root: Path) -> dict[str, str]:
    """sha256 by file; of the unpacked bytes for .gz and of the pixels for .png, because zlib and zlib-ng pack the same
    bytes differently."""
    found = {}
    sets = sorted(path for path in root.iterdir() if path.is_dir() and path.name not in ("phantoms", "__pycache__"))
    for path in sorted(path for one in sets for path in one.rglob("*") if path.is_file()):
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
        if path.suffix == ".png":
            picture = Image.open(path)
            data = f"{picture.mode} {picture.size}".encode() + picture.tobytes()
        found[path.relative_to(root).as_posix()] = hashlib.sha256(data).hexdigest()
    return found


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_making_it_again_gives_the_committed_bytes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, SAMPLE / "make.py", "--out", tmp_path], check=True)
    assert digests(tmp_path) == digests(SAMPLE)


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in SAMPLE.rglob("*") if path.is_file()) < 6_000_000


def test_gzip_headers_hold_neither_time_nor_name() -> None:
    for path in SAMPLE.rglob("*.gz"):
        header = path.read_bytes()[:10]
        assert header[3] == 0 and header[4:8] == b"\0\0\0\0", path


def test_every_organ_is_there_in_every_scan() -> None:
    cases = folder.cases(folder.Options(root=SAMPLE / "ct"))
    assert len(cases.cases) == 9 and len({case.patient for case in cases.cases}) == 7
    targets = [case.target for case in cases.cases] + [SAMPLE / "ct_dicom/p08_a_label.nii.gz"]
    for target in targets:
        assert target is not None
        counts = np.bincount(voxels(target).ravel(), minlength=7)
        assert len(counts) == 7 and counts[1:].min() >= 300, target


def test_axis_orders_differ_and_left_is_left() -> None:
    orders = set()
    for path in sorted((SAMPLE / "ct/labels").iterdir()):
        image = nib.load(path)
        orders.add(nib.aff2axcodes(image.affine))
        label = np.asarray(image.dataobj)
        centre = {
            n: nib.affines.apply_affine(image.affine, np.argwhere(label == n).mean(axis=0)) for n in (1, 2, 3, 4, 6)
        }
        assert centre[4][0] > centre[6][0] > centre[3][0], f"{path}: kidneys on the wrong side of the spine"
        assert centre[1][0] > centre[2][0] and centre[6][1] < centre[1][1], path
    assert len(orders) >= 5


def test_dicom_series_is_the_nifti_copy() -> None:
    """SimpleITK is the independent witness: same voxels, and an affine equal to a hundredth of a micrometre or so
    (decimal strings hold about ten digits)."""
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(SAMPLE / "ct_dicom/p08_a"))
    image = sitk.ReadImage(names)
    copy = nib.load(SAMPLE / "ct_dicom/p08_a_image.nii.gz")
    assert np.array_equal(sitk.GetArrayFromImage(image).transpose(2, 1, 0), np.asarray(copy.dataobj))
    lps = np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    assert np.allclose(np.diag([-1, -1, 1]) @ lps, copy.affine[:3, :3], atol=1e-5)
    assert np.allclose(np.diag([-1, -1, 1]) @ image.GetOrigin(), copy.affine[:3, 3], atol=1e-5)
    assert np.array_equal(nib.load(SAMPLE / "ct_dicom/p08_a_label.nii.gz").affine, copy.affine)


def test_dicom_headers() -> None:
    slices = [pydicom.dcmread(path) for path in sorted((SAMPLE / "ct_dicom/p08_a").iterdir())]
    assert len(slices) == 40 and len({ds.SOPInstanceUID for ds in slices}) == 40
    for ds in slices:
        assert ds.SOPClassUID == pydicom.uid.CTImageStorage and ds.file_meta.TransferSyntaxUID.is_little_endian
        assert (ds.PatientName, ds.PatientID, ds.RescaleIntercept) == ("Phantom^Octavia", "P08", -1024)
        assert all(len(str(value)) <= 16 for value in ds.ImagePositionPatient)
        assert pydicom.uid.UID(ds.SeriesInstanceUID).is_valid
    assert not (SAMPLE / "ct/images/p08_a.nii.gz").exists()


@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_intensity_alone_does_not_find_the_organs(smooth: float) -> None:
    """Even on denoised images (Gaussian of one voxel) the best intervals stay far from a segmentation."""
    from scipy.ndimage import gaussian_filter

    data = folder.cases(folder.Options(root=SAMPLE / "ct"))
    labels = {label.name: label.index for label in data.labels.labels}

    def image(path: Path) -> np.ndarray:
        return gaussian_filter(voxels(path).astype(float), smooth) if smooth else voxels(path)

    pairs = [(image(case.images["image"]), voxels(case.target)) for case in data.cases if case.target]
    unseen = image(SAMPLE / "ct_dicom/p08_a_image.nii.gz"), voxels(SAMPLE / "ct_dicom/p08_a_label.nii.gz")
    scores = threshold_dice(*unseen, fit_thresholds(pairs, labels), labels)
    assert np.mean(list(scores.values())) <= 0.45
