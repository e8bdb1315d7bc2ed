"""DICOM measurement report (.sr.dcm, TID 1500): volume and values of each segment of the DICOM SEG beside it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from medseg import codes, measurements
from medseg.atomic import replacing
from medseg.dicom import control, objects, patient
from medseg.dicom.concepts import (
    ABSENT,
    ANY_PROCEDURE,
    CM3,
    MODALITIES,
    PRESENCE,
    QUANTITIES,
    SOURCE,
    STATISTICS,
    VOLUME,
)
from medseg.labels import Code
from medseg.measurements import Channel, Row, Table
from medseg.prediction import Prediction
from medseg.refusal import Refusal
from medseg.settings import Settings
from medseg.volume import Volume

SUFFIX = ".sr.dcm"
WRITES = "labels"
READ_BACK_BY = None
NEEDS = {"dicom_seg": {"type": ("binary", "fractional"), "of": ("probabilities",)}}

LONGEST = {"CodeValue": 16, "CodingSchemeDesignator": 16, "CodeMeaning": 64}
"""Characters that the parts of a code may have."""


class Options(Settings):
    """What the object says about itself."""

    series_number: int = 301
    """Number of the new series in the study."""
    series_description: str = "medseg measurements"
    """Shown in the list of series."""


class Number(NamedTuple):
    """One measurement as the report holds it: what, how it was summed up, how much of which unit."""

    concept: Code
    derivation: Code | None
    value: float
    unit: Code


def check(scan: Volume, path: Path) -> None:
    """Refuse, before anything is predicted, a scan of which nothing could be written."""
    objects.refuse_unfit(scan, placed=False)


def write(prediction: Prediction, path: Path, options: Options) -> None:
    """Write an Enhanced SR with a group of measurements for every label of the table, in its order: a label that is a
    segment refers to it; one that was not found has volume 0 and "absent". "Looked for and not found" is a result.

    The numbers are those of the statistics outputs. Of several channels that measure the same (two MR sequences), only
    the first is reported, because its numbers could not be told from those of the others. Before the file gets its
    name it is read again and every number, unit and reference is compared with the table. A group at the end holds what
    quality control says of the result, where it was judged.

    Raises:
        Refusal: the scan was not DICOM, its files are gone, or what was written did not come back the same.
    """
    table = measurements.measure(prediction)
    described = objects.segments(prediction)
    numbers = {place: number for number, place in enumerate(described, start=1)}
    with replacing(path) as temporary:
        _build(prediction, table, numbers, options).save_as(temporary)
        _compare(prediction, table, numbers, temporary, path)


def _build(prediction: Prediction, table: Table, numbers: dict[int, int], options: Options) -> Any:
    """highdicom's report."""
    import highdicom as hd

    headers = objects.sources(prediction.target)
    first = headers[0]
    with objects.building(prediction.target.source):
        groups = [
            _group(prediction, row, table.channels, numbers.get(place), first) for place, row in enumerate(table.rows)
        ]
        groups += control.groups(prediction)
        report = hd.sr.MeasurementReport(
            observation_context=_observer(prediction),
            procedure_reported=objects.concept(_procedure(first)),
            imaging_measurements=groups,
        )
        report[0].ContentSequence.insert(-1, _library(headers))  # where TID 1500 wants it: before the measurements
        return hd.sr.EnhancedSR(
            evidence=[*headers, *([_segmentation(prediction, first)] if numbers else [])],
            content=report,
            series_instance_uid=objects.uid(prediction, "SR series"),
            series_number=options.series_number,
            series_description=options.series_description[:64],
            sop_instance_uid=objects.uid(prediction, "SR"),
            instance_number=1,
            specific_character_set=patient.character_set(first, *_texts(prediction, options)),
            is_complete=True,
            contributing_equipment=[objects.contribution(prediction)],
            **objects.equipment(prediction),
        )


def _group(prediction: Prediction, row: Row, channels: tuple[Channel, ...], segment: int | None, first: Any) -> Any:
    """Measurements of one label: of a segment (TID 1411), or of none (TID 1501)."""
    import highdicom as hd
    from pydicom.uid import SegmentationStorage

    coded = codes.of(row.label)
    common = {
        "tracking_identifier": hd.sr.TrackingIdentifier(*objects.tracking(prediction, row.label)),
        "finding_category": objects.concept(coded.category),
        "finding_type": objects.concept(coded.kind),
        "finding_sites": _sites(coded),
        "algorithm_id": hd.sr.AlgorithmIdentification(
            name=objects.model(prediction),
            version=objects.version(),
            parameters=[objects.account(prediction)],
            manufacturer=objects.MANUFACTURER,
        ),
        "measurements": [_measurement(number) for number in _numbers(row, channels)],
    }
    if segment is None:
        absent = hd.sr.QualitativeEvaluation(objects.concept(PRESENCE), objects.concept(ABSENT))
        return hd.sr.MeasurementsAndQualitativeEvaluations(
            **common, qualitative_evaluations=[] if row.voxels else [absent]
        )
    reference = hd.sr.ReferencedSegment(
        sop_class_uid=SegmentationStorage,
        sop_instance_uid=objects.uid(prediction, "SEG"),
        segment_number=segment,
        source_series=hd.sr.SourceSeriesForSegmentation(first.SeriesInstanceUID),
    )
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(**common, referenced_segment=reference)


def _numbers(row: Row, channels: tuple[Channel, ...]) -> list[Number]:
    found = [] if row.volume_ml is None else [Number(VOLUME, None, measurements.rounded(row.volume_ml), CM3)]
    seen: set[str] = set()
    for channel, values in zip(channels, row.values, strict=False):  # no values where nothing was found
        measured = channel.quantity or channel.unit or channel.modality
        if measured in QUANTITIES and measured not in seen:
            seen.add(measured)
            concept, unit = QUANTITIES[measured]
            found += [
                Number(concept, STATISTICS[name], measurements.rounded(value), unit)
                for name, value in values._asdict().items()
            ]
    return found


def _measurement(number: Number) -> Any:
    import highdicom as hd

    return hd.sr.Measurement(
        name=objects.concept(number.concept),
        value=number.value,
        unit=objects.concept(number.unit),
        derivation=None if number.derivation is None else objects.concept(number.derivation),
    )


def _sites(coded: codes.Coded) -> list[Any]:
    """Where a finding lies; an organ is its own place."""
    import highdicom as hd

    place = coded.site or (coded.kind if coded.category == codes.STRUCTURE else None)
    if place is None:
        return []
    return [hd.sr.FindingSite(objects.concept(place), laterality=coded.side and objects.concept(coded.side))]


def _observer(prediction: Prediction) -> Any:
    """Who says so: a device."""
    import highdicom as hd
    from pydicom.sr.codedict import codes as dicom_codes

    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=objects.device_uid(prediction),
        name=objects.model(prediction),
        manufacturer_name=objects.MANUFACTURER,
        model_name=objects.model(prediction),
    )
    return hd.sr.ObservationContext(
        observer_device_context=hd.sr.ObserverContext(
            observer_type=dicom_codes.DCM.Device, observer_identifying_attributes=device
        )
    )


def _procedure(header: Any) -> Code:
    """The header's own code of the procedure, if it is a sound one, or that of its modality."""
    given = (header.get("ProcedureCodeSequence") or [{}])[0]
    parts = [given.get(name) for name in LONGEST]
    if all(isinstance(part, str) and 0 < len(part) <= most for part, most in zip(parts, LONGEST.values(), strict=True)):
        return Code(*parts)
    return MODALITIES[header.Modality][1] if header.Modality in MODALITIES else ANY_PROCEDURE


def _library(headers: list[Any]) -> Any:
    """The images that were measured (TID 1600), with what they have in common. Not highdicom's, which wants the plane
    of each image in its header's top level, where enhanced ones have none."""
    import highdicom as hd
    from pydicom.sr.codedict import codes as dicom_codes

    context, contains = hd.sr.RelationshipTypeValues.HAS_ACQ_CONTEXT, hd.sr.RelationshipTypeValues.CONTAINS
    group = hd.sr.ContainerContentItem(dicom_codes.DCM.ImageLibraryGroup, relationship_type=contains)
    group.ContentSequence = hd.sr.ContentSequence()
    if headers[0].Modality in MODALITIES:
        modality = objects.concept(MODALITIES[headers[0].Modality][0])
        group.ContentSequence.append(hd.sr.CodeContentItem(dicom_codes.DCM.Modality, modality, context))
    if headers[0].get("FrameOfReferenceUID"):
        frame = headers[0].FrameOfReferenceUID
        group.ContentSequence.append(hd.sr.UIDRefContentItem(dicom_codes.DCM.FrameOfReferenceUID, frame, context))
    for header in headers:
        image = hd.sr.ImageContentItem(
            objects.concept(SOURCE), header.SOPClassUID, header.SOPInstanceUID,
            relationship_type=contains,
        )  # fmt: skip
        group.ContentSequence.append(image)
    library = hd.sr.ContainerContentItem(dicom_codes.DCM.ImageLibrary, relationship_type=contains)
    library.ContentSequence = hd.sr.ContentSequence([group])
    return library


def _segmentation(prediction: Prediction, first: Any) -> Any:
    """What the report must know of the segmentation: where it will be found."""
    from pydicom.dataset import Dataset
    from pydicom.uid import SegmentationStorage

    named = Dataset()
    named.SOPClassUID, named.SOPInstanceUID = SegmentationStorage, objects.uid(prediction, "SEG")
    named.StudyInstanceUID, named.SeriesInstanceUID = first.StudyInstanceUID, objects.uid(prediction, "SEG series")
    return named


def _texts(prediction: Prediction, options: Options) -> list[str]:
    """Words of the report that a character set must be able to hold."""
    meanings = [codes.of(label).kind.meaning for label in prediction.table.labels]
    about = [objects.model(prediction), objects.account(prediction), options.series_description, prediction.case]
    return [*prediction.table.names, *meanings, *about]


def _compare(prediction: Prediction, table: Table, numbers: dict[int, int], written: Path, path: Path) -> None:
    """Read the file and compare all that it says of each label with the table."""
    import highdicom as hd

    content = hd.sr.srread(written).content
    groups = {
        str(group.tracking_uid): group
        for group in (*content.get_volumetric_roi_measurement_groups(), *content.get_image_measurement_groups())
    }
    for place, row in enumerate(table.rows):
        group = groups.get(objects.tracking(prediction, row.label)[0])
        segment = (objects.uid(prediction, "SEG"), numbers[place]) if place in numbers else None
        wanted = (_facts(_numbers(row, table.channels)), segment)
        found = None if group is None else (_facts(map(_number, group.get_measurements())), _referenced(group))
        if found != wanted:
            raise Refusal(
                path,
                found=f"{found} for {row.label.name}, after reading it back",
                needed=f"{wanted}",
                remedy="choose the statistics_csv output, and report this",
            )


def _facts(numbers: Iterable[Number]) -> list[tuple[Any, ...]]:
    """Without the meanings of codes, which are for people."""
    return [
        (number.concept.value, number.derivation and number.derivation.value, number.value, number.unit.value)
        for number in numbers
    ]


def _number(measured: Any) -> Number:
    """One of highdicom's measurements."""
    codes_of = [
        code and Code(code.value, code.scheme_designator, code.meaning)
        for code in (measured.name, measured.derivation, measured.unit)
    ]
    return Number(codes_of[0], codes_of[1], float(measured.value), codes_of[2])


def _referenced(group: Any) -> tuple[str, int] | None:
    """Object and number of the segment that a group of highdicom's refers to."""
    segment = getattr(group, "referenced_segment", None)
    if segment is None:
        return None
    (item,) = segment[0].ReferencedSOPSequence
    return str(item.ReferencedSOPInstanceUID), int(item.ReferencedSegmentNumber)
