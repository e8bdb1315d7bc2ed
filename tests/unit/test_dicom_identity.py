"""Whose an object is: headers as hospitals and anonymisers leave them, through every DICOM output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from medseg import plugins, readers
from medseg.dicom import objects
from medseg.labels import LabelTable
from medseg.prediction import Prediction
from medseg.refusal import Refusal
from tests import dicom_sources, judges

OUTPUTS = ["dicom_seg", "rtstruct", "dicom_sr", "dicom_page", "dicom_overlay"]
LABELS = LabelTable.of({"liver": 5, "kidney_left": 1})
each_output = pytest.mark.parametrize("output", OUTPUTS)
pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR", "ignore:The value length")


def prediction(folder: Path, change: Callable[[Any], None] = lambda _: None) -> Prediction:
    """Of a CT whose headers were changed, with a long account of how it came about."""
    path = dicom_sources.ct(folder / "ct")
    for file in path.iterdir():
        header = pydicom.dcmread(file)
        change(header)
        header.save_as(file)
    scan = readers.read(path)
    target = np.zeros((1, *scan.shape), np.uint8)
    target[0, 2:5, 3:8, 1:4] = 1
    sums = ", ".join(f"{fold:064x}" for fold in range(20))
    return Prediction("case", LABELS, scan.with_array(target), {"weights sha256": sums, "seed": "7"}, scan=scan)


def written(output: str, made: Prediction, folder: Path) -> Any:
    module = plugins.find("outputs", output)
    module.write(made, folder / "a.dcm", module.Options())
    return pydicom.dcmread(folder / "a.dcm")


@each_output
@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("StudyDate", "2004.01.19", "20040119"),
        ("StudyTime", "10:20:30", "102030"),
        ("StudyTime", "101112.5", "101112.5"),
        ("PatientBirthDate", "1960", ""),
        ("PatientBirthDate", "00000000", ""),
        ("PatientSex", "MALE", ""),
        ("PatientSex", "F", "F"),
        ("PatientAge", "060Y", "060Y"),
        ("PatientAge", "60", ""),
    ],
)
def test_what_is_no_date_time_sex_or_age_is_left_empty(
    output: str, name: str, given: str, kept: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = prediction(tmp_path, lambda header: setattr(header, name, given))
    if output == "rtstruct" and name == "PatientAge":
        assert name not in written(output, made, tmp_path)
        return
    assert str(written(output, made, tmp_path)[name].value or "") == kept
    assert (f"{name} '{given}' is none" in caplog.text) == (not kept)


@each_output
def test_an_identifier_stays_as_it_is(output: str, tmp_path: Path) -> None:
    """Archives know a patient by these very characters, a forbidden backslash among them."""
    made = prediction(tmp_path, lambda header: setattr(header, "PatientID", "12\\34"))
    assert written(output, made, tmp_path).PatientID == ["12", "34"]


@each_output
@pytest.mark.parametrize("name", ["StudyInstanceUID", "SOPInstanceUID"])
def test_headers_without_identifiers_are_refused_by_name(output: str, name: str, tmp_path: Path) -> None:
    made = prediction(tmp_path, lambda header: delattr(header, name))
    with pytest.raises(Refusal, match=f"no {name} in the scan's headers"):
        written(output, made, tmp_path)


@each_output
def test_a_name_beyond_ascii_without_a_character_set_gets_one(output: str, tmp_path: Path) -> None:
    def undeclared(header: Any) -> None:
        del header.SpecificCharacterSet
        header.add_new("PatientName", "PN", "M\xfcller^J\xf6rg".encode("latin-1"))

    found = written(output, prediction(tmp_path, undeclared), tmp_path)
    assert found.PatientName == "Müller^Jörg" and found.SpecificCharacterSet == "ISO_IR 192"


def test_a_procedure_whose_code_is_not_sound_is_that_of_the_modality(tmp_path: Path) -> None:
    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "CTABD", "99HOSPITAL", "m" * 65
    made = prediction(tmp_path, lambda header: setattr(header, "ProcedureCodeSequence", [code]))
    assert "25045-6" in written("dicom_sr", made, tmp_path).to_json()


def test_how_it_came_about_is_told_in_full(tmp_path: Path) -> None:
    """A description of the equipment holds 1,024 characters; the account of many weights is longer."""
    made = prediction(tmp_path)
    account = objects.account(made)
    assert len(account) > objects.LONGEST_ST and account.endswith("check of the series: good")
    (segment,) = written("dicom_seg", made, tmp_path).SegmentSequence
    assert segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters == account
    (region,) = written("rtstruct", made, tmp_path).StructureSetROISequence
    assert region.ROIDerivationAlgorithmIdentificationSequence[0].AlgorithmParameters == account


def test_segments_of_a_case_with_a_long_name_can_be_told_apart(tmp_path: Path) -> None:
    made = prediction(tmp_path)
    long = Prediction("1.2." + "3" * 60, LABELS, made.target, scan=made.scan)
    names = {objects.tracking(long, label)[1] for label in LABELS.labels}
    assert len(names) == 2
    (segment,) = written("dicom_seg", long, tmp_path).SegmentSequence
    assert segment.TrackingID in names


def test_the_series_of_one_result_have_different_numbers() -> None:
    numbers = [plugins.find("outputs", name).Options().series_number for name in OUTPUTS]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("output", OUTPUTS)
class TestValidator:
    pytestmark = judges.needs("dciodvfy")

    def test_mended_headers_make_objects_without_an_error(self, output: str, tmp_path: Path) -> None:
        def spoilt(header: Any) -> None:
            header.PatientSex, header.StudyDate, header.PatientBirthDate = "MALE", "2004.01.19", "UNKNOWN"
            header.PatientAge = "ANONYMOUS"

        written(output, prediction(tmp_path, spoilt), tmp_path)
        assert judges.dciodvfy(tmp_path / "a.dcm") == []
