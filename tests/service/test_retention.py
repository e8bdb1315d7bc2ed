"""What is removed from an installation, and what never is, whatever happens and whatever the clock says."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import filelock
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select, update

from medseg.refusal import Refusal
from medseg.service.intake.closing import Closing
from medseg.service.journal import Journal
from medseg.service.journal.job import Asked, Identity, Job
from medseg.service.journal.keeping import DAY_S, WELL, Keeping
from medseg.service.journal.states import ENDS, State
from medseg.service.journal.tables import arrivals, jobs, objects
from medseg.service.operations import retention
from medseg.service.settings.keep import Keep
from medseg.service.settings.site import Site
from tests.service.intake_sites import hand_in, image, site_in, store_in
from tests.tiny import medseg_command

SIZE = 1000
KEEP = Keep(studies_days=7, results_days=30, failed_days=90)
GIB = 2**30


@dataclass
class Place:
    """An installation with studies in it, of which the test says how they ended."""

    folder: Path
    journal: Journal
    keep: Keep = KEEP
    files: dict[str, list[Path]] = field(default_factory=dict)

    @property
    def site(self) -> Site:
        return Site(folder=self.folder, keep=self.keep)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def revision(self, uid: str, *, state: str = "closed", count: int = 2) -> int:
        """A revision of a study with files of its own, and links to all of the study's files."""
        with self.journal.database.write() as connection:
            number = len(connection.execute(select(arrivals).where(arrivals.c.study_uid == uid)).all()) + 1
            values = {"study_uid": uid, "revision": number, "state": state, "sender": "CT", "expected": 0}
            made = connection.execute(insert(arrivals).values(**values, changed_at=0.0)).inserted_primary_key[0]
            for each in range(count):
                path = self.data / "objects" / uid / f"{made}-{each}.dcm"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(os.urandom(SIZE))
                self.files.setdefault(uid, []).append(path)
                row = {"study_uid": uid, "series_uid": uid, "sop_uid": f"{uid}.{made}.{each}", "sop_class": "CT"}
                row |= {"sha256": "", "bytes": SIZE, "path": str(path.relative_to(self.data)), "arrival": made}
                rest = {"sender": "CT", "times": 1, "current": True, "input": True, "received_at": 0.0}
                connection.execute(insert(objects).values(**row, **rest))
        for path in self.files[uid] if state == "closed" else ():
            link = self.data / "arrivals" / str(made) / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.hardlink_to(path)
        return made

    def job(self, arrival: int, uid: str, state: State, *, send: tuple[str, ...] = (), confirmed: bool = True) -> Job:
        """A job of a revision in a state, with results where it has come so far."""
        out = self.data / "results" / f"{uid}-{arrival}"
        source = {"all": str(self.data / "arrivals" / str(arrival))}
        asked = Asked(
            source, f"{uid} {arrival}", uid, "m", receivers=send, out=str(out), arrival=arrival, identity=Identity(uid)
        )
        job, _ = self.journal.jobs.submit(asked, who="CT")
        files = {}
        if state in ("written", "proven", "held", "sent", "done"):
            out.mkdir(parents=True, exist_ok=True)
            (out / "a.dcm").write_bytes(os.urandom(SIZE))
            files = {"a.dcm": "00"}
        self.set(job, state=state, files=files)
        for one in self.journal.deliveries.of(job.id):
            self.journal.deliveries.tell(one.id, "confirmed" if confirmed and state == "done" else "waiting")
        return self.journal.jobs.get(job.id)

    def study(self, uid: str, state: State, **words: object) -> Job:
        return self.job(self.revision(uid), uid, state, **words)

    def set(self, job: Job, **values: object) -> None:
        with self.journal.database.write() as connection:
            connection.execute(update(jobs).where(jobs.c.id == job.id).values(**values, changed_at=time.time()))

    def tidy(self, age_days: float) -> retention.Tidied:
        return retention.tidy(self.site, self.journal, age=age_days * DAY_S)

    def here(self, uid: str) -> bool:
        """Whether all objects of a study are there; never a part of them."""
        found = {path.exists() for path in self.files[uid]}
        assert len(found) == 1
        return found.pop()

    def results(self, job: Job) -> bool:
        return Path(job.out, "a.dcm").exists()


@pytest.fixture
def place(tmp_path, journal) -> Place:
    return Place(tmp_path, journal)


def test_a_study_goes_before_its_results_and_the_rows_stay(place):
    job = place.study("1.2", "done", send=("pacs",))
    place.tidy(100)  # seen for the first time
    place.tidy(106.9)
    assert place.here("1.2") and place.results(job)
    gone = place.tidy(107)
    assert [(one.leaving.kind, one.why) for one in gone.going] == [("study", "age")]
    assert not place.here("1.2") and not (place.data / "arrivals" / "1").exists() and place.results(job)
    assert not (place.data / "objects" / "1.2").exists()
    place.tidy(129.9)
    assert place.results(job)
    place.tidy(130)
    assert not Path(job.out).exists()
    after = place.journal.jobs.get(job.id)
    assert (after.state, after.kept, after.files) == ("done", "no", {"a.dcm": "00"})
    said = [event.what for _, event in place.journal.jobs.events(job.id)]
    assert said[-2:] == ["its received objects are removed", "its results are removed"]
    assert place.tidy(999).judged == ()


def test_what_was_not_confirmed_stays_for_ever(place):
    job = place.study("1.2", "done", send=("pacs",), confirmed=False)
    refused = place.study("1.3", "failed", send=("pacs",))
    place.set(refused, files={"a.dcm": "00"})
    Path(refused.out).mkdir(parents=True)
    Path(refused.out, "a.dcm").write_bytes(b"x")
    for age in (0, 1000, 2000):
        place.tidy(age)
    assert place.results(job) and place.results(refused)


def test_what_ended_badly_is_kept_longer_and_what_goes_on_stays(place):
    ended = {state: place.study(f"1.{number}", state) for number, state in enumerate(("failed", "unmatched", "held"))}
    goes_on = ("received", "queued", "running", "written", "proven", "sent")
    working = {state: place.study(f"2.{number}", state) for number, state in enumerate(goes_on)}
    place.tidy(0)
    place.tidy(89)
    assert all(place.here(job.identity.study_uid) for job in ended.values())
    place.tidy(90)
    assert not any(place.here(job.identity.study_uid) for job in ended.values())
    assert all(place.here(job.identity.study_uid) for job in working.values())
    assert place.results(ended["held"]) and place.results(working["proven"])  # a person's word is waited for


def test_revisions_of_a_study_go_together(place):
    first = place.study("1.2", "superseded")
    second = place.revision("1.2", state="open")
    place.tidy(0)
    place.tidy(100)
    assert place.here("1.2")  # the open revision is made of the objects of the first one, too
    with place.journal.database.write() as connection:
        connection.execute(update(arrivals).where(arrivals.c.id == second).values(state="closed"))
    place.job(second, "1.2", "running")
    place.tidy(200)
    place.tidy(300)
    assert place.here("1.2") and first.id


def test_a_job_of_somebody_else_that_reads_a_study_holds_it(place):
    done = place.study("1.2", "done")
    asked = Asked({"all": done.source["all"]}, "x", "again", "other-model", out=str(place.data / "results" / "again"))
    again, _ = place.journal.jobs.submit(asked, who="me")
    place.tidy(0)
    place.tidy(100)
    assert place.here("1.2")
    place.journal.jobs.cancel(again.id, "me")
    place.tidy(100)
    place.tidy(108)
    assert not place.here("1.2")


def test_a_failed_job_can_be_tried_again_while_its_study_is_there(place):
    job = place.study("1.2", "failed")
    place.tidy(0)
    assert place.journal.jobs.retry(job.id, "me") == "queued"
    place.tidy(100)
    assert place.here("1.2")
    place.set(job, state="failed")
    place.tidy(150)  # seen anew: the old mark counts no more
    assert place.here("1.2")
    place.tidy(240)
    assert not place.here("1.2")
    with pytest.raises(Refusal, match="fetch the study") as refusal:
        place.journal.jobs.retry(job.id, "me")
    assert refusal.value.code == "lost-input"


def test_a_revision_without_a_job_does_not_keep_its_study(place):
    place.study("1.2", "done")
    with place.journal.database.write() as connection:
        first = connection.execute(select(arrivals)).one()._asdict()
        connection.execute(insert(arrivals).values(first | {"id": first["id"] + 1, "revision": 2}))
    place.tidy(0)
    place.tidy(7)
    assert not place.here("1.2")


def test_what_changes_between_looking_and_removing_stays(place):
    job = place.study("1.2", "failed")
    place.tidy(0)
    (seen,) = [one for one in place.journal.keeping.leaving() if one.kind == "study"]
    place.journal.jobs.retry(job.id, "me")
    assert not place.journal.keeping.let_go(seen, "housekeeper")
    assert place.here("1.2") and place.journal.keeping.going() == []


def test_what_is_being_removed_is_not_begun_again(place):
    job = place.study("1.2", "failed")
    (seen,) = [one for one in place.journal.keeping.leaving() if one.kind == "study"]
    assert place.journal.keeping.let_go(seen, "housekeeper")  # and then a power cut
    with pytest.raises(Refusal, match="were removed"):
        place.journal.jobs.retry(job.id, "me")
    place.tidy(0)
    assert not place.here("1.2")


def test_a_study_that_a_job_works_on_stays_wherever_it_reads(place):
    job = place.study("1.2", "running")
    place.set(job, source={"all": "/elsewhere"})
    place.tidy(0)
    place.tidy(100)
    assert place.here("1.2")


def test_a_study_that_is_sent_again_once_it_was_removed_is_a_new_revision_and_goes_again(place):
    job = place.study("1.2", "done")
    with place.journal.database.write() as connection:
        connection.execute(update(objects).values(sha256="abc"))
    again = place.journal.arrivals.current("1.2")
    place.tidy(0)
    place.tidy(7)
    assert not place.here("1.2")
    for one in again:
        (place.data / one.path).parent.mkdir(parents=True, exist_ok=True)
        (place.data / one.path).write_bytes(b"x")
    (one, other) = again
    assert place.journal.arrivals.holds([one.sop_uid]) == {}
    place.journal.arrivals.expect("1.2", [one.sop_uid, other.sop_uid], "archive")
    assert place.journal.arrivals.add([one]) == ["new"]
    [opened] = place.journal.arrivals.open()
    assert (opened.revision, opened.objects, opened.expected) == (2, 1, 2)
    assert place.journal.arrivals.add(again) == ["duplicate", "new"]
    [opened] = place.journal.arrivals.open()
    assert (opened.objects, opened.expected) == (2, 2)
    with place.journal.database.write() as connection:
        connection.execute(update(arrivals).where(arrivals.c.id == opened.id).values(state="closed"))
    after = place.job(opened.id, "1.2", "done")
    assert after.id != job.id
    place.tidy(8)
    place.tidy(14.9)
    assert place.here("1.2")
    place.tidy(15)
    assert not place.here("1.2")


def test_what_comes_while_its_study_is_removed_is_told_to_come_again(tmp_path):
    """And once it is gone, all of it is taken: nothing that was answered with success is removed."""
    journal, site, data = Journal(tmp_path / "data" / "journal.sqlite"), site_in(tmp_path), tmp_path / "data"
    with store_in(tmp_path, journal) as store:
        for number in (1, 2):
            hand_in(store, image(number))
        closing = Closing(site, journal)
        first = closing.close(journal.arrivals.open()[0])
        journal.jobs.take("received", "clerk")
        journal.jobs.move(first.id, "clerk", "failed", reason_code="model", reason="x")
        [one] = journal.keeping.leaving()
        assert journal.keeping.let_go(one, "housekeeper")  # and then a power cut
        for number in (1, 2, 3):
            with pytest.raises(Refusal, match="just being removed") as refused:
                hand_in(store, image(number))
            assert refused.value.code == "no-room"
        assert not list(store.incoming.iterdir())
        retention.tidy(site, journal, age=0.0)
        assert not list((data / "objects").rglob("*.dcm"))
        assert [hand_in(store, image(number)).state for number in (1, 2, 3)] == ["new", "new", "new"]
        again = journal.jobs.get(closing.close(journal.arrivals.open()[0]).id)
    assert again.state == "received" and len(list(Path(again.source["all"]).rglob("*.dcm"))) == 3
    journal.close()


def test_a_late_slice_of_a_removed_study_is_not_taken_for_the_study(tmp_path):
    journal, site = Journal(tmp_path / "data" / "journal.sqlite"), site_in(tmp_path)
    with store_in(tmp_path, journal) as store:
        for number in (1, 2):
            hand_in(store, image(number))
        closing = Closing(site, journal)
        first = closing.close(journal.arrivals.open()[0])
        journal.jobs.cancel(first.id, "me")
        for age in (0.0, 10.0):
            retention.tidy(site, journal, age=age * DAY_S)
        hand_in(store, image(1))
        partly = journal.jobs.get(closing.close(journal.arrivals.open()[0]).id)
        assert (partly.state, partly.reason_code) == ("failed", "lost-input")
        assert hand_in(store, image(2)).state == "new"
        whole = journal.jobs.get(closing.close(journal.arrivals.open()[0]).id)
    assert whole.state == "received" and len(list(Path(whole.source["all"]).rglob("*.dcm"))) == 2
    journal.close()


def test_a_housekeeper_that_looked_before_another_was_done_removes_nothing_new(tmp_path, monkeypatch):
    """The second has to wait before it looks: what it saw going has come again by the time that it goes on."""
    journal, site = Journal(tmp_path / "data" / "journal.sqlite"), site_in(tmp_path)
    with store_in(tmp_path, journal) as store:
        hand_in(store, image(1))
        first = Closing(site, journal).close(journal.arrivals.open()[0])
        journal.jobs.cancel(first.id, "me")
        [one] = journal.keeping.leaving()
        assert journal.keeping.let_go(one, "housekeeper")
        remove, held = retention._remove, []

        def slow(*parts) -> None:
            with pytest.raises(filelock.Timeout):
                filelock.FileLock(tmp_path / "data" / "objects.lock").acquire(timeout=0)
            held.append(remove(*parts))

        monkeypatch.setattr(retention, "_remove", slow)
        retention.tidy(site, journal, age=0.0)
        assert held and hand_in(store, image(1)).state == "new"
        retention.tidy(site, journal, age=0.0)
        assert len(list((tmp_path / "data" / "objects").rglob("*.dcm"))) == 1
    journal.close()


def test_results_elsewhere_and_paths_that_lead_out_are_left_alone(place, tmp_path):
    outside = tmp_path / "mine"
    outside.mkdir()
    (outside / "precious.dcm").write_bytes(b"x")
    job = place.study("1.2", "done")
    place.set(job, out=str(outside))
    linked = place.study("1.3", "done")
    shutil.rmtree(linked.out)
    Path(linked.out).symlink_to(outside)
    shutil.rmtree(place.data / "arrivals" / "2")
    (place.data / "arrivals" / "2").symlink_to(outside)
    with place.journal.database.write() as connection:
        connection.execute(update(objects).where(objects.c.study_uid == "1.2").values(path="../mine/precious.dcm"))
    for age in (0, 100, 200):
        place.tidy(age)
    assert (outside / "precious.dcm").exists()


def test_results_in_a_folder_that_others_use_stay(place):
    one, other = place.study("1.2", "done"), place.study("1.3", "running")
    place.set(other, out=one.out)
    place.tidy(0)
    place.tidy(100)
    assert place.results(one)


def test_over_the_quota_the_oldest_go_before_their_time(place):
    old, new = place.study("1.2", "done"), place.study("1.4", "done")
    failed = place.study("1.3", "failed")
    place.tidy(0)
    whole = retention.used_bytes(place.data)
    journal = sum(path.stat().st_size for path in place.data.glob("journal*"))
    assert whole - journal == 8 * SIZE  # three studies, each file under two names, and two results
    place.keep = Keep(quota_gib=(whole - 2 * SIZE) / GIB)
    left = place.tidy(0.5)
    assert [(one.leaving.kind, one.leaving.jobs, one.why) for one in left.going] == [
        ("results", (old.id,), "quota"),
        ("results", (new.id,), "quota"),
    ]
    place.keep = Keep(quota_gib=1 / GIB)
    left = place.tidy(0.6)
    assert not place.here("1.2") and not place.here("1.4") and place.here("1.3") and failed.id
    assert left.over > 0  # what must stay is more than the quota; alerts tell


@pytest.mark.parametrize("jump_days", [-4000, 4000])
def test_a_clock_that_jumps_removes_nothing(place, jump_days):
    """While it jumps, and when it jumps back; a process that starts then adds at most a day."""
    job = place.study("1.2", "done")
    now = time.time()
    place.journal.keeping.grow(None)
    place.tidy(place.journal.keeping.age / DAY_S)
    for moment, elapsed in ((now + jump_days * DAY_S, 10), (now + 20, 10), (now + jump_days * DAY_S, None), (now, 1)):
        with mock.patch.object(time, "time", return_value=moment):
            age = place.journal.keeping.grow(elapsed)
            place.tidy(age / DAY_S)
    assert age < 1.1 * DAY_S and place.here("1.2") and place.results(job)


def test_the_age_of_an_installation_is_the_time_that_it_runs(journal):
    now, keeping = time.time(), journal.keeping
    for after, elapsed, grown in (
        (3600, None, 3600),  # what the clock says of the night
        (3600 + 86400 * 30, None, 3600 + 86400),  # but not more than a day
        (3700 + 86400 * 30, 100, 3700 + 86400),
        (3700 + 86400 * 30, 100, 3700 + 86400),  # another process has counted these seconds
    ):
        with mock.patch.object(time, "time", return_value=now + after):
            assert keeping.grow(elapsed) == pytest.approx(grown, abs=5)


class Stopped(BaseException):
    """Stands for a SIGKILL."""


STATES_DRAWN = st.sampled_from(["queued", "running", "proven", "held", "failed", "cancelled", "superseded", "done"])
STUDIES = st.lists(
    st.tuples(st.lists(STATES_DRAWN, min_size=1, max_size=2), st.booleans(), st.booleans()), min_size=1, max_size=5
)


@settings(max_examples=40, deadline=None)
@given(
    drawn=STUDIES,
    ages=st.lists(st.floats(0, 200), min_size=2, max_size=4),
    quota=st.sampled_from([0.0, 1 / GIB, 60000 / GIB, 66000 / GIB]),
    stop=st.integers(0, 12),
)
def test_laws_of_removal(drawn, ages, quota, stop):
    """Nothing goes that an unfinished job reads, that was not delivered, or that is young; a call that was stopped at
    any change of the disk or the journal is completed by the next one; with a quota as little stays as can."""
    folder = Path(tempfile.mkdtemp())
    journal = Journal(folder / "data" / "journal.sqlite")
    try:
        _hold_laws(Place(folder, journal, KEEP.model_copy(update={"quota_gib": quota})), drawn, sorted(ages), stop)
    finally:
        journal.close()
        shutil.rmtree(folder)


def _hold_laws(place, drawn, ages, stop):
    made = {}
    for number, (states, open_too, confirmed) in enumerate(drawn):
        uid = f"1.{number}"
        send = ("pacs",) if number % 2 else ()
        made[uid] = [place.job(place.revision(uid), uid, state, send=send, confirmed=confirmed) for state in states]
        if open_too and number % 3 == 0:
            place.revision(uid, state="open")
            made[uid].append(None)
    steps = itertools.count()

    def counted(function):
        def call(*words, **options):
            if next(steps) == stop:
                raise Stopped
            return function(*words, **options)

        return call

    with (
        mock.patch.object(Path, "unlink", counted(Path.unlink)),
        mock.patch.object(retention.shutil, "rmtree", counted(shutil.rmtree)),
        mock.patch.object(Keeping, "let_go", counted(Keeping.let_go)),
        mock.patch.object(Keeping, "gone", counted(Keeping.gone)),
    ):
        for age in ages:
            with contextlib.suppress(Stopped):
                place.tidy(age)
    place.tidy(ages[-1])
    assert place.journal.keeping.going() == []
    seen_days = ages[-1] - ages[0]
    for uid, belong in made.items():
        states = {job.state for job in belong if job}
        goes_on = None in belong or not states <= {*ENDS, "held"}
        if goes_on or (not states <= WELL and seen_days < KEEP.failed_days):
            assert place.here(uid)
        elif seen_days >= (KEEP.studies_days if states <= WELL else KEEP.failed_days):
            assert not place.here(uid)
        for job in filter(None, belong):
            owed = any(one.state != "confirmed" for one in place.journal.deliveries.of(job.id))
            if job.state in ("proven", "held") or (job.state == "done" and owed):
                assert place.results(job)
            elif job.state == "done" and seen_days >= KEEP.results_days:
                assert not place.results(job)
    if place.keep.quota_gib:
        left = retention.plan(place.site, place.journal, ages[-1] * DAY_S)
        assert not left.over or not [one for one in left.judged if one.leaving.well]


def test_clean_on_the_command_line(tmp_path):
    journal = Journal(tmp_path / "data" / "journal.sqlite")
    place = Place(tmp_path, journal)
    job = place.study("1.2.840.77", "done")
    site = tmp_path / "site.yaml"
    site.write_text("keep: {studies_days: 0, results_days: 30}\n", encoding="utf-8")
    assert "neither --yes nor --dry-run" in medseg_command("clean", site).err
    before = medseg_command("clean", site, "--dry-run").out
    assert place.here("1.2.840.77") and "nothing was removed" in before
    said = medseg_command("clean", site, "--yes")
    assert said.code == 0 and "1 study" in said.out and not place.here("1.2.840.77") and place.results(job)
    assert "1.2.840.77" in said.out  # this is for people, on their screen
    assert [entry.what for _, entry in journal.audit.entries()] == ["clean"]
    journal.close()
