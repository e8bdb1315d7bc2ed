"""The header pass: what every DICOM file in a folder is, and where its frames lie, without reading a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pydicom.config

from medseg.boundary import parsing
from medseg.dicom.signature import is_dicom
from medseg.refusal import Refusal
from medseg.volume import Instance

SEGMENTATION_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation Storage and Label Map Segmentation Storage."""
STRUCTURE_SET_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
"""RT Structure Set Storage."""
NOT_SCANS = {
    **dict.fromkeys(SEGMENTATION_CLASSES, "segmentation"),
    "1.2.840.10008.5.1.4.1.1.481.2": "radiotherapy dose",
    "1.2.840.10008.1.3.10": "DICOMDIR",
}
"""Objects with pixels, or without, that are never a scan. Objects without rows (structure sets, reports, presentation
states, ...) need no entry: having no rows tells."""

TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "ImageType"),
    *("SeriesNumber", "SeriesDescription", "Modality", "PatientID", "SpecificCharacterSet", "Rows", "Columns"),
    *("NumberOfFrames", "SamplesPerPixel", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("SliceThickness", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "PhotometricInterpretation"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]


@dataclass(frozen=True)
class Frame:
    """One image plane. Lengths in mm, in LPS patient space, exactly as the header has them.

    Attributes:
        position: centre of the first pixel.
        row: direction in which the column number grows, a unit vector as far as the header's digits go.
        column: direction in which the row number grows.
        spacing_mm: between rows, and between columns.
        size: rows, columns.
        thickness_mm: of the slice, or None.
    """

    instance: Instance
    position: tuple[float, float, float]
    row: tuple[float, float, float]
    column: tuple[float, float, float]
    spacing_mm: tuple[float, float]
    size: tuple[int, int]
    slope: float
    intercept: float
    thickness_mm: float | None


@dataclass(frozen=True)
class Header:
    """One DICOM file.

    `frames` is empty for an object that is no scan (`kind` then names it) or that is not placed in space (`unplaced`
    then says what is missing).
    """

    path: Path
    sop_class_uid: str
    study_uid: str
    series_uid: str
    series_number: str
    description: str
    modality: str
    patient_id: str
    frame_of_reference_uid: str
    photometric: str
    image_type: tuple[str, ...]
    kind: str
    frames: tuple[Frame, ...]
    unplaced: str


def sop_class(path: Path) -> str:
    """SOP class of a DICOM file, empty if it cannot be told. Cheap: reads the first tags only."""
    if not is_dicom(path):
        return ""
    try:
        with parsing(path, needed="a DICOM header", remedy=""):
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
            return str(dataset.get("SOPClassUID", ""))
    except Refusal:
        return ""  # not this function's business: whoever reads the file refuses it with the reason


def read(path: Path) -> Header:
    """Header of one file.

    Raises:
        Refusal: it cannot be parsed.
    """
    if not is_dicom(path):
        raise Refusal(
            path,
            found=f"no DICOM signature in a file of {path.stat().st_size} bytes",
            needed="a DICOM file (128 bytes, then 'DICM')",
            remedy="copy it again, move it out of the folder, or rewrite it with its file meta information",
        )
    with (
        parsing(path, needed="a readable DICOM header", remedy="copy or export the file again"),
        pydicom.config.disable_value_validation(),
    ):
        return _header(path, pydicom.dcmread(path, stop_before_pixels=True, specific_tags=TAGS))


def _header(path: Path, dataset: Any) -> Header:
    def text(name: str) -> str:
        value = dataset.get(name)
        return "" if value is None else str(value).strip()

    sop_class_uid = text("SOPClassUID") or str(dataset.file_meta.get("MediaStorageSOPClassUID", ""))
    kind = NOT_SCANS.get(sop_class_uid, "" if dataset.get("Rows") else "object without pixels")
    frames, unplaced = ((), "") if kind else _scan(path, dataset)
    return Header(
        path=path,
        sop_class_uid=sop_class_uid,
        study_uid=text("StudyInstanceUID"),
        series_uid=text("SeriesInstanceUID"),
        series_number=text("SeriesNumber"),
        description=text("SeriesDescription"),
        modality=text("Modality"),
        patient_id=text("PatientID"),
        frame_of_reference_uid=text("FrameOfReferenceUID"),
        photometric=text("PhotometricInterpretation"),
        image_type=tuple(str(value) for value in dataset.get("ImageType") or ()),
        kind=kind,
        frames=frames,
        unplaced=unplaced,
    )


def _scan(path: Path, dataset: Any) -> tuple[tuple[Frame, ...], str]:
    """Frames of an image, or none and what keeps it from lying in space as grey values."""
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        return (), "colour pixels"
    if "MOSAIC" in (dataset.get("ImageType") or ()):
        return (), "many slices tiled into one picture (Siemens mosaic)"
    if dataset.get("ModalityLUTSequence"):
        return (), "a table of values (Modality LUT) in place of a rescale slope"
    return planes(path, dataset)


def planes(path: Path, dataset: Any) -> tuple[tuple[Frame, ...], str]:
    """Where the frames of a dataset lie: from functional groups, or from the file's own attributes if it is a single
    frame; or none and what is missing."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    count = int(dataset.get("NumberOfFrames") or 1)
    if per_frame is None and count > 1:
        return (), f"{count} frames without a position for each"
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    groups = [(dataset, None)] if per_frame is None else [(item, shared) for item in per_frame]
    if len(groups) != count:
        return (), f"{count} frames but positions for {len(groups)}"
    frames = []
    for number, (own, common) in enumerate(groups, start=1):
        frame = _frame(path, dataset, own, common, None if per_frame is None else number)
        if isinstance(frame, str):
            return (), frame
        frames.append(frame)
    return tuple(frames), ""


def _frame(path: Path, dataset: Any, own: Any, common: Any, number: int | None) -> Frame | str:
    """One frame, from the file's own attributes or from functional groups; or what is missing."""

    def attribute(group: str, name: str) -> Any:
        if number is None:
            return dataset.get(name)
        for functional in (own, common):
            items = functional.get(group) if functional is not None else None
            if items and items[0].get(name) is not None:
                return items[0].get(name)
        return None

    position = attribute("PlanePositionSequence", "ImagePositionPatient")
    orientation = attribute("PlaneOrientationSequence", "ImageOrientationPatient")
    spacing = attribute("PixelMeasuresSequence", "PixelSpacing")
    for value, length, name in (
        (position, 3, "ImagePositionPatient"),
        (orientation, 6, "ImageOrientationPatient"),
        (spacing, 2, "PixelSpacing"),
    ):
        if value is None or isinstance(value, str) or len(value) != length:
            return f"no {name}"
    thickness = attribute("PixelMeasuresSequence", "SliceThickness")
    slope = attribute("PixelValueTransformationSequence", "RescaleSlope")
    intercept = attribute("PixelValueTransformationSequence", "RescaleIntercept")
    cosines = [float(value) for value in orientation]
    x, y, z = (float(value) for value in position)
    return Frame(
        instance=Instance(path, str(dataset.get("SOPClassUID", "")), str(dataset.get("SOPInstanceUID", "")), number),
        position=(x, y, z),
        row=(cosines[0], cosines[1], cosines[2]),
        column=(cosines[3], cosines[4], cosines[5]),
        spacing_mm=(float(spacing[0]), float(spacing[1])),
        size=(int(dataset.Rows), int(dataset.Columns)),
        slope=1.0 if slope in (None, "") else float(slope),
        intercept=0.0 if intercept in (None, "") else float(intercept),
        thickness_mm=None if thickness in (None, "") else float(thickness),
    )
