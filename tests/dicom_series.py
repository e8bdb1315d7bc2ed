"""Synthetic DICOM series: every pixel stores its own patient z (LPS, mm), so a misplaced slice shows in mm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

Z_PER_MM = 20
Values = Callable[[np.ndarray], np.ndarray]
"""(..., 3) LPS mm -> HU."""
AXIAL = (1, 0, 0, 0, 1, 0)
STUDY, FRAME_OF_REFERENCE = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2"


def normal(orientation: Sequence[float]) -> np.ndarray:
    return np.cross(orientation[:3], orientation[3:])


def places(count: int = 20, step_mm: float = 3.0, orientation: Sequence[float] = AXIAL, tilt: float = 0) -> np.ndarray:
    """(count, 3) positions stacked along the normal, sheared along the column direction by `tilt` degrees."""
    direction = normal(orientation) + np.tan(np.radians(tilt)) * np.array(orientation[3:])
    return np.array([-30.0, -40.0, 55.0]) + np.arange(count)[:, None] * step_mm * direction


def slice_(
    position: Sequence[float],
    *,
    orientation: Sequence[float] = AXIAL,
    series: str = "1.2.3.4",
    number: int | None = 1,
    rows: int = 12,
    columns: int = 10,
    spacing: tuple[float, float] = (0.8, 0.6),
    values: Values = lambda points: points[..., 2] * Z_PER_MM,
    **more: object,
) -> Dataset:
    """One CT slice; `spacing` is (between rows, between columns), `values` says what every pixel shows, `more`
    overrides attributes."""
    j, i = np.mgrid[:rows, :columns][..., None]
    points = position + np.array(orientation[:3]) * i * spacing[1] + np.array(orientation[3:]) * j * spacing[0]
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = STUDY, series, FRAME_OF_REFERENCE
    dataset.Modality, dataset.PatientID, dataset.SeriesNumber, dataset.SeriesDescription = "CT", "P1", 7, "thorax"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    if number is not None:
        dataset.InstanceNumber = number
    dataset.ImagePositionPatient = [f"{value:.6f}" for value in position]
    dataset.ImageOrientationPatient = [f"{value:.10f}" for value in orientation]
    dataset.PixelSpacing = list(spacing)
    dataset.SliceThickness = 3.0
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    stored = np.rint(values(points)).astype(int) + 1024
    dataset.PixelData = stored.astype(np.uint16).tobytes()  # the same bits whether PixelRepresentation is 1 or 0
    for name, value in more.items():
        setattr(dataset, name, value)
    return dataset


def write(folder: Path, slices: Sequence[Dataset], prefix: str = "IM") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, dataset in enumerate(slices):
        dataset.save_as(folder / f"{prefix}{index:04d}.dcm", enforce_file_format=True)
    return folder


def series(folder: Path, positions: np.ndarray, **options: object) -> Path:
    """Write one slice for each position, numbered from 1."""
    numbered = [slice_(place, **{"number": n, **options}) for n, place in enumerate(positions, start=1)]  # type: ignore[arg-type]
    return write(folder, numbered)


def z_error_mm(array: np.ndarray, affine: np.ndarray) -> float:
    """Largest |z by the affine - z stored in the voxel| of a (1, I, J, K) volume, less the 0.025 mm of rounding."""
    index = np.stack(np.meshgrid(*(np.arange(size) for size in array.shape[1:]), indexing="ij"))
    z = np.tensordot(affine[2, :3], index, axes=1) + affine[2, 3]
    return max(float(np.abs(z - array[0] / Z_PER_MM).max()) - 0.5 / Z_PER_MM, 0.0)
