"""Synthetic series with every module that the standard wants of CT, MR and PET, single-frame and enhanced, so that a
validator accepts them and what it finds in an object made from them is that object's own. Voxels store their own z, as
in `dicom_series`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from tests import dicom_series as ds
from tests.dicom_modules import INTERCEPTS, MULTI, MULTI_OF, SHARED, SHARED_OF, SINGLE, WHEN, item

ROWS, COLUMNS, COUNT = 12, 10, 6
SPACING = (0.8, 0.6)
CLASSES = {
    "ct": "1.2.840.10008.5.1.4.1.1.2",
    "mr": "1.2.840.10008.5.1.4.1.1.4",
    "pet": "1.2.840.10008.5.1.4.1.1.128",
    "enhanced_ct": "1.2.840.10008.5.1.4.1.1.2.1",
    "enhanced_mr": "1.2.840.10008.5.1.4.1.1.4.1",
    "enhanced_pet": "1.2.840.10008.5.1.4.1.1.130",
}
MODALITIES = {"ct": "CT", "mr": "MR", "pet": "PT"}


def ct(folder: Path, positions: np.ndarray | None = None, orientation: Sequence[float] = ds.AXIAL) -> Path:
    """A folder of CT slices, in Hounsfield units."""
    return _slices("ct", folder, positions, orientation)


def mr(folder: Path, positions: np.ndarray | None = None, orientation: Sequence[float] = ds.AXIAL) -> Path:
    """A folder of MR slices."""
    return _slices("mr", folder, positions, orientation)


def pet(folder: Path, positions: np.ndarray | None = None, orientation: Sequence[float] = ds.AXIAL) -> Path:
    """A folder of PET slices in Bq/ml, with what SUV is computed from."""
    return _slices("pet", folder, positions, orientation)


def enhanced_ct(folder: Path, positions: np.ndarray | None = None, orientation: Sequence[float] = ds.AXIAL) -> Path:
    """A folder with one enhanced CT file."""
    return _enhanced("ct", folder, positions, orientation)


def enhanced_mr(folder: Path, positions: np.ndarray | None = None, orientation: Sequence[float] = ds.AXIAL) -> Path:
    """A folder with one enhanced MR file."""
    return _enhanced("mr", folder, positions, orientation)


def enhanced_pet(folder: Path, positions: np.ndarray | None = None, orientation: Sequence[float] = ds.AXIAL) -> Path:
    """A folder with one enhanced PET file."""
    return _enhanced("pet", folder, positions, orientation)


MAKERS: dict[str, Callable[..., Path]] = {
    "ct": ct,
    "mr": mr,
    "pet": pet,
    "enhanced_ct": enhanced_ct,
    "enhanced_mr": enhanced_mr,
    "enhanced_pet": enhanced_pet,
}


def _slices(kind: str, folder: Path, positions: np.ndarray | None, orientation: Sequence[float]) -> Path:
    places = ds.places(COUNT, orientation=orientation) if positions is None else positions
    folder.mkdir(parents=True, exist_ok=True)
    series = generate_uid()
    for number, place in enumerate(places, start=1):
        dataset = _file(kind, series)
        dataset.update(item(**_plane(place, orientation), SliceThickness=3, InstanceNumber=number, AcquisitionNumber=1))
        dataset.update(item(AcquisitionDate=WHEN[0], AcquisitionTime=WHEN[1], **SINGLE[kind]))
        if kind == "pet":
            dataset.update(item(NumberOfSlices=len(places), ImageIndex=number))
        _pixels(dataset, kind, places[number - 1 : number], orientation)
        dataset.save_as(folder / f"IM{number - 1:04d}.dcm", enforce_file_format=True)
    return folder


def _enhanced(kind: str, folder: Path, positions: np.ndarray | None, orientation: Sequence[float]) -> Path:
    places = ds.places(COUNT, orientation=orientation) if positions is None else positions
    folder.mkdir(parents=True, exist_ok=True)
    dataset = _file(f"enhanced_{kind}", generate_uid())
    dataset.update(item(**MULTI, **MULTI_OF[kind], InstanceNumber=1, NumberOfFrames=len(places)))
    dataset.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[item(PixelSpacing=list(SPACING), SliceThickness=3)],
            PlaneOrientationSequence=[item(ImageOrientationPatient=_decimals(orientation))],
            **SHARED,
            **SHARED_OF[kind],
        )
    ]
    dataset.PerFrameFunctionalGroupsSequence = [
        item(
            FrameContentSequence=[_frame_content(number)],
            PlanePositionSequence=[item(ImagePositionPatient=_decimals(place))],
        )
        for number, place in enumerate(places, start=1)
    ]
    _pixels(dataset, kind, places, orientation)
    dataset.save_as(folder / "enhanced.dcm", enforce_file_format=True)
    return folder


def _file(kind: str, series: str) -> FileDataset:
    """Patient, study, series, equipment and frame of reference."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CLASSES[kind], generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CLASSES[kind], meta.MediaStorageSOPInstanceUID
    dataset.update(
        item(
            SpecificCharacterSet="ISO_IR 100",
            PatientName="Phantom^One",
            PatientID="P1",
            PatientBirthDate="19600101",
            PatientSex="F",
            PatientSize=1.7,
            PatientWeight=70,
            StudyInstanceUID=ds.STUDY,
            StudyID="1",
            StudyDate=WHEN[0],
            StudyTime="100000",
            AccessionNumber="",
            ReferringPhysicianName="",
            SeriesInstanceUID=series,
            SeriesNumber=7,
            SeriesDescription="thorax",
            SeriesDate=WHEN[0],
            SeriesTime="101000",
            ContentDate=WHEN[0],
            ContentTime=WHEN[1],
            Modality=MODALITIES[kind.removeprefix("enhanced_")],
            BodyPartExamined="CHEST",
            Manufacturer="phantoms",
            ManufacturerModelName="by script",
            DeviceSerialNumber="1",
            SoftwareVersions="1",
            FrameOfReferenceUID=ds.FRAME_OF_REFERENCE,
            PositionReferenceIndicator="",
        )
    )
    return dataset


def _plane(place: np.ndarray, orientation: Sequence[float]) -> dict[str, Any]:
    return {
        "ImagePositionPatient": _decimals(place),
        "ImageOrientationPatient": _decimals(orientation),
        "PixelSpacing": list(SPACING),
    }


def _decimals(values: Sequence[float] | np.ndarray) -> list[str]:
    return [f"{value:.10f}"[:16] for value in values]


def _pixels(dataset: Dataset, kind: str, places: np.ndarray, orientation: Sequence[float]) -> None:
    j, i = np.mgrid[:ROWS, :COLUMNS]
    along = orientation[2] * i * SPACING[1] + orientation[5] * j * SPACING[0]
    z = np.asarray(places)[:, 2, None, None] + along
    stored = (np.rint(z * ds.Z_PER_MM) - INTERCEPTS[kind]).astype(np.int16)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = ROWS, COLUMNS
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.BurnedInAnnotation = "NO"
    dataset.PixelData = stored.tobytes()


def _frame_content(number: int) -> Dataset:
    return item(
        FrameAcquisitionNumber=1,
        FrameReferenceDateTime=WHEN[0] + WHEN[1],
        FrameAcquisitionDateTime=WHEN[0] + WHEN[1],
        FrameAcquisitionDuration=100.0,
        StackID="1",
        InStackPositionNumber=number,
        TemporalPositionIndex=1,
        DimensionIndexValues=[number],
    )
