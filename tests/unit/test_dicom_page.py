"""The page for people: what stands on it, and that the object around it is the PDF that was made."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medseg import readers, report
from medseg.labels import LabelTable
from medseg.outputs import dicom_page
from medseg.prediction import Prediction
from medseg.refusal import Refusal
from medseg.volume import Volume
from tests import dicom_sources, judges

LABELS = LabelTable.of({"liver": 5, "spleen": 1, "price_$5_$6": 9})


def prediction(folder: Path, kind: str = "ct") -> Prediction:
    """Liver in a corner; the spleen was not found."""
    volume = readers.read(dicom_sources.MAKERS[kind](folder / kind))
    target = np.zeros((1, *volume.shape), np.uint8)
    target[0, 2:6, 3:8, 1:4], target[0, 7, 7, 4] = 1, 3
    return Prediction("case-1", LABELS, volume.with_array(target), {"model": "unit test", "seed": "7"}, scan=volume)


def written(made: Prediction, folder: Path) -> pydicom.Dataset:
    dicom_page.write(made, folder / "a.page.dcm", dicom_page.Options(series_number=77))
    assert [file.name for file in folder.glob("*.dcm")] == ["a.page.dcm"]
    return pydicom.dcmread(folder / "a.page.dcm")


def document(page: pydicom.Dataset) -> bytes:
    return page.EncapsulatedDocument[: page.EncapsulatedDocumentLength]


def words(made: Prediction) -> str:
    """What the sheet says, before it becomes a picture of letters."""
    header = pydicom.dcmread(made.target.source.instances[0].path, stop_before_pixels=True)
    return repr(replace(dicom_page._sheet(made, header, datetime(2026, 3, 12)), overlay=None))


def test_the_object_holds_a_pdf_of_this_patient_and_study(tmp_path: Path) -> None:
    made = prediction(tmp_path)
    page = written(made, tmp_path)
    assert (
        page.SOPClassUID == "1.2.840.10008.5.1.4.1.1.104.1" and page.MIMETypeOfEncapsulatedDocument == "application/pdf"
    )
    assert (page.PatientID, page.Modality, page.SeriesNumber, page.BurnedInAnnotation) == ("P1", "DOC", 77, "YES")
    assert page.StudyInstanceUID == made.target.source.notes["study_uid"]
    assert [item.ReferencedSOPInstanceUID for item in page.SourceInstanceSequence] == [
        instance.sop_instance_uid for instance in made.target.source.instances
    ]
    assert "seed: 7" in page.ContributingEquipmentSequence[0].ContributionDescription
    assert document(page).startswith(b"%PDF-") and document(page).rstrip().endswith(b"%%EOF")
    assert report.pages(document(page)) == 1


def test_what_it_says(tmp_path: Path) -> None:
    told = words(prediction(tmp_path))
    for text in ("case-1", "'P1'", "unit test", "2026-03-12", "Mean (HU)", "Looked for and not found: spleen."):
        assert text in told
    assert "research only; not a medical device" in told and "seed: 7" in told
    assert "Phantom" not in told  # the name is in the header, not on the page
    row = re.search(r"\['liver', '([0-9.]+)'", told)
    assert row and float(row[1]) == pytest.approx(60 * 0.6 * 0.8 * 3 / 1000, abs=5e-4)


def test_the_intended_use_is_the_models_own(tmp_path: Path) -> None:
    made = prediction(tmp_path)
    made = replace(made, provenance={"intended use": "counting livers"})
    assert "footer='counting livers'" in words(made)


def test_several_channels_have_a_column_each(tmp_path: Path) -> None:
    made = prediction(tmp_path)
    assert made.scan is not None
    two = made.scan.with_array(np.concatenate([made.scan.array, made.scan.array * 0 + 5]), ("T1", "T2"))
    told = words(replace(made, scan=two))
    assert "T1: mean ± SD" in told and "5.00 ± 0.00" in told


def test_without_the_scan_there_are_no_pictures(tmp_path: Path) -> None:
    made = prediction(tmp_path)
    assert b"/Subtype /Image" in document(written(made, tmp_path))
    assert b"/Subtype /Image" not in document(written(replace(made, scan=None), tmp_path))


def test_nothing_found_is_said(tmp_path: Path) -> None:
    made = prediction(tmp_path)
    empty = replace(made, target=made.target.with_array(np.zeros_like(made.target.array)))
    assert "Looked for and not found: liver, spleen" in words(empty)
    assert report.pages(document(written(empty, tmp_path))) == 1


def sheet(rows: int) -> report.Sheet:
    return report.Sheet(
        title="Segmentation",
        subtitle="a",
        facts=[("Case", "a")],
        overlay=None,
        columns=["Label", "Volume (ml)"],
        rows=[[f"label {n}", "1"] for n in range(rows)],
        colours=[(255, 0, n) for n in range(rows)],
        notes=[],
        account="seed: 7",
        footer="research only",
    )


@pytest.mark.parametrize(("rows", "expected"), [(0, 1), (30, 1), (60, 2), (117, 3)])
def test_long_tables_go_on_to_further_sheets(rows: int, expected: int) -> None:
    made = report.pdf(sheet(rows))
    assert report.pages(made) == expected
    assert report.pdf(sheet(rows)) == made


@pytest.mark.skipif(not shutil.which("pdftotext"), reason="not installed: pdftotext (Debian package poppler-utils)")
def test_every_label_stands_on_a_sheet_as_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(document(written(prediction(tmp_path), tmp_path)))
    done = subprocess.run(["pdftotext", "-layout", tmp_path / "a.pdf", "-"], capture_output=True, text=True, check=True)
    assert "liver" in done.stdout and "price_$5_$6" in done.stdout and "axial, slice" in done.stdout
    (tmp_path / "b.pdf").write_bytes(report.pdf(sheet(117)))
    done = subprocess.run(["pdftotext", "-layout", tmp_path / "b.pdf", "-"], capture_output=True, text=True, check=True)
    assert all(re.search(rf"label {n}\b", done.stdout) for n in range(117))


def test_a_page_that_reads_back_differently_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = report.pdf
    monkeypatch.setattr(dicom_page.report, "pdf", lambda made: honest(made) + b"odd bytes"[: 1 + len(honest(made)) % 2])
    made = prediction(tmp_path)
    written(made, tmp_path)  # of any length: the padding is not part of the document
    monkeypatch.setattr(dicom_page, "_object", damaged)
    (tmp_path / "a.page.dcm").unlink()
    with pytest.raises(Refusal, match="after reading it back"):
        dicom_page.write(made, tmp_path / "a.page.dcm", dicom_page.Options())
    assert not list(tmp_path.glob("*.dcm")) and not list(tmp_path.glob(".partial*"))


OBJECT = dicom_page._object


def damaged(*given: object) -> pydicom.Dataset:
    made = OBJECT(*given)  # type: ignore[arg-type]
    made.EncapsulatedDocument = made.EncapsulatedDocument.replace(b"PDF", b"FDP", 1)
    return made


def test_scans_that_are_not_dicom_are_refused(tmp_path: Path) -> None:
    made = Prediction("c", LABELS, Volume(np.ones((1, 2, 3, 4), np.uint8), np.eye(4)))
    with pytest.raises(Refusal, match="without DICOM instances"):
        dicom_page.write(made, tmp_path / "a.page.dcm", dicom_page.Options())


class TestJudges:
    pytestmark = judges.needs("dciodvfy")

    @pytest.mark.parametrize("kind", list(dicom_sources.MAKERS))
    def test_a_validator_finds_no_error(self, kind: str, tmp_path: Path) -> None:
        written(prediction(tmp_path, kind), tmp_path)
        assert judges.dciodvfy(tmp_path / "a.page.dcm") == []


class TestArchive:
    pytestmark = judges.needs("Orthanc", "storescu")

    def test_it_stores_a_page_and_gives_the_pdf(self, tmp_path: Path) -> None:
        page = written(prediction(tmp_path), tmp_path)
        with judges.orthanc(tmp_path) as archive:
            assert archive.get(f"/instances/{archive.store(tmp_path / 'a.page.dcm')}/pdf") == document(page)
