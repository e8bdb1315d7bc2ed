"""Somebody is told of troubles: once, without what a patient is known by, and again if it did not get through."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select, update

from medseg.service.journal import Journal
from medseg.service.journal.job import Identity
from medseg.service.journal.tables import events, jobs
from medseg.service.operations import alerts
from medseg.service.operations.alerts import Trouble, Watch
from medseg.service.operations.housekeeper import LOOK_S, Housekeeper
from medseg.service.settings.alerts import Alerts
from medseg.service.settings.keep import Keep
from medseg.service.settings.site import Site
from tests.service.answering import Answers, answered_by
from tests.service.test_journal import ASKED
from tests.service.test_retention import Place

BACKLOG = Trouble("backlog", "5 jobs wait, more than 4", {"count": 5})


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Told:
    """A command that writes down what it is told, one line a message."""

    def __init__(self, folder: Path):
        self.file, self.script = folder / "told.jsonl", folder / "tell.py"
        self.script.write_text(
            f"import sys\nopen({str(self.file)!r}, 'a').write(sys.stdin.read() + '\\n')\n", encoding="utf-8"
        )
        self.command = (sys.executable, str(self.script))

    def take(self) -> list[dict]:
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.exists() else []
        self.file.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]


@pytest.fixture
def told(tmp_path) -> Told:
    return Told(tmp_path)


@pytest.fixture
def site(tmp_path, told) -> Site:
    return Site(name="north", folder=tmp_path, keep=Keep(free_gib=0), alerts=Alerts(command=told.command, backlog=4))


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict], list[int]]]:
    """An address, what was posted to it, and the codes that it answers with from now on (the last one for ever)."""
    posted: list[dict] = []
    codes = [200]

    class Handler(Answers):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(codes.pop(0) if len(codes) > 1 else codes[0])
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def do_GET(self) -> None:
            posted.append({"redirected": self.path})
            self.send_response(200)
            self.end_headers()

    with answered_by(Handler) as url:
        yield f"{url}/hook", posted, codes


def tell(site: Site, journal: Journal, troubles: list[Trouble], *, age: float) -> int:
    """Of all that is on record."""
    return alerts.tell(site, journal, troubles, age=age, upto=journal.jobs.last_event())


def fail(journal: Journal, digest: str, code: str = "missing-slices") -> int:
    known = Identity(study_uid="1.2.840.99", patient_id="P-4711", description="Meier")
    job, _ = journal.jobs.submit(replace(ASKED, digest=digest, case="Meier", identity=known), who="a")
    journal.jobs.take("queued", "w", becomes="running")
    journal.jobs.move(job.id, "w", "failed", "Meier lacks slices", reason_code=code, reason="Meier 1.2.840.99")
    return job.id


def test_failures_are_told_once_and_lead_to_no_patient(journal, site, told):
    first = [fail(journal, "a"), fail(journal, "b", "timeout")]
    assert tell(site, journal, [], age=0) == 1
    text = told.file.read_text(encoding="utf-8")
    assert not any(word in text for word in ("Meier", "P-4711", "1.2.840.99"))
    (message,) = told.take()
    assert (message["site"], message["trouble"], message["count"]) == ("north", "failed", 2)
    assert message["jobs"] == [
        {"job": first[0], "state": "failed", "reason": "missing-slices"},
        {"job": first[1], "state": "failed", "reason": "timeout"},
    ]
    later = fail(journal, "c")
    assert tell(site, journal, [], age=10) == 0  # not so soon again
    assert tell(site, journal, [], age=400) == 1
    assert [one["job"] for one in told.take()[0]["jobs"]] == [later]
    assert tell(site, journal, [], age=9000) == 0  # each is told of once
    journal.jobs.retry(first[0], "me")
    journal.jobs.take("queued", "w", becomes="running")
    journal.jobs.move(first[0], "w", "quarantined", reason_code="crashed")
    assert tell(site, journal, [], age=9400) == 1
    assert told.take()[0]["jobs"] == [{"job": first[0], "state": "quarantined", "reason": "crashed"}]


def test_a_trouble_that_lasts_is_told_again_after_a_while(journal, site, told):
    ages = (0, 10, 299, 300, 400, 601)
    assert [tell(site, journal, [BACKLOG], age=age) for age in ages] == [1, 0, 0, 1, 0, 1]
    assert [message["what"] for message in told.take()] == ["5 jobs wait, more than 4"] * 3


def test_a_trouble_that_flickers_is_told_once(journal, site):
    said = [
        tell(site, journal, [BACKLOG] * here, age=age) for here, age in ((1, 0), (0, 1), (1, 2), (0, 302), (1, 303))
    ]
    assert said == [1, 0, 0, 0, 1]


def test_what_a_person_has_begun_again_is_not_told_of(journal, site):
    journal.jobs.retry(fail(journal, "a"), "me")
    assert tell(site, journal, [], age=0) == 0


def test_a_restart_does_not_tell_all_again(where, site, told):
    first = Journal(where)
    fail(first, "a")
    assert tell(site, first, [BACKLOG], age=0) == 2
    first.close()
    second = Journal(where)
    assert tell(site, second, [BACKLOG], age=100) == 0
    second.close()


def test_what_does_not_get_through_is_tried_again(journal, site, told, webhook, caplog):
    address, posted, codes = webhook
    both = site.model_copy(update={"alerts": site.alerts.model_copy(update={"webhook": address})})
    fail(journal, "a")
    codes[:] = [503, 200]
    assert tell(both, journal, [], age=0) == 1 and len(told.take()) == 1
    assert "an alert was not told" in caplog.text
    assert tell(both, journal, [], age=30) == 0
    assert tell(both, journal, [], age=61) == 1
    assert [one["trouble"] for one in posted] == ["failed", "failed"] and told.take() == []
    assert tell(both, journal, [], age=5000) == 0


def test_a_webhook_is_told_where_the_site_says_and_nowhere_else(journal, tmp_path, webhook, monkeypatch, caplog):
    address, posted, codes = webhook
    site = Site(folder=tmp_path, alerts=Alerts(webhook="${MEDSEG_HOOK}"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    assert tell(site, journal, [BACKLOG], age=0) == 0
    assert "no environment variable" in problems(caplog)
    monkeypatch.setenv("MEDSEG_HOOK", "file:///s3cret")
    assert tell(site, journal, [BACKLOG], age=70) == 0
    assert "no address of http" in problems(caplog)
    monkeypatch.setenv("MEDSEG_HOOK", f"{address}/s3cret")
    codes[:] = [302, 200]
    assert tell(site, journal, [BACKLOG], age=140) == 0
    assert "127.0.0.1 answers 302" in problems(caplog)
    assert tell(site, journal, [BACKLOG], age=210) == 1
    monkeypatch.setenv("MEDSEG_HOOK", "http://127.0.0.1:1/s3cret")
    assert tell(site, journal, [BACKLOG], age=9000) == 0
    assert [one.get("trouble") for one in posted] == ["backlog", "backlog"] and "s3cret" not in problems(caplog)


def problems(caplog: pytest.LogCaptureFixture) -> str:
    """Why alerts were not told, by the log."""
    return " ".join(str(getattr(one, "facts", "")) for one in caplog.records)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("/no/such/program",), "No such file"),
        ((sys.executable, "-c", "raise SystemExit(3)"), "ended with 3"),
        ((sys.executable, "-c", "import os, time; os.fork(); time.sleep(600)"), "did not end within"),
    ],
)
def test_commands_that_fail_or_hang(journal, site, command, why, caplog, monkeypatch):
    monkeypatch.setattr(alerts, "TELL_S", 0.5)
    broken = site.model_copy(update={"alerts": Alerts(command=command)})
    assert tell(broken, journal, [BACKLOG], age=0) == 0
    assert why in caplog.records[-1].facts["why"]
    assert tell(site, journal, [BACKLOG], age=61) == 1


def test_a_command_gets_no_shell(journal, site, tmp_path, monkeypatch):
    harmful = Trouble("receiver $(touch x)", "; touch x", {"receiver": "`touch x`"})
    command = ("echo", "a; touch x", "$(touch x)")
    monkeypatch.chdir(tmp_path)
    assert tell(site.model_copy(update={"alerts": Alerts(command=command)}), journal, [harmful], age=0) == 1
    assert not (tmp_path / "x").exists()


def test_two_housekeepers_tell_once(journal, site):
    with pytest.MonkeyPatch.context() as patch:
        barrier = threading.Barrier(2, timeout=30)
        upto = type(journal.troubles).upto

        def together(self, key):
            found = upto(self, key)
            if key.endswith("backlog"):
                barrier.wait()
            return found

        patch.setattr(type(journal.troubles), "upto", together)
        counts: list[int] = []
        threads = [
            threading.Thread(target=lambda: counts.append(tell(site, journal, [BACKLOG], age=0))) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(counts) == [0, 1]


def test_what_is_looked_for(tmp_path, journal):
    place, clock = Place(tmp_path, journal), Clock()
    keep = Keep(free_gib=0)
    site = Site(folder=tmp_path, keep=keep, alerts=Alerts(backlog=2))
    watch = Watch(site, journal, clock)
    assert watch.look() == []
    owed = place.study("1.1", "proven", send=("pacs", "disk"))
    pacs, disk = journal.deliveries.of(owed.id)
    for _ in range(3):
        journal.deliveries.tell(pacs.id, "waiting", "connection refused", tried=True)
    journal.deliveries.tell(disk.id, "refused", "full", tried=True)
    assert {one.key: one.facts["tries"] for one in watch.look()} == {"receiver pacs": 3, "receiver disk": 1}
    journal.jobs.cancel(owed.id, "me")
    assert watch.look() == []
    for number in range(3):
        journal.jobs.submit(replace(ASKED, digest=str(number)), who="a")
    assert [one.key for one in watch.look()] == ["backlog"]
    taken = journal.jobs.take("queued", "w", becomes="running")
    for beating in (True, False):
        watch.look()
        clock.now += 119
        if beating:
            journal.jobs.beat(taken.id, "w")
            watch.look()
        journal.jobs.submit(replace(ASKED, digest=f"new {beating}"), who="a")  # what comes in is no work done
        clock.now += 1
        assert [one.key for one in watch.look()] == ["backlog"] + ["stalled"] * (not beating)
    full = Watch(site.model_copy(update={"keep": Keep(free_gib=1e9)}), journal, clock)
    assert "disk" in [one.key for one in full.look()]


def test_jobs_that_wait_for_their_next_try_are_no_standstill(journal, tmp_path):
    clock = Clock()
    watch = Watch(Site(folder=tmp_path, keep=Keep(free_gib=0)), journal, clock)
    journal.jobs.submit(ASKED, who="a")
    taken = journal.jobs.take("queued", "w", becomes="running")
    journal.jobs.give_back(taken.id, "w", "error", "x", wait_s=3000)
    watch.look()
    clock.now += 600
    assert watch.look() == []
    with journal.database.write() as connection:
        connection.execute(update(jobs).values(not_before=0))
    watch.look()
    clock.now += 120
    assert [one.key for one in watch.look()] == ["stalled"]


def test_the_housekeeper_counts_tells_and_tidies(tmp_path, journal, site, told, monkeypatch):
    clock, place = Clock(), Place(tmp_path, journal)
    job = place.study("1.2", "done")
    fail(journal, "a")
    free = site.model_copy(update={"keep": Keep(studies_days=0, results_days=0, free_gib=0)})
    keeper = Housekeeper(free, journal, "housekeeper 1", clock=clock)
    assert keeper.step() and not place.here("1.2") and not place.results(job)
    later = place.study("1.3", "done")
    with monkeypatch.context() as patch:
        patch.setattr(journal.keeping, "grow", None)  # what is not due is not done
        assert not keeper.step()
    clock.now += LOOK_S
    assert keeper.step() and place.results(later)
    assert [message["trouble"] for message in told.take()] == ["failed"]
    clock.now += 600
    assert keeper.step() and not place.results(later)
    tight = site.model_copy(update={"keep": Keep(quota_gib=1e-9, free_gib=0)})
    place.study("1.4", "running")
    keeper = Housekeeper(tight, journal, "housekeeper 2", clock=clock)
    keeper.step()
    clock.now += LOOK_S
    keeper.step()
    assert "quota" in [message["trouble"] for message in told.take()]


def test_a_failure_that_shows_late_under_a_smaller_number_is_told(journal, site, told):
    clock, numbers = Clock(), [fail(journal, "a"), fail(journal, "b")]
    with journal.database.write() as connection:  # as a transaction that took its number early and ends late
        event = (events.c.job == numbers[0]) & (events.c.state == "failed")
        late = dict(connection.execute(select(events).where(event)).one()._mapping)
        connection.execute(delete(events).where(event))
    keeper = Housekeeper(site, journal, "h", clock=clock)
    keeper.step()
    with journal.database.write() as connection:
        connection.execute(insert(events).values(late))
    for _ in range(2):
        clock.now += LOOK_S
        keeper.step()
    assert [[one["job"] for one in message["jobs"]] for message in told.take()] == [numbers]


def test_a_disk_that_cannot_be_tidied_is_told_of(tmp_path, journal, site, told, monkeypatch):
    def broken(*words: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    clock = Clock()
    monkeypatch.setattr("medseg.service.operations.retention.tidy", broken)
    keeper = Housekeeper(site, journal, "h", clock=clock)
    keeper.step()
    clock.now += LOOK_S
    keeper.step()
    assert [message["trouble"] for message in told.take()] == ["keep"]
