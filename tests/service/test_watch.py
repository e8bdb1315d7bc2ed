"""Watched folders: what is ready is taken once; what is no DICOM, or dangerous, stays where it is, unopened."""

from __future__ import annotations

import errno
import io
import logging
import zipfile
from pathlib import Path

import pytest
from sqlalchemy import update

from medseg.service import logs
from medseg.service.intake import program, watch
from medseg.service.intake.closing import Closing
from medseg.service.intake.watch import Watching
from medseg.service.journal import Journal
from medseg.service.journal.tables import arrivals
from tests.service.intake_sites import STUDY, image, save, site_in, store_in
from tests.service.test_closing import Clock


class Watched:
    def __init__(self, folder: Path, store, journal: Journal, **options: object):
        self.folder = folder / "in"
        self.folder.mkdir(exist_ok=True)
        self.clock, self.journal = Clock(), journal
        keep = options.pop("keep", {"free_gib": 0})
        site = site_in(folder, watch=[{"folder": "in", "quiet_s": 5, **options}], keep=keep)
        self.watching = Watching(site, store, journal, clock=self.clock)

    def after(self, seconds: float) -> int:
        self.clock.now += seconds
        return self.watching.step()


@pytest.fixture
def watched(tmp_path):
    journal = Journal(tmp_path / "journal.sqlite")
    with store_in(tmp_path, journal) as store:
        yield lambda **options: Watched(tmp_path, store, journal, **options)
    journal.close()


def test_a_file_is_taken_once_it_does_not_change(watched):
    made = watched()
    path = save(image(1), made.folder / "deep" / "no suffix")
    whole = path.read_bytes()
    path.write_bytes(whole[:300])
    assert [made.after(2), made.after(4)] == [0, 0]
    path.write_bytes(whole)
    assert [made.after(2), made.after(4), made.after(2)] == [0, 0, 1]
    assert [made.after(9), made.after(9)] == [0, 0] and path.read_bytes() == whole
    assert made.journal.arrivals.counts().received == 1
    save(image(1, SeriesDescription="mended"), path)
    assert [made.after(2), made.after(9)] == [0, 1] and made.journal.arrivals.counts().corrected == 1
    again = watched()  # after a restart
    assert [again.after(2), again.after(9)] == [0, 1] and again.journal.arrivals.counts().received == 2
    assert again.journal.arrivals.current(STUDY)[0].sender == "folder in"


def test_a_file_that_cannot_be_read_keeps_nobody_waiting(watched, monkeypatch):
    made = watched()
    save(image(1), made.folder / "bad.dcm")
    save(image(2), made.folder / "good.dcm")
    copy, broken = watch.shutil.copyfile, ["bad.dcm"]

    def on_a_bad_disk(path, place):
        if Path(path).name in broken:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return copy(path, place)

    monkeypatch.setattr(watch.shutil, "copyfile", on_a_bad_disk)
    assert [made.after(2), made.after(6)] == [0, 1]
    assert [made.after(6), made.after(6)] == [0, 0]
    broken.clear()
    assert made.after(6) == 1 and made.journal.arrivals.counts().received == 2


def test_a_file_of_a_study_that_is_just_removed_is_taken_later(watched):
    made = watched()
    save(image(1), made.folder / "a.dcm")
    assert [made.after(2), made.after(6)] == [0, 1]
    kept = {"yes": "going", "going": "no"}
    save(image(2), made.folder / "b.dcm")
    for taken, before in ((0, "yes"), (1, "going")):
        with made.journal.database.write() as connection:
            connection.execute(update(arrivals).where(arrivals.c.kept == before).values(kept=kept[before]))
        assert [made.after(2), made.after(6)] == [0, taken]


def test_folders_that_cannot_be_read_keep_no_study_from_being_closed(watched, tmp_path, monkeypatch, caplog):
    made = watched()
    save(image(1), made.folder / "a.dcm")
    assert [made.after(2), made.after(6)] == [0, 1]
    closing = Closing(site_in(tmp_path), made.journal)
    made.journal.arrivals.expect(STUDY, (), "upload")

    def fails() -> int:
        raise OSError(errno.EIO, "Input/output error", "/in/Mueller^Anna.dcm")

    monkeypatch.setattr(made.watching, "step", fails)
    assert not program._step(made.watching, closing)
    assert len(made.journal.jobs.find()) == 1
    assert "Mueller" not in "".join(logs.Lines().format(one) for one in caplog.records)


def test_files_go_if_they_are_to_but_only_those_that_were_taken(watched):
    made = watched(remove=True)
    good, other = save(image(1), made.folder / "a.dcm"), made.folder / "b.dcm"
    other.write_bytes(b"not DICOM")
    made.after(2)
    assert made.after(9) == 1 and not good.exists() and other.exists()
    save(image(1), good)
    made.after(2)
    assert made.after(9) == 1 and not good.exists() and made.journal.arrivals.counts().duplicates == 1


def test_what_is_no_dicom_or_leads_elsewhere_is_left_alone_and_said_once(watched, tmp_path, caplog):
    made = watched(remove=True)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb.dcm", bytes(128) + b"DICM" + bytes(2**25))
    (made.folder / "Meier^Anna.zip").write_bytes(packed.getvalue())
    (made.folder / ".hidden.dcm").write_bytes(save(image(2), tmp_path / "x").read_bytes())
    save(image(3, StudyInstanceUID="../../x"), made.folder / "Meier^Anna.dcm")
    outside = save(image(4), tmp_path / "outside.dcm")
    (made.folder / "link.dcm").symlink_to(outside)
    (made.folder / "loop").symlink_to(made.folder)
    before = sorted(made.folder.iterdir())
    with caplog.at_level(logging.INFO, logger="medseg"):
        assert [made.after(2), made.after(9), made.after(9), made.after(9)] == [0, 0, 0, 0]
    assert sorted(made.folder.iterdir()) == before and outside.exists()
    assert made.journal.arrivals.counts().received == 0
    said = [record for record in caplog.records if record.name.startswith("medseg")]
    assert [record.getMessage() for record in said] == ["left alone: refused", "left alone: no DICOM file"]
    assert not any("Meier" in str(record.__dict__) for record in said)


def test_without_room_files_wait(watched):
    made = watched(remove=True, keep={"free_gib": 1e9})
    path = save(image(1), made.folder / "a.dcm")
    assert [made.after(2), made.after(9), made.after(9)] == [0, 0, 0] and path.exists()
