"""A series of pictures as one Multi-frame True Color Secondary Capture object (DICOM PS3.3 A.8.5), in the place of the
slices that they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from medseg.dicom import objects, patient
from medseg.prediction import Prediction
from medseg.refusal import Refusal

SOP_CLASS = "1.2.840.10008.5.1.4.1.1.7.4"
PURPOSE = ("121322", "DCM", "Source image for image processing operation")
DERIVED = ("113076", "DCM", "Segmentation")
LEVEL_MM = 6
"""Digits behind the point of positions and spacings."""


@dataclass(frozen=True, eq=False)
class Shot:
    """One picture.

    Attributes:
        pixels: (rows, columns, 3) uint8.
        affine: (4, 4) from (column, row, 0, 1) of the picture to RAS+ mm.
        number: of the original slice, from 0, in the order of `Source.instances`.
    """

    pixels: np.ndarray
    affine: np.ndarray
    number: int


def build(
    prediction: Prediction, shots: Sequence[Shot], headers: Sequence[Any], *, comment: str, number: int, text: str
) -> Any:
    """The dataset, with everything but its pixels' values taken from the scan and the provenance.

    Args:
        headers: of the scan's files, as `objects.sources` gives them.
        comment: what people must know of it, for the image's comments.
        number, text: of the new series.
    """
    import highdicom as hd
    from pydicom.uid import ExplicitVRLittleEndian

    first, now = headers[0], datetime.now()
    with objects.building(prediction.target.source):
        made = hd.SOPClass(
            study_instance_uid=first.StudyInstanceUID,
            series_instance_uid=objects.uid(prediction, "overlay series"),
            series_number=number,
            series_description=text[:64],
            sop_instance_uid=objects.uid(prediction, "overlay"),
            sop_class_uid=SOP_CLASS,
            instance_number=1,
            modality="OT",  # not the scan's: nobody may take pictures for it
            transfer_syntax_uid=ExplicitVRLittleEndian,
            specific_character_set=patient.character_set(first, objects.account(prediction), comment, text),
            **objects.equipment(prediction),
        )
        made.copy_patient_and_study_information(first)
    _describe(made, prediction, headers, comment, now)
    _place(made, prediction, shots, first.FrameOfReferenceUID)
    rows, columns, _ = shots[0].pixels.shape
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "RGB", 0
    made.Rows, made.Columns, made.NumberOfFrames = rows, columns, len(shots)
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    pixels = b"".join(shot.pixels.tobytes() for shot in shots)
    made.PixelData = pixels + bytes(len(pixels) % 2)
    made["PixelData"].VR = "OB"
    return made


def _describe(made: Any, prediction: Prediction, headers: Sequence[Any], comment: str, now: datetime) -> None:
    burned = any(str(header.get("BurnedInAnnotation", "")).upper() == "YES" for header in headers)
    made.ImageType, made.ConversionType = ["DERIVED", "SECONDARY"], "WSD"
    made.BurnedInAnnotation = "YES" if burned else "NO"  # whether it tells whose it is (PS3.3 C.7.6.1): ours does not
    made.ContentDate, made.ContentTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    made.LossyImageCompression = (
        "01" if any(str(one.get("LossyImageCompression", "")) == "01" for one in headers) else "00"
    )
    made.PatientOrientation = made.Laterality = None
    made.ImageComments = made.DerivationDescription = comment[: objects.LONGEST_ST]
    made.ContributingEquipmentSequence = [objects.contribution(prediction)]


def _place(made: Any, prediction: Prediction, shots: Sequence[Shot], frame_of_reference: str) -> None:
    """Functional groups: how large a pixel is, where each picture lies, and which slice it shows."""
    from pydicom.dataset import Dataset

    made.FrameOfReferenceUID, made.PositionReferenceIndicator = frame_of_reference, None
    columns, rows = shots[0].affine[:3, 0], shots[0].affine[:3, 1]
    spacing = [float(np.linalg.norm(side)) for side in (rows, columns)]
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [_decimal(side) for side in spacing]
    cosines = [*_lps(columns / spacing[1]), *_lps(rows / spacing[0])]
    orientation.ImageOrientationPatient = [_decimal(cosine) for cosine in cosines]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    made.SharedFunctionalGroupsSequence, made.PerFrameFunctionalGroupsSequence = [shared], []
    normal = np.cross(columns, rows) / (spacing[0] * spacing[1])
    instances = prediction.target.source.instances
    made.SourceImageSequence = []
    for shot in shots:
        source = _reference(instances[shot.number])
        position, content, derivation, frame = Dataset(), Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [_decimal(part) for part in _lps(shot.affine[:3, 3])]
        content.FrameLabel = f"slice {shot.number + 1} of {len(instances)}"
        derivation.DerivationCodeSequence, derivation.SourceImageSequence = [_code(*DERIVED)], [source]
        frame.PlanePositionSequence, frame.FrameContentSequence = [position], [content]
        frame.DerivationImageSequence = [derivation]
        made.PerFrameFunctionalGroupsSequence.append(frame)
        if source not in made.SourceImageSequence:
            made.SourceImageSequence.append(source)
    if len(shots) > 1:  # what tells frames apart is allowed only where there are several
        made.SliceLocationVector = [_decimal(float(shot.affine[:3, 3] @ normal)) for shot in shots]
        made.FrameIncrementPointer = 0x00182005  # the slice locations


def _reference(instance: Any) -> Any:
    from pydicom.dataset import Dataset

    found = Dataset()
    found.ReferencedSOPClassUID = instance.sop_class_uid
    found.ReferencedSOPInstanceUID = instance.sop_instance_uid
    if instance.frame is not None:
        found.ReferencedFrameNumber = instance.frame
    found.PurposeOfReferenceCodeSequence = [_code(*PURPOSE)]
    return found


def _code(value: str, scheme: str, meaning: str) -> Any:
    from pydicom.dataset import Dataset

    made = Dataset()
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = value, scheme, meaning
    return made


def _lps(vector: np.ndarray) -> np.ndarray:
    return vector * (-1, -1, 1)


def _decimal(value: float) -> str:
    return f"{value:.{LEVEL_MM}f}".rstrip("0").rstrip(".") or "0"


def prove(written: Path, path: Path, shots: Sequence[Shot]) -> None:
    """Read the file again, and compare every pixel.

    Args:
        written: the file.
        path: what it will be called.

    Raises:
        Refusal: something came back otherwise.
    """
    import pydicom

    back = pydicom.dcmread(written).PixelData
    size = shots[0].pixels.size
    parts = (np.frombuffer(back, np.uint8, size, n * size) for n in range(len(shots)))
    if not all(np.array_equal(part, shot.pixels.ravel()) for part, shot in zip(parts, shots, strict=True)):
        raise Refusal(
            path,
            found="other pictures, after reading it back",
            needed=f"the {len(shots)} that were drawn",
            remedy="choose the dicom_seg output, and report this",
        )
