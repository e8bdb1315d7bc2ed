"""The header pass: what every DICOM file in a folder is, and where its frames lie, without reading a pixel."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
import pydicom.config

from medseg.boundary import parsing
from medseg.dicom import marks, parse
from medseg.dicom.frames import Frame, locate
from medseg.dicom.signature import is_dicom, starts_dicom
from medseg.refusal import Refusal

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

START = "ContrastBolusStartTime"
DESCRIBING: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("StudyDescription", "ProtocolName", "BurnedInAnnotation", "ConversionType"), ()),
    **dict.fromkeys(("RescaleType", "Units", "AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime"), ()),
    "BodyPartExamined": ("FrameAnatomySequence", "AnatomicRegionSequence", "CodeMeaning"),
    "ConvolutionKernel": ("CTReconstructionSequence", "ConvolutionKernel"),
    "ContrastBolusAgent": ("ContrastBolusAgentSequence", "CodeMeaning"),
    START: ("ContrastBolusAgentSequence", "ContrastAdministrationProfileSequence", START),
}
"""Attributes whose text is kept in `Header.more`, and where multi-frame objects have it instead: in the dataset or in
the functional groups that its frames share."""
TAGS: list[str | int] = [
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "ImageType"),
    *("SeriesNumber", "SeriesDescription", "Modality", "PatientID", "SpecificCharacterSet", "Rows", "Columns"),
    *("NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "ImagePositionPatient", "ImageOrientationPatient"),
    *("PixelSpacing", "SliceThickness", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("PhotometricInterpretation", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    "ContrastBolusAgentSequence",
    *DESCRIBING,
    *marks.TAGS,
]
SLICE_CLASSES = (
    *("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"),
    *("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4"),
    *("1.2.840.10008.5.1.4.1.1.128", "1.2.840.10008.5.1.4.1.1.130", "1.2.840.10008.5.1.4.1.1.128.1"),
)
"""CT, MR and PET: single-frame, enhanced, and enhanced from single frames. Their images must have a place."""
COLOUR, PALETTE, CUT = "colour pixels", "PALETTE COLOR", "pixels cut short"
NATIVE = {"1.2.840.10008.1.2": 8, "1.2.840.10008.1.2.1": 12, "1.2.840.10008.1.2.2": 12}
"""Transfer syntaxes in which the number of pixels gives that of bytes (implicit, explicit, big endian), and how many
bytes precede the first pixel: tag, type and length."""
WANTED = parse.tags(TAGS)
LONGEST_TEXT = 256
"""Of a description; the standard allows 64 characters."""


@dataclass(frozen=True)
class Header:
    """One DICOM file.

    `frames` is empty for an object that is no scan (`kind` then names it) or that is not placed in space (`unplaced`
    then says what is missing). `more` has the texts of `DESCRIBING`, empty where the header has none.
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
    transfer_syntax_uid: str
    photometric: str
    image_type: tuple[str, ...]
    kind: str
    frames: tuple[Frame, ...]
    unplaced: str
    more: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def picture(self) -> bool:
        """Whether it is an image without a place that needs none: a radiograph, a photograph, a screenshot."""
        return bool(self.unplaced) and (self.unplaced == COLOUR or self.sop_class_uid not in SLICE_CLASSES)

    @property
    def cut(self) -> bool:
        """Whether its pixels end too early, which is why it is not placed."""
        return self.unplaced.startswith(CUT)


def sop_class(path: Path) -> str:
    """SOP class of a DICOM file, empty if it cannot be told. Cheap: reads the first tags only."""
    return _first(path, "SOPClassUID")


def study(path: Path) -> str:
    """StudyInstanceUID of a DICOM file, empty if it has none or cannot be read. Cheap, as `sop_class`."""
    return _first(path, "StudyInstanceUID")


def _first(path: Path, name: str) -> str:
    if not is_dicom(path):
        return ""
    try:
        with parsing(path, needed="a DICOM header", remedy=""), path.open("rb") as handle:
            return str(parse.header(path, handle, parse.tags([name])).get(name, ""))
    except Refusal:
        return ""  # not this function's business: whoever reads the file refuses it with the reason


def read(path: Path) -> Header:
    """Header of one file.

    Raises:
        Refusal: it cannot be parsed.
    """
    with path.open("rb") as handle:
        start = handle.read(132)
        length = handle.seek(0, os.SEEK_END)
        handle.seek(0)
        if not starts_dicom(start):
            raise Refusal(
                path,
                found=f"no DICOM signature in a file of {length} bytes",
                needed="a DICOM file (128 bytes, then 'DICM')",
                remedy="copy it again, move it out of the folder, or rewrite it with its file meta information",
                code="unreadable",
            )
        with (
            parsing(path, needed="a readable DICOM header", remedy="copy or export the file again"),
            pydicom.config.disable_value_validation(),
        ):
            dataset = parse.header(path, handle, WANTED)
            return _header(path, dataset, length - handle.tell())


def _header(path: Path, dataset: Any, left: int) -> Header:
    """`left`: bytes of the file behind the header."""

    def text(name: str) -> str:
        value = dataset.get(name)
        return "" if value is None else str(value).strip()

    sop_class_uid = text("SOPClassUID") or str(dataset.file_meta.get("MediaStorageSOPClassUID", ""))
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    image = dataset.get("Rows") or sop_class_uid in SLICE_CLASSES  # the header of a slice may be cut, too
    kind = NOT_SCANS.get(sop_class_uid, "" if image else "object without pixels")
    placed, unplaced = ((), "") if kind else _scan(path, dataset)
    if placed and syntax in NATIVE:
        placed, unplaced = _whole(placed, dataset, left - NATIVE[syntax])
    return Header(
        path=path,
        sop_class_uid=sop_class_uid,
        study_uid=text("StudyInstanceUID"),
        series_uid=text("SeriesInstanceUID"),
        series_number=text("SeriesNumber"),
        description=_line(text("SeriesDescription")),
        modality=text("Modality"),
        patient_id=text("PatientID"),
        frame_of_reference_uid=text("FrameOfReferenceUID"),
        transfer_syntax_uid=syntax,
        photometric=text("PhotometricInterpretation"),
        image_type=_words(dataset.get("ImageType")),
        kind=kind,
        frames=placed,
        unplaced=unplaced,
        more=_texts(dataset),
    )


def _texts(dataset: Any) -> dict[str, str]:
    """The attributes of `DESCRIBING`, or what stands in their place in a multi-frame object."""
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    found = {}
    for name, place in DESCRIBING.items():
        value = dataset.get(name)
        for item in (dataset, shared) if place and value in (None, "") else ():
            value = value or (_at(item, place) if item is not None else None)
        found[name] = _line(" ".join(_words(value)))
    return found


def _line(text: str) -> str:
    """For tables and messages: one line, no signs that steer a terminal, no more than anybody reads."""
    printable = "".join(sign if sign.isprintable() else " " for sign in text)
    return " ".join(printable.split())[:LONGEST_TEXT]


def _words(value: Any) -> tuple[str, ...]:
    """The values of an attribute that may have one, several or none."""
    several = isinstance(value, Iterable) and not isinstance(value, str)
    return () if value is None else tuple(map(str, value)) if several else (str(value),)


def _at(item: Any, steps: tuple[str, ...]) -> Any:
    """The attribute at the end of sequences, of each of which the first item is meant."""
    *sequences, last = steps
    for sequence in sequences:
        items = item.get(sequence)
        if not items:
            return None
        item = items[0]
    return item.get(last)


def _scan(path: Path, dataset: Any) -> tuple[tuple[Frame, ...], str]:
    """Frames of an image, or none and what keeps it from lying in space as grey values."""
    if int(dataset.get("SamplesPerPixel") or 1) != 1 or dataset.get("PhotometricInterpretation") == PALETTE:
        return (), COLOUR
    if "MOSAIC" in (dataset.get("ImageType") or ()):
        return (), "many slices tiled into one picture (Siemens mosaic)"
    if dataset.get("ModalityLUTSequence"):
        return (), "a table of values (Modality LUT) in place of a rescale slope"
    return locate(path, dataset)


def _whole(placed: tuple[Frame, ...], dataset: Any, left: int) -> tuple[tuple[Frame, ...], str]:
    """The frames, if the `left` bytes hold the pixels of all of them."""
    rows, columns = placed[0].size
    needed = (len(placed) * rows * columns * int(dataset.get("BitsAllocated") or 0) + 7) // 8
    if left >= needed:
        return placed, ""
    return (), f"{CUT} ({max(left, 0)} of {needed} bytes)"
