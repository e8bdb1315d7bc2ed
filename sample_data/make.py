"""Write the sample data: `python sample_data/make.py [--out DIR]`. Same bytes every time.

Needs numpy, scipy, nibabel, pydicom and Pillow, not medseg. What it writes is described in README.md beside it.
"""

from __future__ import annotations

import argparse
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from phantoms import brain_grades, brats_mr, fundus_dr, liver_mr, lymphoma_pet, retina, skin
from phantoms.drawing import generator
from phantoms.torso import LABELS, Anatomy, noise, tissues
from phantoms.writing import write_nifti, write_text
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from scipy.spatial.transform import Rotation

SETS = {
    "brats_mr": brats_mr,
    "skin": skin,
    "retina": retina,
    "liver_mr": liver_mr,
    "brain_grades": brain_grades,
    "fundus_dr": fundus_dr,
    "lymphoma_pet": lymphoma_pet,
}
"""Folder -> the module that fills it."""
OVERSAMPLING = 2
"""Points per voxel edge that are averaged into one voxel (partial volume)."""


@dataclass(frozen=True)
class Scan:
    """One scan to make. Shape and spacing follow the voxel axes, which `axes` names (nibabel's letters)."""

    case: str
    patient: int
    axes: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    turn_degrees: tuple[float, float, float]
    noise_hu: tuple[float, float] = (12.0, 12.0)


SCANS = (
    Scan("p01_a", 1, "RAS", (64, 54, 40), (5.0, 5.0, 6.0), (2, -1, 3)),
    Scan("p01_b", 1, "LPS", (62, 52, 46), (5.2, 5.2, 5.0), (-3, 1, -4), (15, 10)),
    Scan("p02_a", 2, "LPS", (66, 56, 40), (4.8, 4.8, 6.0), (0, 0, 0)),
    Scan("p03_a", 3, "LAS", (60, 52, 40), (5.3, 5.3, 6.0), (4, 2, -2), (10, 14)),
    Scan("p04_a", 4, "PSL", (54, 44, 64), (5.0, 5.5, 5.0), (-2, 3, 5)),
    Scan("p04_b", 4, "RAS", (64, 54, 36), (5.0, 5.0, 6.6), (1, -4, 2), (14, 14)),
    Scan("p05_a", 5, "RPI", (62, 54, 40), (5.1, 5.1, 6.0), (-5, 0, 1)),
    Scan("p06_a", 6, "SAR", (42, 56, 66), (5.8, 4.8, 4.8), (3, 3, -6), (16, 8)),
    Scan("p07_a", 7, "LPS", (62, 52, 44), (5.2, 5.2, 5.5), (6, -2, 0), (12, 16)),
)
UNSEEN = Scan("p08_a", 8, "LPS", (64, 56, 40), (5.0, 5.0, 6.0), (5, -3, 4))
NAMES = {8: "Phantom^Octavia"}


def affine_of(scan: Scan) -> np.ndarray:
    """Voxel index -> RAS+ mm: axes, turned by a few degrees, with the field of view's middle near the body's."""
    turn = Rotation.from_euler("xyz", scan.turn_degrees, degrees=True).as_matrix()
    axes = np.zeros((3, 3))
    for column, letter in enumerate(scan.axes):
        row = next(row for row, pair in enumerate(("LR", "PA", "IS")) if letter in pair)
        axes[row, column] = 1 if letter in "RAS" else -1
    affine = np.eye(4)
    affine[:3, :3] = turn @ axes @ np.diag(scan.spacing_mm)
    middle = generator(3, scan.patient, ord(scan.case[-1])).uniform(-4, 4, 3) - np.array([0, 6, 0])
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(scan.shape) - 1) / 2)
    return np.round(affine, 6)


def render(scan: Scan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image (I, J, K) int16 in HU, label map (I, J, K) uint8, affine."""
    affine = affine_of(scan)
    rng = generator(7, scan.patient, ord(scan.case[-1]))
    fine = [(np.arange(size * OVERSAMPLING) + 0.5) / OVERSAMPLING - 0.5 for size in scan.shape]
    i, j, k = np.meshgrid(*fine, indexing="ij")
    points = np.stack([a * i + b * j + c * k + shift for a, b, c, shift in affine[:3]])
    image, label = Anatomy(scan.patient).render(points, tissues(rng))
    image = _blocks(image).mean(axis=0)
    image += noise(rng, image.shape, *scan.noise_hu)
    share = np.stack([(_blocks(label) == number).mean(axis=0) for number in (0, *LABELS.values())])
    return np.clip(np.rint(image), -1024, 3071).astype(np.int16), share.argmax(axis=0).astype(np.uint8), affine


def _blocks(fine: np.ndarray) -> np.ndarray:
    """(2I, 2J, 2K) -> (8, I, J, K): the points of each voxel."""
    i, j, k = (size // OVERSAMPLING for size in fine.shape)
    split = fine.reshape(i, OVERSAMPLING, j, OVERSAMPLING, k, OVERSAMPLING)
    return split.transpose(1, 3, 5, 0, 2, 4).reshape(-1, i, j, k)


def uid(*parts: object) -> str:
    """A UID of the 2.25 branch (a UUID as a number) that depends on nothing but its parts."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, 'medseg sample data ' + ' '.join(map(str, parts))).int}"


def number(value: float) -> str:
    """Decimal string of at most 16 characters."""
    return f"{round(float(value), 8) + 0.0:.12g}"[:16]


def write_dicom(folder: Path, scan: Scan, array: np.ndarray, affine: np.ndarray) -> None:
    """One CT series, one file a slice. Voxel axes must run like DICOM's: I along a row, J down the rows, K by slice."""
    lps = np.diag([-1, -1, 1, 1]) @ affine
    row, column = lps[:3, 0] / scan.spacing_mm[0], lps[:3, 1] / scan.spacing_mm[1]
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(array.shape[2]):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = uid(scan.case, "instance", k)
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.ImplementationClassUID = uid("implementation")
        meta.ImplementationVersionName = "MEDSEG_SAMPLE"
        ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        _describe(ds, scan)
        ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        ds.InstanceNumber = k + 1
        ds.ImagePositionPatient = [number(value) for value in (lps @ [0, 0, k, 1])[:3]]
        ds.ImageOrientationPatient = [number(value) for value in (*row, *column)]
        ds.PixelSpacing = [number(scan.spacing_mm[1]), number(scan.spacing_mm[0])]
        ds.SliceThickness = number(scan.spacing_mm[2])
        ds.Rows, ds.Columns = array.shape[1], array.shape[0]
        ds.PixelData = (array[:, :, k].T + 1024).astype("<u2").tobytes()
        ds["PixelData"].VR = "OW"
        ds.save_as(folder / f"slice{k + 1:03d}.dcm", enforce_file_format=True)


def _describe(ds: Dataset, scan: Scan) -> None:
    """What all slices share."""
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    ds.SOPClassUID = CTImageStorage
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20240501"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "120000"
    ds.AccessionNumber, ds.Modality, ds.Manufacturer = "SYNTHETIC8", "CT", "medseg sample data"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription, ds.SeriesDescription = "Synthetic torso", "Synthetic torso 6 mm"
    ds.PatientName, ds.PatientID = NAMES[scan.patient], f"P{scan.patient:02d}"
    ds.PatientBirthDate, ds.PatientSex, ds.PatientIdentityRemoved = "19700101", "O", "YES"
    ds.DeidentificationMethod = "synthetic: there is no patient"
    ds.BodyPartExamined, ds.PatientPosition, ds.KVP = "ABDOMEN", "HFS", "120"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid(scan.case, "study"), uid(scan.case, "series")
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = uid(scan.case, "frame of reference"), ""
    ds.StudyID, ds.SeriesNumber, ds.AcquisitionNumber = "1", 2, 1
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "-1024", "1", "HU"
    ds.WindowCenter, ds.WindowWidth = "60", "400"


def make(out: Path) -> None:
    """Write everything below `out`, replacing what an earlier run left there."""
    for folder in ("ct", "ct_dicom", *SETS):
        if (out / folder).exists():
            shutil.rmtree(out / folder)
    _torso(out)
    for folder, phantom in SETS.items():
        phantom.write(out / folder)


def _torso(out: Path) -> None:
    """The folders ct and ct_dicom."""
    for scan in SCANS:
        image, label, affine = render(scan)
        write_nifti(out / "ct/images" / f"{scan.case}.nii.gz", image, affine)
        write_nifti(out / "ct/labels" / f"{scan.case}.nii.gz", label, affine)
    table = "".join(f"  {name}: {value}\n" for name, value in LABELS.items())
    write_text(out / "ct/labels.yaml", f"labels:\n{table}")
    rows = "".join(f"{scan.case},P{scan.patient:02d}\n" for scan in SCANS)
    write_text(out / "ct/patients.csv", f"case,patient\n{rows}")
    image, label, affine = render(UNSEEN)
    write_dicom(out / "ct_dicom" / UNSEEN.case, UNSEEN, image, affine)
    write_nifti(out / "ct_dicom" / f"{UNSEEN.case}_image.nii.gz", image, affine)
    write_nifti(out / "ct_dicom" / f"{UNSEEN.case}_label.nii.gz", label, affine)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write into")
    make(parser.parse_args().out)
