"""When a study is whole, what becomes of it, and what becomes of slices that come later."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

from medseg.refusal import Refusal
from medseg.service.intake import closing as closings
from medseg.service.intake.closing import Closing
from medseg.service.journal import Journal
from medseg.service.journal.job import Identity, Job
from medseg.service.journal.objects import Received
from tests.service.intake_sites import STUDY, hand_in, image, site_in, store_in

BOTH = [f"{STUDY}.1.{number}" for number in (1, 2)]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def parts(tmp_path, request):
    """Journal, store, clock and closing with 10 s of quiet."""
    journal = Journal(tmp_path / "journal.sqlite")
    site = site_in(tmp_path, listen={"quiet_s": 10})
    clock, busy = Clock(), set[str]()
    with store_in(tmp_path, journal) as store:
        yield journal, store, clock, Closing(site, journal, clock=clock, busy=lambda: busy), busy
    journal.close()


def folder_of(job) -> dict[str, str]:
    """Of each file: its path in the job's folder -> what its series is called."""
    folder = Path(job.source["all"])
    return {str(path.relative_to(folder)): str(dcmread(path).SeriesDescription) for path in folder.rglob("*.dcm")}


def test_a_study_is_whole_when_nothing_has_come_for_a_while(parts):
    journal, store, clock, closing, busy = parts
    hand_in(store, image(1, AccessionNumber="A7", StudyDate="20261105", StudyDescription="CT <b>Abdomen"))
    assert closing.step() == 0
    clock.now += 9
    hand_in(store, image(2))
    assert closing.step() == 0
    clock.now += 9
    hand_in(store, image(2))  # known, but the sender is still at it
    assert closing.step() == 0
    clock.now += 9
    busy.add(STUDY)  # a large object is coming in
    assert closing.step() == 0
    clock.now += 9
    busy.clear()
    assert closing.step() == 0
    clock.now += 1.5
    assert closing.step() == 1 and closing.step() == 0 and not journal.arrivals.open()
    [job] = journal.jobs.find()
    assert (job.state, job.model, job.arrival) == ("received", "", 1) and job.case.startswith("study-")
    assert STUDY not in job.case
    assert job.identity == Identity(STUDY, "", "P1", "A7", "20261105", "CT <b>Abdomen", "CT")
    assert sorted(folder_of(job)) == [f"{STUDY}.1/{STUDY}.1.{n}.dcm" for n in (1, 2)]


@pytest.mark.parametrize("left", [b"", b"no DICOM"])
def test_a_file_that_the_disk_has_damaged_does_not_keep_its_study_open(left, parts, tmp_path):
    journal, store, clock, closing, _ = parts
    for number in (1, 2):
        hand_in(store, image(number))
    first, _ = journal.arrivals.current(STUDY)
    (tmp_path / "data" / first.path).write_bytes(left)
    closing.step()
    clock.now += 11
    assert closing.step() == 1 and journal.jobs.find()[0].identity.patient_id == "P1"


def test_a_study_whose_files_cannot_be_laid_out_keeps_no_other_open(parts, monkeypatch):
    journal, store, clock, closing, _ = parts
    for study in (STUDY, f"{STUDY}9"):
        hand_in(store, image(1, study=study))
    closing.step()
    clock.now += 11

    def lay(data: Path, objects: list[Received], folder: Path) -> int:
        if objects[0].study_uid == STUDY:
            raise PermissionError(13, "Permission denied")
        return lay_out(data, objects, folder)

    lay_out = closings.lay
    monkeypatch.setattr(closings, "lay", lay)
    with pytest.raises(PermissionError):
        closing.step()
    assert [job.identity.study_uid for job in journal.jobs.find()] == [f"{STUDY}9"]
    monkeypatch.setattr(closings, "lay", lay_out)
    assert closing.step() == 1


def test_after_a_restart_quiet_begins_anew(parts, tmp_path):
    journal, store, clock, closing, _ = parts
    hand_in(store, image(1))
    closing.step()
    clock.now += 9
    other = Closing(site_in(tmp_path, listen={"quiet_s": 10}), journal, clock=clock)
    assert other.step() == 0
    clock.now += 9
    assert other.step() == 0
    clock.now += 2
    assert other.step() == 1


def test_a_study_is_whole_at_once_when_all_that_was_announced_is_here(parts):
    journal, store, _, closing, _ = parts
    journal.arrivals.expect(STUDY, BOTH, "archive")
    assert closing.step() == 0 and journal.arrivals.open() == []
    hand_in(store, image(1))
    assert closing.step() == 0 and journal.arrivals.open()[0].expected == 2
    hand_in(store, image(2))
    assert closing.step() == 1
    journal.arrivals.expect(STUDY, BOTH, "archive")
    assert closing.step() == 0 and len(journal.jobs.find()) == 1


def test_what_was_announced_is_waited_for_however_long_it_is_quiet(parts):
    journal, store, clock, closing, _ = parts
    journal.arrivals.expect(STUDY, BOTH, "archive")
    hand_in(store, image(1))
    for _ in range(3):
        clock.now += 100
        assert closing.step() == 0
    journal.arrivals.expect(STUDY, (), "upload")  # somebody says that this is all
    assert closing.step() == 1
    journal.arrivals.expect(STUDY, BOTH, "archive")  # and the archive has more: the next revision is announced
    assert closing.step() == 0
    clock.now += 100
    assert closing.step() == 0
    hand_in(store, image(2))
    assert closing.step() == 1
    assert [len(folder_of(job)) for job in journal.jobs.find()] == [2, 1]


def test_late_and_corrected_slices_make_a_revision_of_all_objects(parts):
    journal, store, clock, closing, _ = parts
    for number in (1, 2):
        hand_in(store, image(number))
    closing.step()
    clock.now += 11
    closing.step()
    hand_in(store, image(1))
    clock.now += 11
    assert closing.step() == 0 and not journal.arrivals.open()  # nothing new in it
    hand_in(store, image(2, SeriesDescription="mended"))
    hand_in(store, image(3))
    closing.step()
    clock.now += 11
    assert closing.step() == 1
    second, first = journal.jobs.find()
    assert (first.arrival, second.arrival) == (1, 2) and first.digest != second.digest
    assert folder_of(first) == {f"{STUDY}.1/{STUDY}.1.{n}.dcm": "thorax" for n in (1, 2)}
    assert folder_of(second) == {
        f"{STUDY}.1/{STUDY}.1.1.dcm": "thorax",
        f"{STUDY}.1/{STUDY}.1.2.dcm": "mended",
        f"{STUDY}.1/{STUDY}.1.3.dcm": "thorax",
    }


def in_another_syntax(dataset: Dataset) -> Dataset:
    dataset.compress(RLELossless, generate_instance_uid=False)
    return dataset


def damaged(dataset: Dataset) -> Dataset:
    dataset.PixelData = encapsulate([b"\2\0\0\0" * 16])
    return dataset


def sent_twice(parts, *again: Dataset) -> list[Job]:
    """The jobs of two slices, and of what comes once these are closed."""
    journal, store, clock, closing, _ = parts
    for group in ([image(1), image(2)], again):
        for one in group:
            hand_in(store, one)
        closing.step()
        clock.now += 11
        closing.step()
        assert not journal.arrivals.open()
    return journal.jobs.find()


def test_a_study_that_comes_again_in_another_transfer_syntax_is_computed_once(parts):
    journal, store, *_ = parts
    again = [in_another_syntax(image(number)) for number in (1, 2)]
    [job] = sent_twice(parts, *again)
    assert "came again in another transfer syntax" in journal.jobs.events(job.id)[-1][1].what
    assert [hand_in(store, one).state for one in (image(1), again[1])] == ["duplicate", "duplicate"]
    assert not journal.arrivals.open() and journal.arrivals.counts().studies == 1
    hand_in(store, image(2, SliceThickness=4))
    assert journal.arrivals.open()[0].revision == 3


def test_a_late_repetition_in_another_transfer_syntax_does_not_undo_a_correction(parts):
    journal, store, clock, closing, _ = parts
    assert len(sent_twice(parts, image(1, PatientID="P2"), image(2, PatientID="P2"))) == 2
    known = journal.arrivals.current(STUDY)
    for patient in ("P1", "P2"):
        for number in (1, 2):
            assert hand_in(store, in_another_syntax(image(number, PatientID=patient))).state == "corrected"
        closing.step()
        clock.now += 11
        closing.step()
        assert len(journal.jobs.find()) == 2 and not journal.arrivals.open()
        assert journal.arrivals.current(STUDY) == known
    hand_in(store, image(3, PatientID="P2"))
    closing.step()
    clock.now += 11
    closing.step()
    files = Path(journal.jobs.find()[0].source["all"]).rglob("*.dcm")
    assert [dcmread(path).PatientID for path in files] == ["P2"] * 3


@pytest.mark.parametrize(
    "again",
    [
        lambda: [image(1), in_another_syntax(image(2, PatientID="P2"))],
        lambda: [in_another_syntax(image(1, PixelData=bytes(240))), in_another_syntax(image(2))],
        lambda: [in_another_syntax(image(1)), in_another_syntax(image(3))],
        lambda: [damaged(in_another_syntax(image(1)))],
    ],
    ids=["patient", "pixels", "one more", "damaged"],
)
def test_what_is_corrected_or_new_in_another_transfer_syntax_is_a_revision(again, parts, caplog):
    assert [job.arrival for job in sent_twice(parts, *again())] == [2, 1]
    assert "could not be compared" not in caplog.text


def test_versions_that_cannot_be_compared_are_taken_for_different(parts, monkeypatch, caplog):
    def alike(self: object, folder: Path, pairs: object) -> bool:
        raise Refusal(folder, found="no end", needed="one", remedy="wait", code="timeout")

    monkeypatch.setattr("medseg.service.reading.Reading.alike", alike)
    assert len(sent_twice(parts, in_another_syntax(image(1)))) == 2
    assert "could not be compared" in caplog.text and STUDY not in caplog.text


def test_what_comes_while_it_is_closed_is_not_lost(parts, monkeypatch):
    """Between the laying out of the files and the transaction: the study stays open, and is closed with it later."""
    from medseg.service.intake import closing as module

    journal, store, clock, closing, _ = parts
    hand_in(store, image(1))
    lay, late = module.lay, [image(2)]

    def slow(*parts) -> int:
        lost = lay(*parts)
        while late:
            hand_in(store, late.pop())
        return lost

    monkeypatch.setattr(module, "lay", slow)
    closing.step()
    clock.now += 11
    assert closing.step() == 0 and journal.jobs.find() == []
    assert closing.step() == 0
    clock.now += 11
    assert closing.step() == 1
    [job] = journal.jobs.find()
    assert len(folder_of(job)) == 2


def test_what_a_kill_left_half_laid_out_is_made_anew(parts, tmp_path):
    journal, store, clock, closing, _ = parts
    hand_in(store, image(1))
    hand_in(store, image(2))
    folder = tmp_path / "data" / "arrivals" / "1"
    (folder / f"{STUDY}.1").mkdir(parents=True)
    (folder / f"{STUDY}.1" / f"{STUDY}.1.1.dcm").write_bytes(b"half")
    (folder / "9.9").mkdir()
    (folder / "9.9" / "9.dcm").write_bytes(b"of another time")
    closing.step()
    clock.now += 11
    closing.step()
    [job] = journal.jobs.find()
    assert sorted(folder_of(job)) == [f"{STUDY}.1/{STUDY}.1.{n}.dcm" for n in (1, 2)]


def test_a_revision_of_which_objects_are_gone_fails_and_says_so(parts, tmp_path):
    journal, store, clock, closing, _ = parts
    hand_in(store, image(1))
    closing.step()
    clock.now += 11
    closing.step()
    os.remove(tmp_path / "data" / journal.arrivals.current(STUDY)[0].path)  # noqa: PTH107
    hand_in(store, image(2))
    closing.step()
    clock.now += 11
    assert closing.step() == 1
    job = journal.jobs.find()[0]
    assert (job.state, job.reason_code) == ("failed", "lost-input") and "1 of 2 objects" in job.reason
    with pytest.raises(Refusal, match="fetch the study"):  # what is left of it would pass for the study
        journal.jobs.retry(job.id, "me")
    assert journal.jobs.get(job.id).state == "failed"


def test_an_object_that_moved_to_another_series_is_in_one_place(parts):
    journal, store, clock, closing, _ = parts
    hand_in(store, image(1))
    hand_in(store, image(1, series="1.9"))
    closing.step()
    clock.now += 11
    closing.step()
    [job] = journal.jobs.find()
    assert list(folder_of(job)) == [f"1.9/{STUDY}.1.1.dcm"]


NO_INPUTS = [
    {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.33", "Modality": "SR"},
    {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4", "Modality": "SEG"},
    {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "Modality": "OT", "Manufacturer": "medseg"},
]


@pytest.mark.parametrize("about", NO_INPUTS, ids=["report", "segmentation", "own picture"])
def test_results_that_come_back_make_no_revision(parts, about):
    """Archives send all of a study; computed on again, results would make results without end."""
    journal, store, clock, closing, _ = parts
    hand_in(store, image(1))
    clock.now += 20
    assert [closing.step(), closing.step()] == [0, 0]
    clock.now += 20
    assert closing.step() == 1
    assert hand_in(store, image(900, series=f"{STUDY}.9", **about)).state == "new"
    assert hand_in(store, image(900, series=f"{STUDY}.9", **about)).state == "duplicate"
    assert journal.arrivals.open() == [] and len(journal.jobs.find()) == 1
    counts = journal.arrivals.counts()
    assert (counts.received, counts.duplicates, counts.open) == (3, 1, 0)
    hand_in(store, image(2))
    [opened] = journal.arrivals.open()
    assert opened.revision == 2


def test_a_report_alone_is_on_record(parts):
    journal, store, clock, closing, _ = parts
    hand_in(store, image(900, **NO_INPUTS[0]))
    closing.step()
    clock.now += 20
    closing.step()
    clock.now += 20
    closing.step()
    [job] = journal.jobs.find()
    assert job.state == "received" and len(folder_of(job)) == 1
