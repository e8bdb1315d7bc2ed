"""Several runs, odd folders, doubtful patients: nobody is mixed up, nothing is passed over, nothing is overwritten."""

from __future__ import annotations

import errno
from pathlib import Path

import pydicom
import pytest

from medseg.refusal import Refusal
from tests.unit.test_deidentify_folders import command, files, scan


@pytest.mark.parametrize("place", ["out/old.dcm", "out/P1/2.25.1/x.dcm", "out/.hidden"])
def test_a_folder_with_files_of_unknown_origin_is_refused(tmp_path: Path, place: str) -> None:
    scan(tmp_path / "in")
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_bytes(b"Zqx4711")
    with pytest.raises(Refusal, match="no run with this mapping"):
        command(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "key.mapping.csv").exists()


def test_a_second_run_fills_the_same_folder_and_takes_away_what_an_interrupted_one_left(tmp_path: Path) -> None:
    scan(tmp_path / "in1")
    scan(tmp_path / "in2", study="1.2.4", patient="4712")
    command(tmp_path / "in1", tmp_path / "out")
    once = files(tmp_path / "out")
    once[0].with_name(f".partial-12345678-{once[0].name}").write_bytes(b"half")
    assert command(tmp_path / "in1", tmp_path / "out")[0] == 0 and files(tmp_path / "out") == once
    assert command(tmp_path / "in2", tmp_path / "out")[0] == 0 and len(files(tmp_path / "out")) == 6
    with pytest.raises(Refusal, match="no run with this mapping"):  # two keys in one folder: two receivers' data
        command(tmp_path / "in1", tmp_path / "out", key=tmp_path / "other")


@pytest.mark.parametrize("content", ["", "my only list of patients\n", "patient_id,pseudonym\n4711,a\n"])
def test_a_file_that_is_no_mapping_is_not_overwritten(tmp_path: Path, content: str) -> None:
    scan(tmp_path / "in")
    (tmp_path / "list.csv").write_text(content)
    with pytest.raises(Refusal, match="mapping of an earlier run"):
        command(tmp_path / "in", tmp_path / "out", "--mapping", str(tmp_path / "list.csv"))
    assert (tmp_path / "list.csv").read_text() == content and not (tmp_path / "out").exists()


def test_the_key_is_not_overwritten_by_the_mapping(tmp_path: Path) -> None:
    scan(tmp_path / "in")
    with pytest.raises(Refusal, match="mapping of an earlier run"):
        command(tmp_path / "in", tmp_path / "out", "--mapping", str(tmp_path / "k"), key=tmp_path / "k")
    assert len((tmp_path / "k").read_text().strip()) == 64


def test_folders_behind_links_are_entered_once_and_links_to_nowhere_are_named(tmp_path: Path) -> None:
    scan(tmp_path / "disk" / "a")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b").symlink_to(tmp_path / "disk")
    (tmp_path / "in" / "c").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "d").symlink_to(tmp_path / "nowhere")
    code, told = command(tmp_path / "in", tmp_path / "out")
    assert code == 1 and "3 files of 1 patients cleaned, 0 left out, 1 failed" in told
    assert f"failed: {tmp_path / 'in' / 'd'}: found FileNotFoundError" in told


def test_a_folder_that_may_not_be_read_stops_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan(tmp_path / "in" / "a")
    (tmp_path / "in" / "locked").mkdir()
    listed = Path.iterdir

    def locked(self: Path) -> object:
        if self.name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return listed(self)

    monkeypatch.setattr(Path, "iterdir", locked)
    with pytest.raises(Refusal, match="Permission denied") as refused:
        command(tmp_path / "in", tmp_path / "out")
    assert refused.value.where == str(tmp_path / "in" / "locked") and not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    scan(tmp_path / "in")
    (tmp_path / "out").write_text("mine")
    with pytest.raises(Refusal, match="a folder, or the name"):
        command(tmp_path / "in", tmp_path / "out")


def test_a_full_disk_is_not_the_files_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan(tmp_path / "in")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pydicom.Dataset, "save_as", full)
    with pytest.raises(OSError, match="No space left"):
        command(tmp_path / "in", tmp_path / "out")
    assert files(tmp_path / "out") == []


NAMES = ("Zqx^Ada", "Other^Bob")


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        ({"PatientName": NAMES[0]}, {"PatientName": NAMES[1]}, "names"),
        ({"PatientName": NAMES[0], "PatientBirthDate": "19700101"}, {"PatientName": NAMES[1]}, "names"),
        ({"IssuerOfPatientID": "A"}, {"IssuerOfPatientID": "B"}, "issuers"),
        ({"PatientName": NAMES[0]}, {"PatientName": "ZQX-MAYER^A"}, ""),
        ({"PatientName": NAMES[0]}, {"PatientName": ""}, ""),
        (
            {"PatientName": NAMES[0], "PatientBirthDate": "19700101"},
            {"PatientName": NAMES[1], "PatientBirthDate": "19700101"},
            "",
        ),
    ],
)
def test_two_people_of_one_number_are_told_apart(
    tmp_path: Path, first: dict[str, str], second: dict[str, str], what: str
) -> None:
    scan(tmp_path / "in" / "a", **first)
    scan(tmp_path / "in" / "b", study="1.2.4", **second)
    code, told = command(tmp_path / "in", tmp_path / "out")
    assert (code, told.count(f"two people have, by their {what}")) == ((1, 6) if what else (0, 0))


def test_a_number_that_came_to_somebody_else_since_the_last_run(tmp_path: Path) -> None:
    scan(tmp_path / "in1", PatientBirthDate="19700101")
    scan(tmp_path / "in2", study="1.2.4", PatientBirthDate="19810101")
    command(tmp_path / "in1", tmp_path / "out")
    code, told = command(tmp_path / "in2", tmp_path / "out")
    assert code == 1 and told.count("by their dates of birth") == 3 and len(files(tmp_path / "out")) == 3
    code, _ = command(tmp_path / "in2", tmp_path / "apart", key=tmp_path / "other")
    assert code == 0 and {path.parts[-4] for path in files(tmp_path / "apart")}.isdisjoint(
        path.parts[-4] for path in files(tmp_path / "out")
    )


def test_a_series_is_not_torn_between_a_patient_and_nobody(tmp_path: Path) -> None:
    source = scan(tmp_path / "in" / "a")
    scan(tmp_path / "in" / "b", patient="4712", study="1.2.4")
    path = source / "IM0001.dcm"
    dataset = pydicom.dcmread(path)
    dataset.PatientID = ""
    dataset.save_as(path)
    code, told = command(tmp_path / "in", tmp_path / "out")
    assert code == 1 and told.count("of two patients, or of one and of nobody") == 3
    assert len(files(tmp_path / "out")) == 3


def test_a_file_that_a_study_gets_later_without_a_number_is_not_given_to_nobody(tmp_path: Path) -> None:
    scan(tmp_path / "in1")
    scan(tmp_path / "in2", patient="", series="1.2.3.2")
    command(tmp_path / "in1", tmp_path / "out")
    code, told = command(tmp_path / "in2", tmp_path / "out")
    assert code == 1 and told.count("of two patients, or of one and of nobody") == 3
