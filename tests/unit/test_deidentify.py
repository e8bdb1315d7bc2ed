"""One data set cleaned: nothing of what was planted is left, and what makes it an image is."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from medseg.dicom.deidentify import rules
from medseg.dicom.deidentify.clean import Terms, clean
from medseg.dicom.deidentify.rules import Private
from medseg.dicom.deidentify.secret import Secret
from medseg.refusal import Refusal
from tests import dicom_series

SECRET = Secret(bytes(range(32)))
PSEUDONYM, DAYS = "P0123456789ABCDEF", -400
TEXT, DAY, NUMBER, ROOT, BINARY = "ZQXA", "19831107", "7654321", "1.2.3.777", b"ZQXABINARY12345!"
DIAGNOSIS = "ZQXB"
"""Names nobody, so that only the removal of a whole sequence removes it."""
VALUES: dict[str, Any] = {
    **dict.fromkeys(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"), TEXT),
    "UR": f"http://{TEXT}",
    "AS": "077Y",
    "DA": DAY,
    "DT": f"{DAY}101112.345",
    "TM": "131719.515253",
    **dict.fromkeys(("DS", "IS"), NUMBER),
    **dict.fromkeys(("US", "SS", "UL", "SL", "FL", "FD"), 12321),
    **dict.fromkeys(("OB", "OW", "UN"), BINARY),
}
OF_PATIENT = [
    *("PatientSex", "PatientAge", "PatientSize", "PatientWeight", "EthnicGroup", "EthnicGroupCodeSequence"),
    *("SmokingStatus", "PregnancyStatus", "PatientSexNeutered", "SelectorASValue"),
]
"""What the option `patient` keeps, counted off in the standard's table."""


def terms(*kept: str, private: frozenset[Private] = frozenset()) -> Terms:
    return Terms(SECRET, frozenset(kept or rules.USUAL) - {"none"}, private, PSEUDONYM, DAYS)


def saved(dataset: Dataset) -> bytes:
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def cleaned(dataset: Dataset, *kept: str, private: frozenset[Private] = frozenset()) -> Dataset:
    """Written, read, cleaned, written, read: as files go."""
    read = pydicom.dcmread(io.BytesIO(saved(dataset)))
    clean(read, terms(*kept, private=private))
    return pydicom.dcmread(io.BytesIO(saved(read)))


def image(**more: Any) -> Dataset:
    return dicom_series.slice_([0, 0, 0], **more)


def plant(dataset: Dataset, leave: list[str]) -> int:
    """A marker in every attribute of the table; returns in how many."""
    count = 0
    for tag in rules.table():
        if tag >> 16 in (0x0000, 0x0002, 0x0004) or keyword_for_tag(tag) in leave:
            continue
        try:
            vr = dictionary_VR(tag)
        except KeyError:
            vr = "LO"
        count += 1
        if vr == "SQ":
            item = Dataset()
            item.PatientName, item.StudyDate, item.InstitutionAddress = TEXT, DAY, TEXT
            if keyword_for_tag(tag) not in ("ReferencedImageSequence", "SourceImageSequence"):
                item.CodeMeaning = DIAGNOSIS
            dataset.add(DataElement(tag, "SQ", [item]))
        else:
            value = f"{ROOT}.{count}" if vr == "UI" else VALUES[vr.split(" ")[0]]
            dataset.add(DataElement(tag, vr.split(" ")[0], value))
    for group in (0x5000, 0x5002, 0x6000, 0x601E):
        dataset.add(DataElement((group << 16) + 0x3000, "OW", BINARY))
    dataset.add(DataElement(0x60004000, "LT", TEXT))
    dataset.add(DataElement(0x60001500, "LO", DIAGNOSIS))
    dataset.add(DataElement(0x00190010, "LO", "SIEMENS MR HEADER"))
    dataset.add(DataElement(0x0019100C, "IS", "1000"))
    dataset.add(DataElement(0x0019100D, "CS", "ZQXA of no form"))
    dataset.add(DataElement(0x00191099, "LO", TEXT))
    dataset.add(DataElement(0x00290010, "LO", TEXT))
    dataset.add(DataElement(0x00291010, "OB", BINARY))
    dataset.add(DataElement(0x00291011, "SQ", [Dataset()]))
    dataset[0x00291011].value[0].PatientName = TEXT
    dataset.add(DataElement(0x0018FFF0, "UN", BINARY))  # a tag of the standard that no dictionary has
    return count


def every(dataset: Dataset) -> Iterator[DataElement]:
    for element in dataset:
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from every(item)


def marked(dataset: Dataset) -> list[str]:
    """What still holds a marker."""
    marks = (TEXT, DIAGNOSIS, DAY, NUMBER, ROOT, "12321", "131719", "077Y")
    return [
        f"{element.tag} {element.name}: {element.value!r}"
        for element in every(dataset)
        if element.VR != "SQ"
        and element.keyword != "PixelData"
        and (any(mark in str(element.value) for mark in marks) or (element.value == BINARY))
    ]


@pytest.mark.parametrize("kept", [("none",), rules.USUAL, ("dates",), ("private", "dates")], ids=str)
def test_nothing_planted_in_any_attribute_of_the_table_is_left_at_any_depth(kept: tuple[str, ...]) -> None:
    leave = OF_PATIENT if "patient" in kept else []
    dataset = image()
    planted = plant(dataset, leave)
    assert planted > 630
    inner, innermost = Dataset(), Dataset()
    plant(innermost, leave)
    plant(inner, leave)
    inner.ReferencedSeriesSequence = [innermost]
    dataset.ReferencedSeriesSequence = [inner]  # a sequence that is kept, and one in it
    dataset.SOPClassUID, dataset.Manufacturer = "1.2.840.10008.5.1.4.1.1.2", f"Works of {TEXT}"
    assert len(marked(dataset)) > 3 * planted * 0.9
    after = cleaned(dataset, *kept)
    left = marked(after)
    assert [line for line in left if "131719" not in line or "dates" not in kept] == []  # times of day stay with dates
    raw = saved(after)
    assert not any(mark in raw for mark in (TEXT.encode(), DAY.encode(), ROOT.encode(), BINARY))
    assert len(after.ReferencedSeriesSequence[0].ReferencedSeriesSequence[0]) > 100
    assert (0x0019100C in after) == ("private" in kept) and 0x0019100D not in after and 0x00290010 not in after


def test_what_the_option_for_patients_keeps_is_what_the_standard_says() -> None:
    by_table = [keyword_for_tag(tag) for tag, row in rules.table().items() if "patient" in row.options]
    assert sorted(filter(None, by_table)) == sorted(OF_PATIENT)


def test_an_image_stays_one() -> None:
    before = image(
        SeriesTime="101112.5", PatientWeight=70, PatientSex="F", KVP=120, BodyPartExamined="CHEST", Manufacturer="Works"
    )
    names = [element.keyword for element in before if element.keyword not in ("PatientID", "SeriesDescription")]
    before.AcquisitionContextSequence = [Dataset()]
    after = cleaned(before)
    changed = [name for name in names if before[name].value != after[name].value]
    assert changed == ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"]
    assert len(after.AcquisitionContextSequence) == 0  # emptied, because images have to have it
    assert after.PatientIdentityRemoved == "YES" and after.LongitudinalTemporalInformationModified == "MODIFIED"
    codes = [item.CodeValue for item in after.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113107", "113108", "113111"]
    assert after.PatientID == after.PatientName == PSEUDONYM


def test_device_institution_and_descriptors_stay_when_asked() -> None:
    stated = {
        "DeviceSerialNumber": "SN5",
        "InstitutionName": "North",
        "SeriesDescription": "t1 tra",
        "ContrastBolusAgent": "Gd",
        "PatientComments": "was here",
    }
    after = cleaned(image(**stated), "device", "institution", "descriptors")
    assert [after.get(name) for name in stated] == ["SN5", "North", "t1 tra", "Gd", None]
    after = cleaned(image(**stated))
    assert [after.get(name) for name in stated] == ["REMOVED", "REMOVED", None, "REMOVED", None]


@pytest.mark.parametrize("text", ["CT of Smithson", "see 4711-88", "t1 20240102", "SMITHSON, follow-up", "Dr. Welby"])
def test_a_description_that_tells_who_it_is_goes_even_when_descriptions_stay(text: str) -> None:
    who = {"PatientName": "Smithson^Al", "PatientID": "4711-88", "ReferringPhysicianName": "Welby^M"}
    after = cleaned(image(SeriesDescription=text, StudyDescription="Smithsonite t2 12", **who), "descriptors")
    assert after.SeriesDescription == "REMOVED" and after.StudyDescription == "Smithsonite t2 12"


@pytest.mark.parametrize(
    ("character_set", "name", "other"),
    [
        ("ISO_IR 100", "Müller^Jörg", "Schädel"),
        ("ISO_IR 144", "Розова^Анна", "Череп"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", "頭部"),
        ("ISO_IR 192", "王^小东", "头部"),
    ],
)
def test_names_in_any_character_set(character_set: Any, name: str, other: str) -> None:
    family = name.split("=")[min(1, name.count("="))].split("^")[0]
    before = image(SpecificCharacterSet=character_set, PatientName=name, SeriesDescription=f"of {family}")
    before.StudyDescription = other
    item = Dataset()
    item.PatientName = name
    before.ReferencedSeriesSequence = [item]
    after = cleaned(before, "descriptors")
    assert after.SeriesDescription == "REMOVED" and after.StudyDescription == before.StudyDescription
    assert after.ReferencedSeriesSequence[0].PatientName == PSEUDONYM
    raw = saved(after)
    assert all(word not in raw for part in name.split("=") for word in encoded(part.split("^")[0], character_set))


def encoded(word: str, character_set: Any) -> list[bytes]:
    python = {"ISO_IR 100": "latin-1", "ISO_IR 144": "iso8859_5", "ISO_IR 192": "utf-8"}
    return [
        word.encode(python.get(character_set, "iso2022_jp_2") if isinstance(character_set, str) else "iso2022_jp_2")
    ]


@pytest.mark.parametrize(
    ("name", "vr", "value"),
    [
        ("SliceThickness", "LO", "SMITHSON"),
        ("KVP", "UN", b"SMITHSON"),
        ("Rows", "LO", "SMITHSON"),
        ("SeriesTime", "LO", "SMITHSON"),
        ("ReferencedSeriesSequence", "LO", "SMITHSON"),
        ("BodyPartExamined", "SQ", []),
        ("CodingSchemeUID", "LO", "SMITHSON"),
        ("PatientWeight", "LO", "SMITHSON"),
        ("TimezoneOffsetFromUTC", "SH", "SMITHSON"),
        ("RadiopharmaceuticalStartDateTime", "LO", "SMITHSON"),
        ("AlgorithmParameters", "LT", "SMITHSON"),
        ("RetrieveURL", "UR", "http://SMITHSON"),
        ("EncryptedAttributesSequence", "SQ", []),
        ("DigitalSignaturesSequence", "SQ", []),
        ("ICCProfile", "LO", "SMITHSON"),
        ("HPGLDocument", "OB", b"SMITHSON"),
        ("EvaluatorName", "PN", "SMITHSON"),
        ("DateOfLastCalibration", "LO", ["20240101", "SMITHSON"]),
        ("RescaleType", "OB", b"SMITHSON"),
        ("Rows", "UN", b"SMITHSON"),
        ("Rows", "OB", b"SMITHSON"),
        ("Rows", "US", np.frombuffer(b"SMITHSON", "<u2").tolist()),
        ("LossyImageCompressionRatio", "FD", np.frombuffer(b"SMITHSON", "<f8").tolist()),
        ("FrameIncrementPointer", "OW", b"SMITHSON"),
        ("PixelPaddingValue", "OB", b"SMITHSON"),
    ],
)
def test_a_name_in_a_field_of_another_form_goes(monkeypatch, name: str, vr: str, value: Any) -> None:
    before = image()
    inside = Dataset()
    inside.add(DataElement("SegmentDescription", "ST", "SMITHSON"))
    with monkeypatch.context() as lenient:
        lenient.setattr(pydicom.config, "replace_un_with_known_vr", False)
        before.add(DataElement(name, vr, [inside] if vr == "SQ" else value))
    assert b"SMITHSON" in saved(before)
    after = cleaned(before)
    assert b"SMITHSON" not in saved(after) and "20" not in str(after.get("DateOfLastCalibration"))


def test_safe_private_attributes_stay_in_their_blocks() -> None:
    before = image()
    for tag, vr, value in (
        (0x70530010, "LO", "Somebody else"),
        (0x70530011, "LO", "Philips PET Private Group"),
        (0x70531000, "DS", "1.5"),  # in the block of somebody else
        (0x70531100, "DS", "0.000587"),
        (0x70531103, "LO", "file name"),
        (0x70531200, "DS", "3"),  # in a block that nobody reserved
        (0x70530001, "DS", "4"),
        (0x00090010, "LO", "GEMS_PETD_01"),
        (0x0009100D, "DT", "20240501101500.00"),
        (0x0009100E, "DT", "20240501101500.00"),
    ):
        before.add(DataElement(tag, vr, value))
    kept = [int(element.tag) for element in cleaned(before) if element.tag.is_private]
    assert kept == [0x00090010, 0x0009100D, 0x70530011, 0x70531100]
    assert cleaned(before)[0x0009100D].value == "20230328101500.00"
    assert not [element for element in cleaned(before, "none") if element.tag.is_private]


def test_private_attributes_of_the_users_list_stay(tmp_path: Path) -> None:
    listed = tmp_path / "private.csv"
    listed.write_text("group,creator,element\n0029,MY LAB,10\n0029,my lab,11\n")
    before = image()
    inside = Dataset()
    inside.PatientName, inside.Rows = "Smithson", 5
    before.add(DataElement(0x00290010, "LO", "MY LAB"))
    before.add(DataElement(0x00291010, "OB", b"anything"))
    before.add(DataElement(0x00291011, "SQ", [inside]))
    after = cleaned(before, private=rules.read_private(listed))
    assert after[0x00291010].value == b"anything"
    assert (after[0x00291011].value[0].PatientName, after[0x00291011].value[0].Rows) == (PSEUDONYM, 5)
    listed.write_text("tag\n00291010\n")
    with pytest.raises(Refusal, match="columns group"):
        rules.read_private(listed)


def test_ages_above_89_are_one_class() -> None:
    ages = ["089Y", "090Y", "101Y", "012M"]
    assert [cleaned(image(PatientAge=age)).PatientAge for age in ages] == ["089Y", "090Y", "090Y", "012M"]


def test_lengths_of_groups_padding_and_earlier_accounts_go() -> None:
    before = image(DeidentificationMethod="by Smithson")
    before.add(DataElement(0x00080000, "UL", 100))
    before.add(DataElement(0xFFFCFFFC, "OB", bytes(64)))
    after = cleaned(before)
    assert 0x00080000 not in after and 0xFFFCFFFC not in after and "Smithson" not in str(after)


def test_uids_of_the_standard_stay_and_unlisted_ones_do_not() -> None:
    before = image(FrameOfReferenceUID="1.2.840.10008.1.4.1.1", SOPInstanceUIDOfConcatenationSource=f"{ROOT}.5")
    before.IrradiationEventUID = [f"{ROOT}.1", f"{ROOT}.2"]
    after = cleaned(before)
    assert after.FrameOfReferenceUID == "1.2.840.10008.1.4.1.1"
    assert list(after.IrradiationEventUID) == [SECRET.uid(f"{ROOT}.1"), SECRET.uid(f"{ROOT}.2")]
    assert after.SOPInstanceUIDOfConcatenationSource == SECRET.uid(f"{ROOT}.5")


def test_a_made_up_uid_under_the_root_of_the_standard_goes() -> None:
    made_up = "1.2.840.10008.5.1.4.1.1.2.19830401.4711"
    assert cleaned(image(SOPInstanceUID=made_up)).SOPInstanceUID == SECRET.uid(made_up) != made_up


def test_numbers_as_the_dictionary_wants_them_stay() -> None:
    before = image(FrameIncrementPointer=[0x00540010, 0x00540020], PixelPaddingValue=5, SliceProgressionDirection="X")
    before.add(DataElement("VOILUTSequence", "SQ", [Dataset()]))
    before.VOILUTSequence[0].LUTDescriptor = [2, 0, 16]
    before.VOILUTSequence[0].add(DataElement("LUTData", "OW", b"abcd"))
    after = cleaned(before)
    assert list(after.FrameIncrementPointer) == [0x00540010, 0x00540020] and after.PixelPaddingValue == 5
    assert after.VOILUTSequence[0].LUTDescriptor == [2, 0, 16] and after.VOILUTSequence[0].LUTData == b"abcd"


def test_pixels_within_a_sequence_go() -> None:
    inside, before = Dataset(), image()
    inside.add(DataElement("PixelData", "OW", BINARY))
    before.ReferencedSeriesSequence = [inside]
    after = cleaned(before)
    assert "PixelData" not in after.ReferencedSeriesSequence[0] and after.PixelData == image().PixelData


def test_pixels_that_are_no_pixels_are_refused() -> None:
    before = image()
    before[0x7FE00010] = DataElement(0x7FE00010, "LT", "Smithson")
    read = pydicom.dcmread(io.BytesIO(saved(before)))
    with pytest.raises(Refusal, match="PixelData"):
        clean(read, terms())
