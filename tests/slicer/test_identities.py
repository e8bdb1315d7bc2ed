"""Who a training case is of: scans of one person never become two patients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medseg.labels import LabelTable
from MedSegLib import cases, identities
from MedSegLib.cases import Correction
from MedSegLib.trouble import Trouble
from tests import tiny
from tests.slicer import corrected
from tests.slicer.corrected import SHAPE, box, run_with, saved

MASKS = {"liver": box(slice(0, 2))}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / corrected.ODD


@pytest.fixture
def run(place: Path) -> Path:
    return run_with(place, LabelTable.of({"liver": 1}))


def people(place: Path) -> str:
    return (place / "data" / "patients.csv").read_text(encoding="utf-8")


def test_the_same_name_for_another_patient_is_refused(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1}))
    saved(place, run, {"liver": box(slice(0, 2))}, case="a", patient="p1")
    with pytest.raises(Trouble, match=r"case 'a' of another patient \(p1, not p2\)\. Give this case another name"):
        saved(place, run, {"liver": box(slice(0, 2))}, case="a", patient="p2")


def test_a_patient_id_is_told_by_what_stands_for_it(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1}))
    scan = corrected.scan(place / "CT.nrrd", np.zeros(SHAPE, np.int16))
    labels = corrected.segmentation(place / "l.seg.nrrd", {"liver": box(slice(0, 2))})
    correction = Correction([("CT", scan)], labels, case="a", identity="MÜLLER 1950")
    outcome, _ = corrected.ended(cases.saving(place / "data", correction, corrected.model(run)))
    assert outcome.facts["saved"].patient == identities.pseudonym(place / "data", "MÜLLER 1950")
    text = "".join(path.read_text("utf-8") for path in (place / "data").iterdir() if path.is_file())
    assert "1950" not in text and "LLER" not in text


def test_pseudonyms_tell_patients_apart_and_no_more(place: Path) -> None:
    data = place / "data"
    first = identities.pseudonym(data, "MÜLLER 1950")
    assert first == identities.pseudonym(data, " MÜLLER 1950 ") != identities.pseudonym(data, "MÜLLER 1951")
    assert first != identities.pseudonym(place / "other", "MÜLLER 1950")
    assert identities.pseudonym(data, " ") == "" and "LER" not in first


def test_people_of_a_folder_that_came_without_a_table(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1}))
    for kind in ("images", "labels"):
        tiny.nifti(place / "data" / kind / "old.nii.gz", np.zeros(SHAPE, np.uint8))
    done = saved(place, run, {"liver": box(slice(0, 2))}, case="new", patient="old")
    assert (done.cases, done.patients) == (2, 1)
    text = (place / "data" / "patients.csv").read_text(encoding="utf-8")
    assert text == "case,patient\nnew,old\nold,old\n"


def test_columns_of_a_table_of_patients_stay(place: Path) -> None:
    run = run_with(place, LabelTable.of({"liver": 1}))
    (place / "data").mkdir()
    (place / "data" / "patients.csv").write_text("case,patient,centre\nold,p,Ulm\n", encoding="utf-8")
    saved(place, run, {"liver": box(slice(0, 2))}, case="new", patient="p")
    text = (place / "data" / "patients.csv").read_text(encoding="utf-8")
    assert text == "case,patient,centre\nnew,p,\nold,p,Ulm\n"


@pytest.mark.parametrize(
    "table",
    [
        b"case;patient\na;P1\n",
        "case,patient\na,Jörg\n".encode("cp1252"),
        b"case,patient\na,P1\na,P2\n",
        b"case,patient\na,\n",
        b"case,patient\n,P1\n",
        b"case,patient\na,P1,Ulm\n",
    ],
    ids=["semicolons", "no UTF-8", "twice", "no patient", "no case", "a cell too many"],
)
def test_a_table_that_a_spreadsheet_has_spoilt_is_not_written_over(place: Path, run: Path, table: bytes) -> None:
    """What cannot be read of it would be lost."""
    saved(place, run, MASKS, case="a", patient="P1")
    (place / "data" / "patients.csv").write_bytes(table)
    with pytest.raises(Trouble, match=r"patients\.csv lacks .* with commas between the columns"):
        saved(place, run, MASKS, case="b", seed=1)
    assert (place / "data" / "patients.csv").read_bytes() == table
    (place / "data" / "patients.csv").write_bytes(b"\xef\xbb\xbfcase,patient\r\na,P1\r\n,\r\n")
    assert saved(place, run, MASKS, case="b", patient="P1", seed=1).patients == 1


def test_who_was_named_once_is_known_by_the_patient_id(place: Path, run: Path) -> None:
    saved(place, run, MASKS, case="a", patient="Anna", identity="4711")
    second = saved(place, run, MASKS, case="b", seed=1, identity="4711")
    again = saved(place, run, MASKS, case="a", identity="4711")
    other = saved(place, run, MASKS, case="c", seed=2, identity="4712")
    assert (second.patient, again.patient) == ("Anna", "Anna") and other.patient not in ("Anna", "c")
    assert (again.patients, other.patients) == (1, 2) and again.notes == ()


def test_the_patient_id_wins_over_another_name_which_is_told(place: Path, run: Path) -> None:
    saved(place, run, MASKS, case="a", identity="4711")
    first = identities.pseudonym(place / "data", "4711")
    second = saved(place, run, MASKS, case="b", seed=1, patient="Anna", identity="4711")
    assert (second.patient, second.patients) == (first, 1)
    assert second.notes == (f"Saved as one of {first}, not Anna: the data set has this Patient ID as {first}.",)


def test_an_id_that_is_learned_later_stays_with_the_name(place: Path, run: Path) -> None:
    saved(place, run, MASKS, case="a", patient="Anna")
    assert saved(place, run, MASKS, case="a", identity="4711").patient == "Anna"
    assert saved(place, run, MASKS, case="b", seed=1, identity="4711").patient == "Anna"


def test_a_patient_renamed_in_the_table_is_renamed_for_later_cases(place: Path, run: Path) -> None:
    saved(place, run, MASKS, case="a", patient="Anna", identity="4711")
    (place / "data" / "patients.csv").write_text(people(place).replace("Anna", "P01"), encoding="utf-8")
    assert saved(place, run, MASKS, case="b", seed=1, identity="4711").patient == "P01"


def test_a_case_that_others_are_named_after_keeps_its_patient(place: Path, run: Path) -> None:
    saved(place, run, MASKS, case="a")
    saved(place, run, MASKS, case="b", seed=1, patient="a")
    with pytest.raises(Trouble, match=r"case 'a' of another patient \(a, not Anna\).*correct the data set's patients"):
        saved(place, run, MASKS, case="a", patient="Anna")
    assert saved(place, run, MASKS, case="a", identity="4711").patient == "a"


def test_one_patient_id_of_two_patients_is_refused(place: Path, run: Path) -> None:
    saved(place, run, MASKS, case="a", identity="4711")
    saved(place, run, MASKS, case="b", seed=1, identity="4711")
    number = identities.pseudonym(place / "data", "4711")
    (place / "data" / "patients.csv").write_text(f"case,patient\na,P1\nb,{number}\n", encoding="utf-8")
    with pytest.raises(Trouble, match=rf"cases of one Patient ID as several patients \(P1, {number}\)"):
        saved(place, run, MASKS, case="c", seed=2, identity="4711")


def test_nothing_of_the_id_is_kept(place: Path, run: Path) -> None:
    saved(place, run, MASKS, case="a", patient="Anna", identity="MÜLLER 1950")
    texts = [path.read_text("utf-8") for path in (place / "data").iterdir() if path.is_file()]
    assert "1950" not in str(texts) and "LLER" not in str(texts)


def test_a_damaged_list_of_identities_is_told(place: Path, run: Path) -> None:
    (place / "data").mkdir()
    (place / "data" / ".identities").write_text("{", encoding="utf-8")
    with pytest.raises(Trouble, match=r"\.identities, which says what cases are of one person, is damaged"):
        saved(place, run, MASKS, case="a", identity="4711")
