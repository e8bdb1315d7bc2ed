"""A page for people (.page.dcm): pictures, measurements and provenance as a PDF inside a DICOM object."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from medseg import measurements, report, wording
from medseg.atomic import replacing
from medseg.dicom import objects, patient
from medseg.measurements import Channel, Row
from medseg.prediction import Prediction
from medseg.refusal import Refusal
from medseg.settings import Settings
from medseg.volume import Volume

SUFFIX = ".page.dcm"
WRITES = "labels"
READ_BACK_BY = None
INTENDED_USE = "research only; not a medical device"
"""Where the provenance does not say "intended use"."""


class Options(Settings):
    """What the object says about itself."""

    series_number: int = 302
    """Number of the new series in the study."""
    series_description: str = "medseg page"
    """Shown in the list of series."""


def check(scan: Volume, path: Path) -> None:
    """Refuse, before anything is predicted, a scan of which nothing could be written."""
    objects.refuse_unfit(scan, placed=False)


def write(prediction: Prediction, path: Path, options: Options) -> None:
    """Write an Encapsulated PDF of A4 sheets: whose scan, which model, when; three planes with the labels' outlines; a
    table of the labels that were found, and the names of the others; provenance; intended use.

    It shows the PatientID, as the header of the object does, and says so (BurnedInAnnotation); not the name. Before the
    file gets its name it is read again: the PDF must be the same to the byte.

    Raises:
        Refusal: the scan was not DICOM, its files are gone, or what was written did not come back the same.
    """
    headers = objects.sources(prediction.target)
    now = datetime.now()
    document = report.pdf(_sheet(prediction, headers[0], now))
    with replacing(path) as temporary:
        _object(prediction, headers, document, now, options).save_as(temporary)
        _compare(document, temporary, path)


def _sheet(prediction: Prediction, header: Any, now: datetime) -> report.Sheet:
    table = measurements.measure(prediction)
    found = [row for row in table.rows if row.voxels]
    missing = [row.label.name for row in table.rows if not row.voxels]
    return report.Sheet(
        title="Segmentation",
        subtitle=f"{objects.model(prediction)}, {now:%Y-%m-%d %H:%M}",
        facts=_facts(prediction, header),
        overlay=None if prediction.scan is None else report.overlay(prediction.scan, prediction, None),
        columns=["Label", "Volume (ml)", *_headings(table.channels)],
        rows=[
            [row.label.name, wording.value(row.volume_ml), *cells]
            for row, cells in zip(found, _cells(found), strict=True)
        ],
        colours=[row.label.colour for row in found],
        notes=[f"Looked for and not found: {', '.join(missing)}."] if missing else [],
        account=objects.account(prediction),
        footer=prediction.provenance.get("intended use", INTENDED_USE),
    )


def _facts(prediction: Prediction, header: Any) -> list[tuple[str, str]]:
    date, source = str(header.get("StudyDate") or ""), prediction.target.source
    sides = " × ".join(f"{side:.3g}" for side in prediction.target.spacing_mm)
    return [
        ("Case", prediction.case),
        ("Patient ID", str(header.PatientID) or "–"),
        ("Study", f"{date[:4]}-{date[4:6]}-{date[6:8]}" if len(date) == 8 else date or "–"),
        ("Series", f"{header.get('SeriesNumber') or ''} {header.get('SeriesDescription') or ''}".strip() or "–"),
        ("Modality", source.modality or "–"),
        ("Voxels", f"{' × '.join(map(str, prediction.target.shape))} of {sides} mm"),
        *([("Quality control", prediction.quality.sentence())] if prediction.quality else []),
    ]


def _headings(channels: tuple[Channel, ...]) -> list[str]:
    """All values of one channel; mean and standard deviation of each of several."""
    if len(channels) == 1:
        (channel,) = channels
        quantity = " ".join(dict.fromkeys(word for word in (channel.quantity, channel.unit) if word))
        return [f"Mean ({quantity})" if quantity else "Mean", "SD", "Min", "Max", "Median"]
    return [f"{channel.name or channel.modality}: mean ± SD" for channel in channels]


def _cells(found: list[Row]) -> list[list[str]]:
    """Below the headings, a list for each row: the numbers of a column have the same digits after the point."""
    several = any(len(row.values) > 1 for row in found)
    numbers = [[number for values in row.values for number in (values[:2] if several else values)] for row in found]
    digits = [wording.digits_for(column) for column in zip(*numbers, strict=True)]
    written = [[wording.value(number, digits=n) for number, n in zip(row, digits, strict=True)] for row in numbers]
    if not several:
        return written
    return [[f"{mean} ± {sd}" for mean, sd in zip(row[::2], row[1::2], strict=True)] for row in written]


def _object(prediction: Prediction, headers: list[Any], document: bytes, now: datetime, options: Options) -> Any:
    """Encapsulated PDF (DICOM PS3.3, A.45.1)."""
    import highdicom as hd
    from pydicom.dataset import Dataset
    from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

    first = headers[0]
    with objects.building(prediction.target.source):
        made = hd.SOPClass(
            study_instance_uid=first.StudyInstanceUID,
            series_instance_uid=objects.uid(prediction, "page series"),
            series_number=options.series_number,
            series_description=options.series_description[:64],
            sop_instance_uid=objects.uid(prediction, "page"),
            sop_class_uid=EncapsulatedPDFStorage,
            instance_number=1,
            modality="DOC",
            transfer_syntax_uid=ExplicitVRLittleEndian,
            specific_character_set=patient.character_set(
                first, objects.model(prediction), objects.account(prediction), options.series_description
            ),
            **objects.equipment(prediction),
        )
        made.copy_patient_and_study_information(first)
    made.ConversionType, made.BurnedInAnnotation = "WSD", "YES"  # the latter: the page shows the PatientID
    made.ContentDate, made.ContentTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    made.AcquisitionDateTime, made.DocumentTitle, made.ConceptNameCodeSequence = "", "Segmentation", []
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    made.EncapsulatedDocumentLength = len(document)
    made.EncapsulatedDocument = document
    made.SourceInstanceSequence, made.ContributingEquipmentSequence = [], [objects.contribution(prediction)]
    for header in headers:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
        made.SourceInstanceSequence.append(reference)
    return made


def _compare(document: bytes, written: Path, path: Path) -> None:
    """Read the file and compare the PDF in it with the one that was made."""
    import pydicom

    found = pydicom.dcmread(written)
    back = found.EncapsulatedDocument[: found.EncapsulatedDocumentLength]
    if back != document or not report.pages(back):
        raise Refusal(
            path,
            found=f"a PDF of {len(back)} bytes and {report.pages(back)} pages, after reading it back",
            needed=f"the {len(document)} bytes and {report.pages(document)} pages that were made",
            remedy="choose the statistics_csv output, and report this",
        )
