"""Folders through the command: what arrives, what stays behind, and what leads back."""

from __future__ import annotations

import csv
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian
from typer.testing import CliRunner

import medseg
from medseg.__main__ import application
from medseg.dicom import suv
from medseg.dicom.deidentify.secret import write_private
from medseg.refusal import Refusal
from tests import dicom_series
from tests.tiny import ENVIRONMENT
from tests.unit.test_deidentify import DAY, OF_PATIENT, ROOT, TEXT, marked, plant


def command(source: Path, out: Path, *more: str, key: Path | None = None) -> tuple[int, str]:
    if key is None:
        key = out.parent / "key"
        if not key.exists():
            write_private(key, "4d" * 32 + "\n")
    words = ["dicom", "deidentify", str(source), str(out), "--key", str(key), "--workers", "1"]
    done = CliRunner().invoke(application(), [*words, *more])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


def scan(folder: Path, *, patient: str = "4711", study: str = "1.2.3", day: str = "20240301", **more: Any) -> Path:
    """Three CT slices of a patient's study."""
    return dicom_series.series(
        folder,
        dicom_series.places(3),
        **{
            "PatientID": patient,
            "PatientName": f"Zqx{patient}^Ada",
            "StudyInstanceUID": study,
            "series": f"{study}.1",
            "StudyDate": day,
            "SeriesDate": day,
            "StudyTime": "101112",
            **more,
        },
    )


def files(out: Path) -> list[Path]:
    return sorted(path for path in out.rglob("*") if path.is_file())


def all_of(out: Path) -> list[Dataset]:
    return [pydicom.dcmread(path) for path in files(out)]


def test_a_series_lies_where_it_lay_and_is_named_by_its_pseudonym(tmp_path: Path) -> None:
    source = scan(tmp_path / "in" / "Zqx4711")
    code, told = command(tmp_path / "in", tmp_path / "out")
    assert code == 0 and "3 files of 1 patients cleaned, 0 left out, 0 failed" in told
    before, after = medseg.read(source), medseg.read(tmp_path / "out")
    np.testing.assert_array_equal(after.array, before.array)
    np.testing.assert_array_equal(after.affine, before.affine)
    for path, dataset in zip(files(tmp_path / "out"), all_of(tmp_path / "out"), strict=True):
        parts = path.relative_to(tmp_path / "out").parts
        assert parts == (
            dataset.PatientID,
            dataset.StudyInstanceUID,
            dataset.SeriesInstanceUID,
            f"{dataset.SOPInstanceUID}.dcm",
        )
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
        assert b"Zqx" not in path.read_bytes() and b"4711" not in path.read_bytes()


def test_the_head_of_a_file_is_new(tmp_path: Path) -> None:
    dataset = dicom_series.slice_([0, 0, 0])
    dataset.preamble = b"Zqx".ljust(128, b"Z")
    dataset.file_meta.SourceApplicationEntityTitle = "ZQXSOURCE"
    dataset.file_meta.SendingApplicationEntityTitle = "ZQXSENDER"
    dataset.file_meta.PrivateInformationCreatorUID, dataset.file_meta.PrivateInformation = "1.2.3", b"ZQX!"
    dicom_series.write(tmp_path / "in", [dataset])
    command(tmp_path / "in", tmp_path / "out")
    (path,) = files(tmp_path / "out")
    assert b"ZQX" not in path.read_bytes().upper() and path.read_bytes()[:128] == bytes(128)


def test_nothing_planted_is_left_in_files_or_names(tmp_path: Path) -> None:
    dataset, inner = dicom_series.slice_([0, 0, 0]), Dataset()
    plant(dataset, OF_PATIENT)
    plant(inner, OF_PATIENT)
    dataset.ReferencedSeriesSequence = [inner]
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
    dicom_series.write(tmp_path / "in" / TEXT, [dataset], prefix=TEXT)
    code, told = command(tmp_path / "in", tmp_path / "out", "--accept-burned-in")
    assert code == 0 and "1 files of 1 patients" in told
    (path,) = files(tmp_path / "out")
    assert not any(mark.encode() in path.read_bytes() for mark in (TEXT, DAY, ROOT)) and TEXT not in str(path)
    assert [line for line in marked(pydicom.dcmread(path)) if "131719" not in line] == []


def test_studies_of_a_patient_keep_their_distance_and_share_a_pseudonym(tmp_path: Path) -> None:
    scan(tmp_path / "in" / "a", study="1.2.3", day="20240227")
    scan(tmp_path / "in" / "b", study="1.2.4", day="20240301")
    scan(tmp_path / "in" / "c", study="1.2.5", day="20240301", patient="4712")
    command(tmp_path / "in", tmp_path / "out")
    found = {(one.PatientID, one.StudyDate, one.StudyTime) for one in all_of(tmp_path / "out")}
    one, other = sorted({name for name, _, _ in found}, key=lambda name: [each[0] for each in found].count(name))
    (alone,) = (day for name, day, _ in found if name == one)
    first, second = sorted(day for name, day, _ in found if name == other)
    assert np.datetime64(iso(second)) - np.datetime64(iso(first)) == 3 and alone not in (first, second)
    assert {time for _, _, time in found} == {"101112"} and "20240301" not in {day for _, day, _ in found}
    rows = list(csv.DictReader((tmp_path / "key.mapping.csv").open()))
    assert {(row["patient"], row["pseudonym"]) for row in rows} == {("4711", other), ("4712", one)}
    assert all(
        iso(second) == str(np.datetime64("2024-03-01") + int(row["days"])) for row in rows if row["study"] == "1.2.4"
    )


def iso(day: str) -> str:
    return f"{day[:4]}-{day[4:6]}-{day[6:]}"


def test_a_key_gives_the_same_again_and_another_key_does_not(tmp_path: Path) -> None:
    scan(tmp_path / "in")
    for out, key in (("one", "key"), ("two", "key"), ("three", "other")):  # made when they are first named
        command(tmp_path / "in", tmp_path / out, key=tmp_path / key)
    names = [[path.relative_to(tmp_path / out) for path in files(tmp_path / out)] for out in ("one", "two", "three")]
    assert names[0] == names[1] and not set(names[0]) & set(names[2])
    assert all(stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600 for name in ("key", "key.mapping.csv", "other"))
    assert [row["study"] for row in csv.DictReader((tmp_path / "key.mapping.csv").open())] == ["1.2.3"]


def test_a_segmentation_refers_to_its_scan_afterwards(tmp_path: Path) -> None:
    source = dicom_series.series(tmp_path / "in" / "ct", dicom_series.places(3), PatientID="4711")
    scan_ids = [str(pydicom.dcmread(path).SOPInstanceUID) for path in files(source)]
    segmentation = dicom_series.slice_([0, 0, 0], PatientID="4711", series="1.2.3.9", Modality="SEG")
    segmentation.SOPClassUID = segmentation.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
    referred, series = [Dataset() for _ in scan_ids], Dataset()
    for item, uid in zip(referred, scan_ids, strict=True):
        item.ReferencedSOPInstanceUID, item.ReferencedSOPClassUID = uid, "1.2.840.10008.5.1.4.1.1.2"
    series.ReferencedInstanceSequence, series.SeriesInstanceUID = referred, "1.2.3.4"
    segmentation.ReferencedSeriesSequence, segmentation.SourceImageSequence = [series], referred
    dicom_series.write(tmp_path / "in" / "seg", [segmentation])
    command(tmp_path / "in", tmp_path / "out")
    after = all_of(tmp_path / "out")
    (found,) = (one for one in after if one.Modality == "SEG")
    wanted = {str(one.SOPInstanceUID) for one in after if one.Modality == "CT"}
    assert {item.ReferencedSOPInstanceUID for item in found.SourceImageSequence} == wanted and len(wanted) == 3
    (inner,) = found.ReferencedSeriesSequence
    assert {item.ReferencedSOPInstanceUID for item in inner.ReferencedInstanceSequence} == wanted
    assert inner.SeriesInstanceUID == next(one.SeriesInstanceUID for one in after if one.Modality == "CT")
    assert found.StudyInstanceUID == after[0].StudyInstanceUID and found.PatientID == after[0].PatientID


def test_suv_stays(tmp_path: Path) -> None:
    drug = Dataset()
    drug.RadionuclideTotalDose, drug.RadionuclideHalfLife = 280e6, 6586.2
    drug.RadiopharmaceuticalStartTime, drug.RadiopharmaceuticalStartDateTime = "233000", "20240229233000.00"
    dataset = dicom_series.slice_(
        [0, 0, 0],
        SeriesDate="20240301",
        AcquisitionDate="20240301",
        SeriesTime="003000",
        AcquisitionTime="003000",
        FrameReferenceTime=0,
        ActualFrameDuration=120000,
        DecayCorrection="START",
        CorrectedImage=["DECY"],
        Units="BQML",
        PatientWeight=70,
        RadiopharmaceuticalInformationSequence=[drug],
    )
    dicom_series.write(tmp_path / "in", [dataset])
    command(tmp_path / "in", tmp_path / "out")
    (after,) = all_of(tmp_path / "out")
    assert after.SeriesDate != "20240301"
    assert suv.factor([suv.facts(after)]) == pytest.approx(suv.factor([suv.facts(dataset)]), rel=1e-12)


def test_what_cannot_be_cleaned_stays_behind_by_name(tmp_path: Path) -> None:
    source = scan(tmp_path / "in")
    report = dicom_series.slice_([0, 0, 0])
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
    shot = dicom_series.slice_([0, 0, 0], BurnedInAnnotation="YES", number=77)
    dicom_series.write(source, [report], prefix="report")
    dicom_series.write(source, [shot], prefix="shot")
    (source / "notes.txt").write_text("Zqx")
    shutil.copy(source / "IM0000.dcm", source / "copy.dcm")
    code, told = command(source, tmp_path / "out")
    assert code == 0 and len(files(tmp_path / "out")) == 3
    for part in (
        "report0000.dcm: a kind of object that cannot be cleaned by attributes: Comprehensive SR",
        "notes.txt",
    ):
        assert part in told
    assert "shot0000.dcm: pixels with burned-in text" in told and "the same SOPInstanceUID as" in told
    code, told = command(source, tmp_path / "all", "--accept-burned-in")
    assert len(files(tmp_path / "all")) == 4
    assert "copied although its pixels may show a name; look at it" in told


@pytest.mark.parametrize(
    "stated",
    [
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"},
        {"ConversionType": "SD"},
        {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]},
        {"PhotometricInterpretation": "RGB"},
    ],
    ids=str,
)
def test_pictures_that_may_show_a_name_are_left_out(tmp_path: Path, stated: dict[str, Any]) -> None:
    dicom_series.write(tmp_path / "in", [dicom_series.slice_([0, 0, 0], **stated)])
    assert "1 left out" in command(tmp_path / "in", tmp_path / "out")[1] and not files(tmp_path / "out")
    dicom_series.write(tmp_path / "in", [dicom_series.slice_([0, 0, 0], BurnedInAnnotation="NO", **stated)])
    assert "1 files" in command(tmp_path / "in", tmp_path / "out")[1]


@pytest.mark.parametrize(("group", "place", "gone"), [(0x6000, 12, 1), (0x601E, 15, 1), (0x6002, 0, 0)])
def test_overlays_in_unused_bits_of_the_pixels_are_left_out(tmp_path: Path, group: int, place: int, gone: int) -> None:
    dataset = dicom_series.slice_([0, 0, 0], BitsStored=12, HighBit=11, BurnedInAnnotation="NO")
    dataset.add_new((group << 16) + 0x0102, "US", place)
    dicom_series.write(tmp_path / "in", [dataset])
    code, told = command(tmp_path / "in", tmp_path / "out")
    assert code == 0 and f"{gone} left out" in told and ("overlay within the pixels" in told) is bool(gone)


def test_a_failing_file_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    source = dicom_series.series(tmp_path / "in", dicom_series.places(6))
    for name, cut in (("IM0001", 100), ("IM0002", None), ("IM0003", 252), ("IM0004", 255)):
        path = source / f"{name}.dcm"  # within the pixels, within the header, before the pixels, just before that
        path.write_bytes(path.read_bytes()[: -cut if cut else 300])
    code, told = command(source, tmp_path / "out")
    assert code == 1 and "2 files of 1 patients cleaned, 0 left out, 4 failed" in told
    assert all(f"IM000{number}.dcm: found" in told for number in (1, 2, 3, 4)) and "Traceback" not in told
    assert {one.InstanceNumber for one in all_of(tmp_path / "out")} == {1, 6}


def test_two_people_under_one_number_are_not_mixed(tmp_path: Path) -> None:
    scan(tmp_path / "in" / "a", PatientBirthDate="19700101")
    scan(tmp_path / "in" / "b", study="1.2.4", PatientBirthDate="19810101")
    scan(tmp_path / "in" / "c", study="1.2.5", patient="4712")
    code, told = command(tmp_path / "in", tmp_path / "out")
    assert code == 1 and "6 failed" in told and "a PatientID that two people have, by their dates of birth" in told
    assert len(files(tmp_path / "out")) == 3


def test_files_without_a_number_are_told_apart_by_name_or_study(tmp_path: Path) -> None:
    scan(tmp_path / "in" / "a", patient="", study="1.2.3", PatientName="")
    scan(tmp_path / "in" / "b", patient="", study="1.2.4", PatientName="")
    scan(tmp_path / "in" / "c", patient="", study="1.2.5", PatientName="Zqx")
    scan(tmp_path / "in" / "d", patient="", study="1.2.6", PatientName="Zqx")
    command(tmp_path / "in", tmp_path / "out")
    assert len({one.PatientID for one in all_of(tmp_path / "out")}) == 3


def test_the_users_own_pseudonyms(tmp_path: Path) -> None:
    table = tmp_path / "names.csv"
    table.write_text("\ufeffpatient_id;pseudonym\n4711;trial-001\n", encoding="utf-8")  # as spreadsheets write it
    scan(tmp_path / "in" / "a")
    scan(tmp_path / "in" / "b", patient="4712", study="1.2.4")
    code, told = command(tmp_path / "in", tmp_path / "out", "--pseudonyms", str(table))
    assert code == 1 and told.count("not in the table of pseudonyms") == 3
    assert {one.PatientID for one in all_of(tmp_path / "out")} == {"trial-001"}
    for bad in (
        "4711,../../up",
        "4711,4711",
        "4711,4712\n4712,4711",
        "4711,a\n4712,a",
        "4711,a\n4712,A",
        "4711,a\n4711,b",
    ):
        table.write_text(f"patient_id,pseudonym\n{bad}\n")
        with pytest.raises(Refusal) as refused:
            command(tmp_path / "in", tmp_path / "out", "--pseudonyms", str(table))
        assert refused.value.where == str(table)
    table.write_text("patient,pseudonym\n4711,a\n")
    with pytest.raises(Refusal, match="needed also patient_id"):
        command(tmp_path / "in", tmp_path / "out", "--pseudonyms", str(table))


def test_a_dry_run_counts_and_writes_nothing(tmp_path: Path) -> None:
    scan(tmp_path / "in", InstitutionName="North")
    code, told = command(tmp_path / "in", tmp_path / "out", "--dry-run", key=tmp_path / "key")
    assert code == 0 and sorted(path.name for path in tmp_path.iterdir()) == ["in"]
    rows = {tuple(cell.strip() for cell in line.strip("│ ").split("│")) for line in told.splitlines() if "│" in line}
    assert {("InstitutionName", "replaced", "3"), ("StudyDate", "shifted", "3")} <= rows


@pytest.mark.parametrize("place", ["key", "--mapping"])
def test_what_leads_back_never_lies_among_the_cleaned(tmp_path: Path, place: str) -> None:
    scan(tmp_path / "in")
    inside = tmp_path / "out" / "deep" / "x"
    more = [] if place == "key" else [place, str(inside)]
    with pytest.raises(Refusal, match="among the cleaned"):
        command(tmp_path / "in", tmp_path / "out", *more, key=inside if place == "key" else None)
    for out in (tmp_path / "in" / "out", tmp_path):
        with pytest.raises(Refusal):
            command(tmp_path / "in", out, key=tmp_path.parent / f"{tmp_path.name}-key")


def test_keys_that_others_can_read_or_that_are_none_are_refused(tmp_path: Path) -> None:
    scan(tmp_path / "in")
    key = tmp_path / "key"
    command(tmp_path / "in", tmp_path / "out")
    os.chmod(key, 0o644)  # noqa: PTH101
    with pytest.raises(Refusal, match="others"):
        command(tmp_path / "in", tmp_path / "out")
    os.chmod(key, 0o600)  # noqa: PTH101
    key.write_text("my secret")
    with pytest.raises(Refusal, match="no key"):
        command(tmp_path / "in", tmp_path / "out")


def test_a_mapping_made_with_another_key_is_not_mixed_with(tmp_path: Path) -> None:
    scan(tmp_path / "in")
    mapping = ["--mapping", str(tmp_path / "map.csv")]
    command(tmp_path / "in", tmp_path / "out", *mapping)
    with pytest.raises(Refusal, match="other pseudonyms"):
        command(tmp_path / "in", tmp_path / "out2", *mapping, key=tmp_path / "other")


def test_unknown_words_for_what_to_keep_are_answered_with_the_nearest(tmp_path: Path) -> None:
    scan(tmp_path / "in")
    with pytest.raises(Refusal, match="did you mean 'descriptors'"):
        command(tmp_path / "in", tmp_path / "out", "--keep", "dates,descriptor")


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_RLE.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "MR_small_jp2klossless.dcm",
        "image_dfl.dcm",
    ],
)
def test_pixels_of_any_transfer_syntax_stay_bit_for_bit(tmp_path: Path, name: str) -> None:
    original = Path(str(get_testdata_file(name, download=False)))
    (tmp_path / "in").mkdir()
    shutil.copy(original, tmp_path / "in" / "x")
    command(tmp_path / "in", tmp_path / "out", "--accept-burned-in")
    (after,), before = all_of(tmp_path / "out"), pydicom.dcmread(original)
    assert after.PixelData == before.PixelData
    assert after.file_meta.TransferSyntaxUID == before.file_meta.TransferSyntaxUID


def test_several_processes_do_what_one_does(tmp_path: Path) -> None:
    scan(tmp_path / "in")
    command(tmp_path / "in", tmp_path / "one")
    words = [str(tmp_path / "in"), str(tmp_path / "two"), "--key", str(tmp_path / "key"), "--workers", "2"]
    subprocess.run([sys.executable, "-m", "medseg", "dicom", "deidentify", *words], env=ENVIRONMENT, check=True)
    assert [path.read_bytes() for path in files(tmp_path / "one")] == [
        path.read_bytes() for path in files(tmp_path / "two")
    ]


def test_deflated_files_are_cleaned_and_bombs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    small, bomb = (dicom_series.slice_((0, 0, z), PatientID="4711") for z in (0, 3))
    bomb.PixelData = bytes(2**27)
    for name, dataset in (("small", small), ("bomb", bomb)):
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        dataset.save_as(tmp_path / "in" / name, enforce_file_format=True)
    code, told = command(tmp_path / "in", tmp_path / "out")
    assert code == 1 and "bomb: found a header that claims" in " ".join(told.split())
    (cleaned,) = all_of(tmp_path / "out")
    assert cleaned.PixelData == small.PixelData and cleaned.PatientID != "4711"
