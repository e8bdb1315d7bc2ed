"""The supervisor and its child processes: killed, hanging, poisoned, asked to end; and no job is lost or done twice."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from sqlalchemy.exc import OperationalError, ProgrammingError

from medseg.interrupts import AGAIN
from medseg.service import logs
from medseg.service.journal import Journal
from medseg.service.work import pool, post
from medseg.service.work import supervisor as supervisors
from medseg.service.work.parameters import Parameters
from medseg.service.work.supervisor import Supervisor
from tests import tiny
from tests.service import site as sites

POISONED = Parameters(outputs=("tests.service.poison",)).to_json()


@pytest.fixture(autouse=True)
def soon(monkeypatch) -> None:
    monkeypatch.setattr(supervisors, "LONGEST_PAUSE_S", 0.2)
    monkeypatch.setenv("PYTHONPATH", str(tiny.ROOT))


def submitted(journal: Journal, model: Path, folder: Path, *names: str) -> list[int]:
    jobs = [
        sites.asked(model, sites.scan(folder / f"{name}.nii.gz"), folder / "out", parameters=POISONED) for name in names
    ]
    return [sites.submitted(journal, one).id for one in jobs]


class Run:
    """A supervisor of workers alone, in this process."""

    def __init__(self, journal: Journal, folder: Path, where: str = "", workers: int = 1, **work: object):
        self.late_s = 0.0
        self.site = sites.site(folder, where, workers=workers, **work)
        posts = [("worker", number) for number in range(workers)]
        self.supervisor = Supervisor(
            self.site, journal, posts, owner="here", now=lambda: time.monotonic() + self.late_s
        )

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.supervisor.drain()

    def until(self, true) -> None:
        sites.until(true, self.supervisor.tick)

    @property
    def pid(self) -> int:
        return self.supervisor._seats[0].hand._process.pid


class Puppet:
    """A hand that lives until it is told not to."""

    def __init__(self, site: object, role: str, number: int):
        self.owner, self.lives, self.how = f"{role}{number}", True, ""

    def alive(self) -> bool:
        return self.lives

    def fault(self) -> str:
        return self.how

    def end(self) -> None:
        self.lives = False

    def kill(self) -> None:
        self.lives = False


@pytest.mark.parametrize(
    ("how", "attempts", "code"), [("", 0, ""), ("ended by signal 11", 1, "crashed"), (pool.STARVED, 1, "memory")]
)
def test_only_a_death_that_may_be_a_jobs_fault_counts(how, attempts, code, tmp_path):
    journal = Journal(tmp_path / "journal.sqlite")
    job = sites.submitted(journal, sites.asked(tmp_path / "m", tmp_path / "a", tmp_path))
    supervisor = Supervisor(sites.site(tmp_path), journal, [("worker", 0)], owner="here", start=Puppet)
    supervisor.tick()
    journal.jobs.take("queued", "worker0", becomes="running")
    puppet = supervisor._seats[0].hand
    puppet.lives, puppet.how = False, how
    supervisor.tick()
    found = journal.jobs.get(job.id)
    assert (found.state, found.owner, found.attempts, found.reason_code) == ("queued", None, attempts, code)
    journal.close()


@pytest.mark.parametrize(("kills", "fault"), [(3, "ended by signal 9"), (4, pool.STARVED)])
def test_a_kill_for_want_of_memory_is_told_from_others(kills, fault, tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "VMSTAT", tmp_path / "vmstat")
    pool.VMSTAT.write_text("pgfault 9\noom_kill 3\noom_kill_other 7\n")
    child = pool.Child(sites.site(tmp_path), "worker", 0)
    pool.VMSTAT.write_text(f"oom_kill {kills}\n")
    child.kill()
    assert child.fault() == fault


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OperationalError("x", {}, Exception("disk is full")), AGAIN, "disk is full"),
        (ProgrammingError("x", {}, Exception({"C": "53100", "M": "no space"})), AGAIN, "no space (53100)"),
        (ProgrammingError("x", {}, Exception({"C": "22P02", "M": "no JSON", "D": "Mueller"})), 1, "no JSON (22P02)"),
        (RuntimeError("Mueller"), 1, "RuntimeError < "),
    ],
)
def test_only_what_is_nobodys_fault_is_not_counted_and_no_patient_is_named(
    error, code, said, tmp_path, monkeypatch, caplog
):
    def serve(*_: object) -> None:
        raise error

    monkeypatch.setattr(post, "serve", serve)
    monkeypatch.setattr(post.logs, "begin", lambda level: None)
    monkeypatch.setattr(post.signal, "signal", lambda *_: None)
    monkeypatch.setattr(post, "_end_with_parent", lambda: None)
    with pytest.raises(SystemExit) as ended:
        post.main("clerk", sites.site(tmp_path), "clerk@here#1", {}, logging.INFO)
    [line] = map(logs.Lines().format, caplog.records)
    assert ended.value.code == code and said in line and "Mueller" not in line


def test_who_dies_at_once_is_started_later_and_later(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisors, "LONGEST_PAUSE_S", 3.0)
    journal, now, started = Journal(tmp_path / "journal.sqlite"), 0.0, []

    def start(*words) -> Puppet:
        started.append(now)
        puppet = Puppet(*words)
        puppet.lives, puppet.how = len(started) >= 6, "exit code 1"
        return puppet

    supervisor = Supervisor(sites.site(tmp_path), journal, [("clerk", 0)], owner="here", start=start, now=lambda: now)
    while now < 24:
        supervisor.tick()
        now += 0.25
    assert [later - one for one, later in pairwise(started)] == [0.75, 1.25, 2.25, 3.25, 3.25]
    supervisor._seats[0].hand.lives = False
    for _ in range(3):
        supervisor.tick()
        now += 0.25
    assert len(started) == 7, "who lived long is replaced at once"
    journal.close()


def test_a_journal_that_is_away_is_told_of_a_dead_process_less_and_less_often(tmp_path, monkeypatch):
    """The log of a night without it fills no disk."""
    monkeypatch.setattr(supervisors, "LONGEST_PAUSE_S", 3.0)
    journal, now, told = Journal(tmp_path / "journal.sqlite"), 0.0, []
    take_back = journal.jobs.take_back

    def away(*words: object, **more: object) -> int:
        told.append(now)
        raise OperationalError("UPDATE", {}, Exception("it is away"))

    supervisor = Supervisor(sites.site(tmp_path), journal, [("clerk", 0)], owner="here", start=Puppet, now=lambda: now)
    supervisor.tick()
    dead = supervisor._seats[0].hand
    dead.lives, now = False, 100.0
    monkeypatch.setattr(journal.jobs, "take_back", away)
    while now < 110:
        supervisor.tick()
        now += 0.25
    assert [later - one for one, later in pairwise(told)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    monkeypatch.setattr(journal.jobs, "take_back", take_back)
    while supervisor._seats[0].hand is dead and now < 120:
        supervisor.tick()
        now += 0.25
    supervisor.tick()
    assert supervisor._seats[0].hand is not dead and now < 114
    journal.close()


def test_a_journal_that_cannot_be_used_for_a_while_ends_nothing(tmp_path):
    journal, looks = Journal(tmp_path / "journal.sqlite"), []
    supervisor = Supervisor(sites.site(tmp_path), journal, [("worker", 0)], owner="here", start=Puppet)

    def look() -> None:
        looks.append(supervisor._seats[0].hand.alive())
        if len(looks) < 3:
            raise OperationalError("UPDATE", {}, Exception("database or disk is full"))

    supervisor.run(ended=lambda: len(looks) == 3, between=look)
    assert looks == [True] * 3
    journal.close()


def states(journal: Journal, jobs: list[int]) -> list[str]:
    return [journal.jobs.get(job).state for job in jobs]


def test_a_worker_that_is_killed_is_replaced_and_its_job_done(tmp_path, model):
    journal = Journal(tmp_path / "data" / "journal.sqlite")
    jobs = submitted(journal, model, tmp_path, "once", "good")
    with Run(journal, tmp_path) as run:
        run.until((tmp_path / "out" / "once.begun").exists)
        os.kill(run.pid, signal.SIGKILL)
        run.until(lambda: states(journal, jobs) == ["proven", "proven"])
    killed = journal.jobs.get(jobs[0])
    assert killed.attempts == 2 and not (tmp_path / "out" / ".staging").exists()
    assert any("signal 9" in event.what for _, event in journal.jobs.events(jobs[0]))
    journal.close()


@pytest.mark.slow
def test_jobs_that_kill_their_workers_are_put_aside_and_the_others_done(tmp_path, model):
    journal = Journal(tmp_path / "data" / "journal.sqlite")
    jobs = submitted(journal, model, tmp_path, "crash", "a", "exit", "b")
    with Run(journal, tmp_path, tries=2, ahead=True) as run:
        run.until(lambda: not any(journal.jobs.counts()[state] for state in ("queued", "running", "written")))
    assert states(journal, jobs) == ["quarantined", "proven", "quarantined", "proven"]
    assert {journal.jobs.get(job).reason_code for job in (jobs[0], jobs[2])} == {"crashed"}
    journal.close()


def test_a_case_that_takes_too_long_is_ended(tmp_path, model):
    journal = Journal(tmp_path / "data" / "journal.sqlite")
    jobs = submitted(journal, model, tmp_path, "once", "good")
    with Run(journal, tmp_path, limit_s=3600) as run:
        run.until((tmp_path / "out" / "once.begun").exists)
        run.until(lambda: run.supervisor._seats[0].jobs == {jobs[0]})
        run.late_s = 3500.0
        run.supervisor.tick()
        assert states(journal, jobs) == ["running", "queued"]
        run.late_s = 3700.0
        run.supervisor.tick()
        assert journal.jobs.get(jobs[0]).reason_code == "timeout"
        run.until(lambda: states(journal, jobs) == ["proven", "proven"])
    journal.close()


def test_whoever_is_asked_to_end_finishes_its_case_or_gives_it_back(tmp_path, model):
    journal = Journal(tmp_path / "data" / "journal.sqlite")
    asked = sites.asked(
        model,
        sites.scan(tmp_path / "large.nii.gz", shape=(96, 96, 96)),
        tmp_path / "out",
        parameters=Parameters(changes=("overlap=0.9",)).to_json(),
    )
    job = sites.submitted(journal, asked).id
    with Run(journal, tmp_path, drain_s=0) as run:
        run.until(lambda: journal.jobs.get(job).share > 0)
    found = journal.jobs.get(job)
    assert (found.state, found.attempts, found.owner) == ("queued", 0, None)
    journal.close()


def test_two_supervisors_of_one_journal_do_each_job_once(where, tmp_path, model):
    journal = Journal(where)
    jobs = submitted(journal, model, tmp_path, *"abcdefgh")
    with Run(journal, tmp_path, where) as one, Run(journal, tmp_path, where) as other:
        for _ in range(2):  # both are there before either begins
            one.supervisor.tick()
            other.supervisor.tick()
        sites.until(
            lambda: journal.jobs.counts()["proven"] == len(jobs),
            lambda: (one.supervisor.tick(), other.supervisor.tick()),
        )
    begun = [event.job for _, event in journal.jobs.events() if event.state == "running"]
    assert sorted(begun) == jobs
    journal.close()


def test_drained_a_site_ends_when_nothing_is_left_to_do(tmp_path, model):
    journal = Journal(tmp_path / "data" / "journal.sqlite")
    jobs = submitted(journal, model, tmp_path, "good")
    (tmp_path / "bad.nii.gz").write_bytes(b"no scan")
    jobs.append(sites.submitted(journal, sites.asked(model, tmp_path / "bad.nii.gz", tmp_path / "out")).id)
    settings = {"work": {"device": "cpu", "threads": 1}, "keep": {"free_gib": 0}}
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = [sys.executable, "-m", "medseg", "work", str(tmp_path / "site.yaml"), "--drain", "--workers", "1"]
    ended = subprocess.run(command, env=tiny.ENVIRONMENT, capture_output=True, text=True, timeout=sites.PATIENCE_S)
    assert ended.returncode == 0 and "Traceback" not in ended.stderr, ended
    assert states(journal, jobs) == ["done", "failed"]
    journal.close()


def test_children_end_with_a_supervisor_that_is_killed_and_the_next_goes_on(tmp_path, model):
    journal = Journal(tmp_path / "data" / "journal.sqlite")
    jobs = submitted(journal, model, tmp_path, "once", "good")
    settings = {"work": {"device": "cpu", "threads": 1, "workers": 1}}
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = [sys.executable, "-m", "medseg", "work", str(tmp_path / "site.yaml")]
    first = subprocess.Popen(command, env=tiny.ENVIRONMENT, stderr=subprocess.PIPE)
    try:
        sites.until((tmp_path / "out" / "once.begun").exists)
    finally:
        first.kill()
        first.communicate(timeout=sites.PATIENCE_S)  # there is an end of it only when all who share it have ended
    second = subprocess.Popen(command, env=tiny.ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    try:
        sites.until(lambda: journal.jobs.counts()["done"] == 2)
    finally:
        second.send_signal(signal.SIGTERM)
        _, said = second.communicate(timeout=sites.PATIENCE_S)
    assert second.returncode == 0 and "Traceback" not in said, said
    assert journal.jobs.get(jobs[0]).attempts == 2 and not list((tmp_path / "data" / "work").iterdir())
    assert str(tmp_path) not in said and "once" not in said, "the log names no case"
    journal.close()
