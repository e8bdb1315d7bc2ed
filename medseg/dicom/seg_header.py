"""Everything of a segmentation object but its frames: whose it is, what made it, which segments and sources it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from medseg import codes
from medseg.dicom import objects, patient
from medseg.dicom.seg_frames import FULL, Content, Kind
from medseg.labels import Label
from medseg.prediction import Prediction

OVERLAP = {True: "YES", False: "NO", None: "UNDEFINED"}


def build(
    prediction: Prediction, content: Content, kind: Kind, headers: Sequence[Dataset], number: int, description: str
) -> Dataset:
    """Dataset of the object without frames. highdicom lays down the modules, on a single slice that stands for the
    scan: of a whole one it holds every frame in memory, and it wants slices of one orientation in single files.

    Args:
        headers: of the scan's files.
        number: of the series.
        description: of the series.
    """
    import highdicom as hd

    segments = [
        _describe(n, prediction.table.labels[position], prediction) for n, position in enumerate(content.segments, 1)
    ]
    slice_ = _one_slice(headers[0], prediction)
    texts = [
        *prediction.table.names,
        *(code.meaning for label in prediction.table.labels for code in codes.of(label).codes),
        prediction.case,
        description,
        objects.model(prediction),
        objects.account(prediction),
    ]
    with objects.building(prediction.target.source):
        made = hd.seg.Segmentation(
            source_images=[slice_],
            pixel_array=np.zeros((1, slice_.Rows, slice_.Columns), np.uint8),
            segmentation_type=kind.upper(),
            fractional_type="PROBABILITY",
            max_fractional_value=FULL,
            segment_descriptions=segments,
            series_instance_uid=objects.uid(prediction, "SEG series"),
            series_number=number,
            series_description=description[:64],
            sop_instance_uid=objects.uid(prediction, "SEG"),
            instance_number=1,
            content_label="SEGMENTATION",
            content_description=f"quality control: {quality.verdict}" if (quality := prediction.quality) else None,
            contributing_equipment=[objects.contribution(prediction)],
            omit_empty_frames=False,
            specific_character_set=patient.character_set(headers[0], *texts),
            **objects.equipment(prediction),
        )
    del made.PixelData, made.PerFrameFunctionalGroupsSequence, made.SharedFunctionalGroupsSequence
    made.SegmentsOverlap = OVERLAP[content.overlap]
    made.NumberOfFrames = len(content.places)
    _refer(made, prediction, headers[0].SeriesInstanceUID)
    return made


def _one_slice(header: Dataset, prediction: Prediction) -> Dataset:
    """Patient, study and frame of reference of the scan as a single slice. What highdicom would derive from its place
    and identity is replaced afterwards."""
    made = Dataset()
    made.update({element.tag: element for element in header if element.tag.group not in (0x0020, 0x0028, 0x5200)})
    columns, rows = _size(prediction)
    made.SOPClassUID = CTImageStorage
    made.StudyInstanceUID, made.SeriesInstanceUID = header.StudyInstanceUID, header.SeriesInstanceUID
    made.StudyID, made.FrameOfReferenceUID = header.StudyID, header.FrameOfReferenceUID
    made.PositionReferenceIndicator = header.get("PositionReferenceIndicator", "")
    made.Rows, made.Columns = rows, columns
    made.PixelSpacing, made.SliceThickness = [1, 1], 1
    made.ImagePositionPatient, made.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    return made


def _size(prediction: Prediction) -> tuple[int, int]:
    slices = prediction.target.source.slices
    return prediction.target.shape[:2] if slices is None else slices.size


def _refer(made: Dataset, prediction: Prediction, series_uid: str) -> None:
    """Name every instance of the scan once, whether a segment lies on it or not."""
    classes = {one.sop_instance_uid: one.sop_class_uid for one in prediction.target.source.instances}
    named = []
    for instance_uid, class_uid in classes.items():
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = class_uid, instance_uid
        named.append(reference)
    series = Dataset()
    series.SeriesInstanceUID, series.ReferencedInstanceSequence = series_uid, named
    made.SourceImageSequence, made.ReferencedSeriesSequence = named, [series]


def _describe(number: int, label: Label, prediction: Prediction) -> Any:
    import highdicom as hd

    coded = codes.of(label)
    tracking_uid, tracking_id = objects.tracking(prediction, label)
    description = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=codes.name_of(label),
        segmented_property_category=objects.concept(coded.category),
        segmented_property_type=objects.concept(coded.kind),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues(prediction.made_by),
        algorithm_identification=objects.algorithm(prediction),
        tracking_uid=tracking_uid,
        tracking_id=tracking_id,
        anatomic_regions=[objects.concept(coded.site)] if coded.site else None,
        display_color=hd.color.CIELabColor.from_rgb(*label.colour),
    )
    if coded.of_site:
        description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [objects.concept(coded.of_site)]
    if coded.of_kind:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [objects.concept(coded.of_kind)]
    return description
