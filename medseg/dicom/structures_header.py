"""Everything of a structure set but its contours: whose it is, what made it, which regions and images it has."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian

from medseg import codes
from medseg.dicom import headers, objects, patient
from medseg.labels import Label
from medseg.prediction import Prediction

STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management: retired, and still what a reference to a study names."""
COPIED = (*patient.NEEDED_TEXT, "StudyInstanceUID", "FrameOfReferenceUID", "PositionReferenceIndicator")


def build(
    prediction: Prediction, regions: Sequence[int], files: Sequence[Dataset], number: int, description: str
) -> FileDataset:
    """Dataset of the object with its regions, but with no element for their contours.

    Implicit VR, as planning systems write it: explicit VR has no room for a contour of more than 65534 characters.

    Args:
        regions: positions in the label table; region n is the n-th of them. If empty, all labels.
        files: headers of the scan's files.
        number: of the series.
        description: of the series.
    """
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ImplicitVRLittleEndian
    made: Any = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SpecificCharacterSet = patient.UTF_8
    for attribute in COPIED:
        setattr(made, attribute, files[0].get(attribute, ""))
    made.SOPClassUID, made.SOPInstanceUID = headers.STRUCTURE_SET_CLASS, objects.uid(prediction, "RTSTRUCT")
    made.Modality, made.SeriesInstanceUID = "RTSTRUCT", objects.uid(prediction, "RTSTRUCT series")
    made.SeriesNumber, made.SeriesDescription = number, description[:64]
    made.OperatorsName, made.InstanceNumber = "", 1
    made.Manufacturer, made.ManufacturerModelName = objects.MANUFACTURER, objects.model(prediction)
    made.SoftwareVersions, made.DeviceSerialNumber = objects.version(), "0"
    made.ContributingEquipmentSequence = [objects.contribution(prediction)]
    now = datetime.now()
    made.StructureSetDate = made.InstanceCreationDate = now.strftime("%Y%m%d")
    made.StructureSetTime = made.InstanceCreationTime = now.strftime("%H%M%S")
    made.StructureSetLabel, made.StructureSetName = objects.MANUFACTURER, objects.model(prediction)
    made.StructureSetDescription = objects.account(prediction)[: objects.LONGEST_ST]
    made.ReferencedFrameOfReferenceSequence = [_references(files)]
    labels = [prediction.table.labels[position] for position in regions] or prediction.table.labels
    numbered = list(enumerate(labels, start=1))
    made.StructureSetROISequence = [_region(n, label, prediction, made.FrameOfReferenceUID) for n, label in numbered]
    made.RTROIObservationsSequence = [_observation(n, label) for n, label in numbered]
    made.ApprovalStatus = "UNAPPROVED"
    return made


def item(**attributes: Any) -> Dataset:
    """A dataset with these attributes."""
    made = Dataset()
    for attribute, value in attributes.items():
        setattr(made, attribute, value)
    return made


def _references(files: Sequence[Dataset]) -> Dataset:
    """Frame of reference, study, series, and every file of the scan."""
    images = [
        item(ReferencedSOPClassUID=file.SOPClassUID, ReferencedSOPInstanceUID=file.SOPInstanceUID) for file in files
    ]
    series = item(SeriesInstanceUID=files[0].SeriesInstanceUID, ContourImageSequence=images)
    study = item(
        ReferencedSOPClassUID=STUDY_CLASS,
        ReferencedSOPInstanceUID=files[0].StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    return item(FrameOfReferenceUID=files[0].FrameOfReferenceUID, RTReferencedStudySequence=[study])


def _region(number: int, label: Label, prediction: Prediction, frame_of_reference: str) -> Dataset:
    return item(
        ROINumber=number,
        ReferencedFrameOfReferenceUID=frame_of_reference,
        ROIName=codes.name_of(label),
        ROIGenerationAlgorithm=prediction.made_by,
        ROIDerivationAlgorithmIdentificationSequence=objects.algorithm(prediction),
    )


def _observation(number: int, label: Label) -> Dataset:
    """What a region is. Known organs are called so, and nothing a target volume: whether a tumour is to be treated is
    not for a program to say. The interpreter would be a person, and there was none."""
    coded = codes.of(label)
    kind, organ = objects.concept(coded.kind), coded.category == codes.STRUCTURE and coded.kind.scheme == "SCT"
    made = item(
        ObservationNumber=number,
        ReferencedROINumber=number,
        SegmentedPropertyCategoryCodeSequence=[objects.concept(coded.category)],
        RTROIIdentificationCodeSequence=[kind],
        RTROIInterpretedType="ORGAN" if organ else "",
        ROIInterpreter="",
    )
    if coded.site:
        made.AnatomicRegionSequence = [objects.concept(coded.site)]
    if coded.of_site:
        made.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [objects.concept(coded.of_site)]
    if coded.of_kind:
        kind.SegmentedPropertyTypeModifierCodeSequence = [objects.concept(coded.of_kind)]
    return made
