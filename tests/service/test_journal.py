"""The journal of jobs, in SQLite and PostgreSQL: one owner at a time, every change on record, nothing counted twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from medseg.refusal import Refusal
from medseg.service.journal import Journal
from medseg.service.journal.job import Asked, Identity, Job, Lost
from medseg.service.journal.states import ENDS, NEXT, STATES
from medseg.service.journal.tables import metadata
from tests.tiny import ENVIRONMENT

ASKED = Asked(source={"all": "/in/a"}, digest="d", case="a", model="/models/liver", out="/out")
ARRIVED = replace(ASKED, model="", identity=Identity(study_uid="1.2.3", patient_id="P-7"))


def states(journal: Journal, job: int) -> list[str]:
    return [event.state for _, event in journal.jobs.events(job)]


def test_what_is_asked_twice_is_one_job(journal):
    first, new = journal.jobs.submit(ASKED, who="a")
    again, newer = journal.jobs.submit(ASKED, who="b")
    other, newest = journal.jobs.submit(replace(ASKED, parameters={"quality": "fast"}), who="b")
    assert (new, newer, newest) == (True, False, True)
    assert first.id == again.id != other.id and first.kind != other.kind
    assert [event.what for _, event in journal.jobs.events(first.id)][-1] == "submitted again"


def test_a_job_goes_its_way_and_every_step_is_on_record(journal):
    job, _ = journal.jobs.submit(replace(ASKED, receivers=("pacs", "disk")), who="a")
    taken = journal.jobs.take("queued", "w", becomes="running")
    assert taken and (taken.id, taken.owner, taken.attempts, taken.state) == (job.id, "w", 1, "running")
    assert journal.jobs.beat(job.id, "w", stage="network", share=0.5) == ""
    assert (journal.jobs.get(job.id).stage, journal.jobs.get(job.id).share) == ("network", 0.5)
    journal.jobs.move(job.id, "w", "written", keep=True, files={"a.nii.gz": "00"})
    journal.jobs.move(job.id, "w", "proven", verdict="pass")
    sending = journal.jobs.take("proven", "s")
    assert (sending.owner, sending.attempts) == ("s", 1)
    for delivery in journal.deliveries.of(job.id):
        journal.deliveries.tell(delivery.id, "sent", tried=True)
    assert journal.deliveries.counts() == {"pacs": {"sent": 1}, "disk": {"sent": 1}}
    journal.jobs.move(job.id, "s", "sent", keep=True)
    journal.jobs.move(job.id, "s", "done")
    expected = ["received", "queued", "running", "written", "proven", "proven", "sent", "done"]
    assert states(journal, job.id) == expected
    ended = journal.jobs.get(job.id)
    assert (ended.files, ended.verdict, ended.owner) == ({"a.nii.gz": "00"}, "pass", None)
    assert journal.jobs.counts() == dict.fromkeys(STATES, 0) | {"done": 1}


def test_who_lost_a_job_cannot_change_it(journal):
    job, _ = journal.jobs.submit(ASKED, who="a")
    journal.jobs.take("queued", "slow", becomes="running")
    assert journal.jobs.take_back("slow", "watch") == 1
    journal.jobs.take("queued", "next", becomes="running")
    for change in (
        lambda: journal.jobs.beat(job.id, "slow"),
        lambda: journal.jobs.move(job.id, "slow", "written"),
        lambda: journal.jobs.give_back(job.id, "slow", "error", "late"),
    ):
        with pytest.raises(Lost):
            change()
    assert journal.jobs.get(job.id).owner == "next" and journal.jobs.get(job.id).reason_code == "crashed"


def test_a_job_that_kills_its_workers_is_put_aside(journal):
    job, _ = journal.jobs.submit(ASKED, who="a")
    for number in range(3):
        assert journal.jobs.take("queued", f"w{number}", becomes="running")
        journal.jobs.take_back(f"w{number}", "watch")
    assert journal.jobs.take("queued", "w", becomes="running") is None
    assert journal.jobs.get(job.id).state == "quarantined" and journal.jobs.counts()["quarantined"] == 1
    assert journal.jobs.retry(job.id, "me") == "queued"
    assert journal.jobs.take("queued", "w", becomes="running").attempts == 1


def test_what_is_sent_is_tried_for_ever(journal):
    job, _ = journal.jobs.submit(replace(ASKED, receivers=("pacs",)), who="a")
    journal.jobs.take("queued", "w", becomes="running")
    journal.jobs.give_back(job.id, "w", "error", "the first try")
    journal.jobs.take("queued", "w", becomes="running")
    journal.jobs.move(job.id, "w", "written", keep=True)
    journal.jobs.move(job.id, "w", "proven")
    for counts in (True, False) * 4:
        journal.jobs.take("proven", "s")
        assert journal.jobs.give_back(job.id, "s", "refused", "no", counts=counts) == "proven"
    assert journal.jobs.get(job.id).attempts == 2
    journal.jobs.take("proven", "s")
    journal.jobs.move(job.id, "s", "sent", keep=True)
    journal.jobs.move(job.id, "s", "done", keep=True)
    ended = journal.jobs.get(job.id)
    assert (ended.reason_code, ended.reason, ended.owner) == ("", "", None)


def test_results_that_kill_their_sender_let_others_have_their_turn(journal, monkeypatch):
    now = [1e9]
    monkeypatch.setattr("medseg.service.journal.jobs.time.time", lambda: now[0])
    poison, *good = (ready(journal, name).id for name in "abc")
    got = []
    for number in range(6):
        got.append(journal.jobs.take("proven", f"s{number}").id)
        if got[-1] == poison:
            journal.jobs.take_back(f"s{number}", "watch", "crashed", "signal 9")
        else:
            journal.jobs.move(got[-1], f"s{number}", "sent")
        now[0] += 3600  # whatever it had to wait is over
    assert [job for job in got if job != poison] == good and got[:3] == [poison, *good]
    assert journal.jobs.get(poison).state == "proven"  # and is tried for ever


def ready(journal: Journal, name: str) -> Job:
    """A job whose results can be sent."""
    job, _ = journal.jobs.submit(replace(ASKED, digest=name, receivers=("pacs",)), who="a")
    journal.jobs.take("queued", "w", becomes="running")
    journal.jobs.move(job.id, "w", "written", keep=True)
    journal.jobs.move(job.id, "w", "proven")
    return job


def test_what_a_device_has_written_into_a_header_stops_nothing(journal):
    """NUL, which PostgreSQL has in no text; NaN, which JSON has not; names of files that are not UTF-8."""
    odd = replace(ARRIVED, identity=Identity(study_uid="1.2.3", patient_id="P\0X"), case="a\0b", out="/out/\udcff")
    job, _ = journal.jobs.submit(odd, who="CT\0")
    journal.jobs.take("received", "clerk")
    journal.jobs.move(job.id, "clerk", "failed", "C\0T", reason="C\0T", facts={"hu": [float("nan"), 1.5]})
    journal.audit.add("A\0B at 10.0.0.1", "association", "", "refused: it calls \0")
    [found] = journal.jobs.find(text="p\0x")
    assert (found.identity.patient_id, found.case, found.out, found.reason) == ("P X", "a b", "/out/?", "C T")
    assert found.facts == {"hu": [None, 1.5]}


def test_results_that_never_came_are_not_waited_for(journal):
    job, _ = journal.jobs.submit(replace(ASKED, receivers=("pacs",)), who="a")
    assert journal.deliveries.counts() == {"pacs": {"waiting": 1}}
    journal.jobs.cancel(job.id, "me")
    assert journal.deliveries.counts() == {}


def test_a_job_given_back_in_good_order_has_lost_no_attempt(journal):
    job, _ = journal.jobs.submit(ASKED, who="a")
    for _ in range(5):
        journal.jobs.take("queued", "w", becomes="running")
        assert journal.jobs.give_back(job.id, "w", counts=False) == "queued"
    assert journal.jobs.get(job.id).attempts == 0


def test_a_wait_that_only_a_wrong_clock_can_explain_is_none(journal):
    job, _ = journal.jobs.submit(ASKED, who="a")
    journal.jobs.take("queued", "w", becomes="running")
    journal.jobs.give_back(job.id, "w", "error", "x", wait_s=600)
    assert journal.jobs.take("queued", "w", becomes="running") is None
    with journal.database.write() as connection:
        connection.execute(text("UPDATE jobs SET not_before = not_before + 100000"))
    assert journal.jobs.take("queued", "w", becomes="running")


def test_cancelling(journal):
    waiting, _ = journal.jobs.submit(ASKED, who="a")
    assert journal.jobs.cancel(waiting.id, "me") == "cancelled"
    running, _ = journal.jobs.submit(replace(ASKED, digest="e"), who="a")
    journal.jobs.take("queued", "w", becomes="running")
    assert journal.jobs.cancel(running.id, "me") == "running"
    assert journal.jobs.beat(running.id, "w") == "cancelled"
    assert journal.jobs.give_back(running.id, "w") == "cancelled"
    with pytest.raises(Refusal, match="is cancelled"):
        journal.jobs.cancel(running.id, "me")
    with pytest.raises(Refusal, match="no such job"):
        journal.jobs.cancel(99, "me")


def test_what_was_asked_to_stop_and_then_died_is_not_tried_again(journal):
    job, _ = journal.jobs.submit(ASKED, who="a")
    journal.jobs.take("queued", "w", becomes="running")
    journal.jobs.cancel(job.id, "me")
    journal.jobs.take_back("w", "watch")
    assert journal.jobs.get(job.id).state == "cancelled"


def arrive(journal: Journal, revision: int) -> int:
    columns = "study_uid, revision, state, sender, expected, changed_at"
    values = f"'1.2.3', {revision}, 'closed', 'CT', 0, 0"
    with journal.database.write() as connection:
        return connection.execute(text(f"INSERT INTO arrivals ({columns}) VALUES ({values}) RETURNING id")).scalar_one()


def test_routing_makes_a_job_for_each_route_and_none_is_guessed(journal):
    job, _ = journal.jobs.submit(replace(ARRIVED, arrival=arrive(journal, 1)), who="CT")
    taken = journal.jobs.take("received", "clerk")
    liver = replace(ARRIVED, model="/m/liver", route="liver", receivers=("pacs",), arrival=taken.arrival)
    made = journal.jobs.route(taken, "clerk", [liver, replace(liver, model="/m/lung", route="lung")], "2 match")
    assert [one.route for one in made] == ["liver", "lung"] and made[0].id == job.id
    assert {one.state for one in made} == {"queued"}
    assert [one.receiver for one in journal.deliveries.of(made[1].id)] == ["pacs"]
    other, _ = journal.jobs.submit(replace(ARRIVED, digest="x"), who="CT")
    assert journal.jobs.route(journal.jobs.take("received", "clerk"), "clerk", [], "nothing fits") == []
    found = journal.jobs.get(other.id)
    assert (found.state, found.reason_code, found.reason) == ("unmatched", "no-route", "nothing fits")
    assert journal.jobs.retry(other.id, "me") == "received"


@pytest.mark.parametrize("former", ["queued", "running", "done"])
def test_a_later_revision_supersedes_what_the_former_led_to(journal, former):
    jobs = []
    for revision in (1, 2):
        asked = replace(ARRIVED, digest=str(revision), arrival=arrive(journal, revision))
        journal.jobs.submit(asked, who="CT")
        taken = journal.jobs.take("received", "clerk")
        jobs += journal.jobs.route(taken, "clerk", [replace(asked, model="/m", route="liver")], "")
        if revision == 1 and former != "queued":
            journal.jobs.take("queued", "w", becomes="running")
        if revision == 1 and former == "done":
            for state in ("written", "proven", "sent", "done"):
                journal.jobs.move(jobs[0].id, "w", state, keep=True)
    old, new = (journal.jobs.get(job.id) for job in jobs)
    assert (old.superseded_by, new.supersedes, new.state) == (new.id, old.id, "queued")
    assert old.state == {"queued": "superseded"}.get(former, former)
    assert old.stop_asked == ("superseded" if former == "running" else "")


def test_an_earlier_revision_that_is_routed_late_supersedes_nothing(journal):
    asked = [replace(ARRIVED, digest=str(revision), arrival=arrive(journal, revision)) for revision in (1, 2)]
    jobs = []
    for one in reversed(asked):
        journal.jobs.submit(one, who="CT")
        taken = journal.jobs.take("received", "clerk")
        jobs += journal.jobs.route(taken, "clerk", [replace(one, model="/m", route="liver")], "")
    later, former = (journal.jobs.get(job.id) for job in jobs)
    assert (later.superseded_by, later.state) == (None, "queued")
    assert (former.superseded_by, former.state) == (later.id, "superseded")  # it is not run after the later one


def test_a_former_revision_is_not_tried_again(journal):
    """Its results would be sent after those of the later one."""
    jobs = []
    for revision in (1, 2):
        asked = replace(ARRIVED, digest=str(revision), arrival=arrive(journal, revision))
        journal.jobs.submit(asked, who="CT")
        taken = journal.jobs.take("received", "clerk")
        jobs += journal.jobs.route(taken, "clerk", [replace(asked, model="/m", route="liver")], "")
        if revision == 1:
            journal.jobs.take("queued", "w", becomes="running")
            journal.jobs.move(jobs[0].id, "w", "failed", reason_code="memory", reason="x")
    with pytest.raises(Refusal, match=f"superseded by job {jobs[1].id}"):
        journal.jobs.retry(jobs[0].id, "me")
    assert journal.jobs.get(jobs[0].id).state == "failed"


def test_a_later_revision_that_is_refused_leaves_the_former_one(journal):
    asked = [replace(ARRIVED, digest=str(number), arrival=arrive(journal, number), route="liver") for number in (1, 2)]
    journal.jobs.submit(replace(asked[0], route=""), who="CT")
    taken = journal.jobs.take("received", "clerk")
    [former] = journal.jobs.route(taken, "clerk", [replace(asked[0], model="/m")], "")
    journal.jobs.submit(replace(asked[1], route=""), who="CT")
    taken = journal.jobs.take("received", "clerk")
    [later] = journal.jobs.route(taken, "clerk", [asked[1]], "", {"liver": ("truncated", "cut")})
    assert (later.state, later.supersedes) == ("failed", None)
    assert (journal.jobs.get(former.id).state, journal.jobs.get(former.id).superseded_by) == ("queued", None)
    journal.jobs.retry(later.id, "me")
    taken = journal.jobs.take("received", "clerk")
    journal.jobs.route(taken, "clerk", [replace(asked[1], model="/m")], "")
    assert journal.jobs.get(former.id).state == "superseded"


def test_results_that_are_held_go_when_somebody_says_so(journal):
    job, _ = journal.jobs.submit(replace(ASKED, hold=("fail",)), who="a")
    journal.jobs.take("queued", "w", becomes="running")
    journal.jobs.move(job.id, "w", "written", keep=True)
    journal.jobs.move(job.id, "w", "proven", verdict="fail")
    journal.jobs.take("proven", "s")
    journal.jobs.move(job.id, "s", "held")
    assert journal.jobs.take("proven", "s") is None
    journal.jobs.release(job.id, "me")
    free = journal.jobs.take("proven", "s")
    assert free.verdict == "fail, released" and free.verdict not in free.hold
    with pytest.raises(Refusal, match="is proven"):
        journal.jobs.release(job.id, "me")


def test_what_another_try_makes_is_held_again(journal):
    job, _ = journal.jobs.submit(replace(ASKED, hold=("fail",)), who="a")
    for last in ("failed", "proven"):
        journal.jobs.take("queued", "w", becomes="running")
        journal.jobs.move(job.id, "w", "written", keep=True)
        journal.jobs.move(job.id, "w", "proven", verdict="fail")
        taken = journal.jobs.take("proven", "s")
        assert taken.verdict in taken.hold
        journal.jobs.move(job.id, "s", "held")
        journal.jobs.release(job.id, "me")
        if last == "failed":
            journal.jobs.take("proven", "s")
            journal.jobs.move(job.id, "s", "failed", reason_code="unproven")
            journal.jobs.retry(job.id, "me")


def test_two_never_take_one(where):
    journals = [Journal(where) for _ in range(4)]
    for number in range(40):
        journals[0].jobs.submit(replace(ASKED, digest=str(number)), who="a")

    def take_all(number: int) -> list[int]:
        taken = []
        while job := journals[number].jobs.take("queued", f"w{number}", becomes="running"):
            taken.append(job.id)
        return taken

    with ThreadPoolExecutor(4) as threads:
        taken = [job for found in threads.map(take_all, range(4)) for job in found]
    for journal in journals:
        journal.close()
    assert sorted(taken) == list(range(1, 41))


def test_jobs_for_receivers_that_are_left_alone_are_passed_over(journal):
    wanted = {"a": ("pacs",), "b": ("pacs", "disk"), "c": (), "d": ("disk",)}
    jobs = {}
    for name, receivers in wanted.items():
        jobs[name], _ = journal.jobs.submit(replace(ASKED, digest=name, receivers=receivers), who="a")
    [_, disk] = journal.deliveries.of(jobs["b"].id)
    journal.deliveries.tell(disk.id, "confirmed")
    taken = [journal.jobs.take("queued", "s", unless_for=["pacs"]) for _ in range(3)]
    assert [job and job.id for job in taken] == [jobs["c"].id, jobs["d"].id, None]
    assert journal.jobs.take("queued", "s", unless_for=["disk"]).id == jobs["a"].id
    assert journal.jobs.take("queued", "s").id == jobs["b"].id


def test_what_was_refused_by_a_receiver_is_only_sent_again(journal):
    job, _ = journal.jobs.submit(replace(ASKED, receivers=("pacs", "disk")), who="a")
    journal.jobs.take("queued", "w", becomes="running")
    for state in ("written", "proven"):
        journal.jobs.move(job.id, "w", state, keep=True)
    pacs, disk = journal.deliveries.of(job.id)
    journal.deliveries.tell(pacs.id, "refused", "no room for it", tried=True)
    journal.deliveries.tell(disk.id, "confirmed")
    journal.jobs.move(job.id, "w", "failed", reason_code="refused-by-receiver", reason="pacs")
    assert journal.jobs.retry(job.id, "me") == "proven"
    assert [one.state for one in journal.deliveries.of(job.id)] == ["waiting", "confirmed"]


def test_a_route_that_is_refused_fails_alone_and_is_routed_anew(journal):
    job, _ = journal.jobs.submit(replace(ARRIVED, arrival=arrive(journal, 1)), who="CT")
    taken = journal.jobs.take("received", "clerk")
    liver, lung = (replace(ARRIVED, route=name, arrival=taken.arrival) for name in ("liver", "lung"))
    asked = [liver, replace(lung, model="/m/lung")]
    first, second = journal.jobs.route(taken, "clerk", asked, "2 match", {"liver": ("missing-slices", "a gap")})
    assert (first.id, first.state, first.reason_code, first.reason) == (job.id, "failed", "missing-slices", "a gap")
    assert (second.state, second.route) == ("queued", "lung")
    assert journal.jobs.retry(first.id, "me") == "received"
    again = journal.jobs.take("received", "clerk")
    assert again.route == "liver"
    journal.jobs.cancel(again.id, "me")
    assert journal.jobs.route(again, "clerk", [replace(liver, model="/m")], "") == []
    assert journal.jobs.get(again.id).state == "cancelled"


def test_a_job_that_is_routed_anew_goes_to_whom_the_site_names_now(journal):
    job, _ = journal.jobs.submit(ARRIVED, who="CT")
    liver = replace(ARRIVED, route="liver", receivers=("wrong", "disk"))
    refused = {"liver": ("model", "not installed")}
    journal.jobs.route(journal.jobs.take("received", "clerk"), "clerk", [liver], "1 matches", refused)
    [_, disk] = journal.deliveries.of(job.id)
    journal.jobs.retry(job.id, "me")
    now = replace(liver, model="/m", receivers=("right", "disk"))
    journal.jobs.route(journal.jobs.take("received", "clerk"), "clerk", [now], "1 matches")
    found = journal.deliveries.of(job.id)
    assert {one.receiver: one.state for one in found} == {"right": "waiting", "disk": "waiting"} and disk in found


def test_jobs_are_found(journal):
    for name in ("anna", "b_rta", "brta"):
        identity = Identity(patient_id=f"ID-{name}")
        journal.jobs.submit(replace(ASKED, case=name, digest=name, identity=identity), who="a")
    assert [job.case for job in journal.jobs.find()] == ["brta", "b_rta", "anna"]
    assert [job.case for job in journal.jobs.find(text="B_R")] == ["b_rta"]
    assert [job.case for job in journal.jobs.find(text="id-anna")] == ["anna"]
    assert [job.case for job in journal.jobs.find(limit=1, before=3)] == ["b_rta"]
    assert journal.jobs.find(states=["done"]) == [] and len(journal.jobs.find(states=["queued", "done"])) == 3


def test_the_audit_log(journal):
    journal.audit.add("anna", "cancel", "job 3")
    journal.audit.add("CT1", "association", "", "refused: not allowed")
    [(number, first), (_, second)] = journal.audit.entries()
    assert (first.who, first.what, first.about, first.outcome) == ("anna", "cancel", "job 3", "done")
    assert [entry for _, entry in journal.audit.entries(after=number)] == [second]


def test_every_state_can_be_reached_and_left():
    assert set(NEXT) == set(STATES)
    reached = {"received", "queued"}
    for _ in STATES:
        reached |= {state for one in reached for state in NEXT[one]}
    assert reached == set(STATES)
    ways = {state: NEXT[state] for state in STATES if state not in ENDS}
    assert all(ways.values()) and not NEXT["done"]


STEPS = st.lists(
    st.sampled_from(["take", "written", "proven", "sent", "done", "failed", "back", "died", "cancel", "retry"]),
    max_size=30,
)


@settings(deadline=None, max_examples=40)
@given(STEPS)
def test_whatever_happens_the_record_is_one_way_through_the_states(tmp_path_factory, steps):
    journal = Journal(tmp_path_factory.mktemp("law") / "journal.sqlite")
    job = journal.jobs.submit(ASKED, who="a")[0].id
    for step in steps:
        try:
            if step == "take":
                journal.jobs.take("queued", "w", becomes="running")
            elif step in STATES:
                journal.jobs.move(job, "w", step, keep=True)
            elif step == "back":
                journal.jobs.give_back(job, "w", "error", "x")
            elif step == "died":
                journal.jobs.take_back("w", "watch")
            else:
                getattr(journal.jobs, step)(job, "me")
        except (Lost, Refusal, RuntimeError):
            continue
    path = states(journal, job)
    for one, after in pairwise(path):
        assert one == after or after in NEXT[one]
    now = journal.jobs.get(job)
    assert now.state == path[-1] and sum(journal.jobs.counts().values()) == 1
    assert (now.state in ("running", "written")) <= (now.owner == "w")
    journal.close()


def test_a_change_that_was_made_outlives_its_process(tmp_path):
    script = (
        "import sys\nfrom medseg.service.journal import Journal\nfrom medseg.service.journal.job import Asked\n"
        "journal = Journal(sys.argv[1])\n"
        "for n in range(100000):\n"
        "    journal.jobs.submit(Asked({'all': 'x'}, str(n), 'c', 'm'), who='a')\n    print(n, flush=True)\n"
    )
    path = tmp_path / "journal.sqlite"
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    assert child.stdout
    said = [int(child.stdout.readline()) for _ in range(20)]
    os.kill(child.pid, signal.SIGKILL)
    said += [int(line) for line in child.stdout if line.endswith("\n")]
    child.wait(timeout=60)
    journal = Journal(path)
    found = {int(job.digest) for job in journal.jobs.find()}
    assert found >= set(said) and len(found) <= len(said) + 1
    journal.close()


def test_steps_of_the_schema_lead_to_the_tables(journal):
    with journal.database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_a_journal_of_a_later_version_is_refused(where):
    journal = Journal(where)
    with journal.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    journal.close()
    with pytest.raises(Refusal, match="version 9999"):
        Journal(where)


def test_what_is_no_journal_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no database\n" * 100)
    with pytest.raises(Refusal, match=r"notes\.txt"):
        Journal(tmp_path / "notes.txt")
    for address in ("mysql://host/name", "no address://"):
        with pytest.raises(Refusal, match="postgresql://"):
            Journal(address)


@pytest.mark.parametrize("passes", ["secret", "s%40cret"])
def test_a_password_is_not_shown(passes):
    with pytest.raises(Refusal) as refused:
        Journal(f"postgresql://medseg:{passes}@127.0.0.1:1/x")
    assert passes not in str(refused.value) and "127.0.0.1" in str(refused.value)
