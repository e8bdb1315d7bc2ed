"""Names and dates in texts: found however they are written, and not where there are none."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from medseg.dicom.deidentify import people
from medseg.dicom.deidentify.clean import DATE
from tests.unit.test_deidentify import cleaned, image


def found(text: str, **who: str) -> bool:
    dataset = Dataset()
    for name, value in who.items():
        setattr(dataset, name, value)
    return people.finder(dataset)(text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Smithson^Al", "t1_Smithson_fu"),
        ("Smithson^Al", "SMITHSON2"),
        ("Smithson^Al", "smithsonal"),
        ("Smithson^Al", "alsmithson t2"),
        ("Welby-Jones^M", "Dr. Jones"),
        ("Welby-Jones^M", "welby jones"),
        ("Welby-Jones^M", "WELBYJONES"),
        ("O'Brien^Pat", "obrien"),
        ("Müller^Jörg", "t2 Mueller"),
        ("Mueller^Jörg", "müller"),
        ("Müller^Jörg", "MULLER"),
        ("Strauß^A", "STRAUSS"),
        ("Zoé^A", "zoe"),
        ("王^小东", "头部王小东"),
        ("김^민수", "김민수님"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "頭部山田"),
    ],
)
def test_a_name_is_found_in_another_spelling(name: str, text: str) -> None:
    assert found(text, PatientName=name)


@pytest.mark.parametrize("text", ["4711-88", "471188", "x4711_88", "4711/88 fu", "no. 4711 88."])
def test_a_number_is_found_with_other_separators(text: str) -> None:
    assert found(text, PatientID="4711-88") and found(text, AccessionNumber="4711.88")


@pytest.mark.parametrize(
    ("who", "text"),
    [
        ({"PatientName": "Smithson^Al"}, "Smithsonite of al-Hambra"),
        ({"PatientName": "Mae^Sue"}, "120 mA su"),
        ({"PatientName": "王^小东"}, "王府"),
        ({"PatientID": "4711"}, "47112 14711"),
        ({"AccessionNumber": "2024-0001"}, "2024 t2"),
        ({"OperatorsName": "DCM"}, "DCM"),  # a coding scheme: all codes would be lost
        ({"PatientName": "^= "}, "anything"),
    ],
)
def test_a_name_is_not_found_within_others(who: dict[str, str], text: str) -> None:
    assert not found(text, **who)


@pytest.mark.parametrize("keyword", ["PatientID", "PatientBirthName", "EvaluatorName", "ReferringPhysicianName"])
def test_people_named_deep_inside_are_looked_for_everywhere(keyword: str) -> None:
    inner, outer, before = Dataset(), Dataset(), image(SeriesDescription="of WQX77")
    setattr(inner, keyword, "WQX77")
    outer.ReferencedSeriesSequence, before.OtherPatientIDsSequence = [inner], [outer]
    assert cleaned(before, "descriptors").SeriesDescription == "REMOVED"


def test_a_body_part_that_somebody_typed_is_a_text() -> None:
    parts = [cleaned(image(PatientName="Smithson^Al", BodyPartExamined=part)) for part in ("SMITHSON", "CHEST")]
    assert [after.BodyPartExamined for after in parts] == ["REMOVED", "CHEST"]


@pytest.mark.parametrize(
    "text",
    [
        *("born 1971-12-03", "3.12.1971", "12/03/71", "03_12_1971", "3 12 1971", "1971 12 03", "12.03.24"),
        *("12dec1971", "3. März 71", "Mar 3, 1971", "Oktober 2023", "05/2023", "2023-05"),
    ],
)
def test_a_date_in_a_description_goes_with_it(text: str) -> None:
    assert DATE.search(text) and cleaned(image(SeriesDescription=text), "descriptors").SeriesDescription == "REMOVED"


@pytest.mark.parametrize(
    "text",
    [
        *("ep2d_diff_0_50_800", "b 0 50 800", "0-50-1000", "V1.2.3", "T1 1.5/2.0", "5.0 x 5.0", "3D 1.25mm"),
        *("AbdRoutine 5.0 B40f 20", "t2_tse_dark-fluid_tra_320", "2 phases 30 sec", "1000/2000"),
    ],
)
def test_numbers_of_a_protocol_are_no_date(text: str) -> None:
    assert cleaned(image(SeriesDescription=text), "descriptors").SeriesDescription == text
