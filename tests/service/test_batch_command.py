"""`medseg batch` and `medseg jobs`: every input is answered for, once, and the table adds up."""

from __future__ import annotations

import csv
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from medseg.cores import available_cores
from medseg.dicom import archive, survey, sweep
from medseg.dicom.preflight import Verdict
from medseg.dicom.settings import DicomSettings
from medseg.refusal import Refusal
from medseg.service.journal import Journal
from medseg.service.journal.job import Asked, Job
from medseg.service.work import batch as batches
from medseg.service.work import summary
from tests import reference, tiny
from tests.service import site as sites
from tests.tiny import Said, medseg_command

FAST = ("--device", "cpu", "--threads", 1, "--workers", 1)


@pytest.fixture(autouse=True)
def importable(monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tiny.ROOT))


def batch(model: Path, *words: object) -> Said:
    return medseg_command("batch", model, *words, *FAST)


def lines(out: Path) -> dict[str, dict[str, str]]:
    with (out / "jobs.csv").open(newline="", encoding="utf-8") as handle:
        return {line["case"]: line for line in csv.DictReader(handle)}


def began(out: Path) -> int:
    journal = Journal(out / "journal.sqlite")
    found = sum(event.state == "running" and event.what.startswith("begun") for _, event in journal.jobs.events())
    journal.close()
    return found


def test_what_is_done_is_not_done_again_and_what_failed_only_when_asked(model, tmp_path, capfd):
    for seed, name in enumerate("ab"):
        sites.scan(tmp_path / "in" / f"{name}.nii.gz", seed)
    (tmp_path / "in" / "c.nii.gz").write_bytes(b"no scan")
    out = tmp_path / "out"
    first = batch(model, tmp_path / "in", out)
    assert first.code == 1, first
    assert logging.getLogger("medseg.service").level == logging.NOTSET, "quiet for as long as the command lasts"
    assert '"level": "info"' not in capfd.readouterr().err, "the workers' log is for machines; people have progress"
    assert [line.split()[:2] for line in first.out.splitlines()[:3]] == [["2", "done"], ["1", "failed:"], ["3", "in"]]
    assert {name: line["became"] for name, line in lines(out).items()} == {"a": "done", "b": "done", "c": "failed"}
    assert lines(out)["c"]["code"] in first.out and lines(out)["c"]["reason"].startswith(str(tmp_path / "in"))
    assert (out / "a.nii.gz").is_file() and began(out) == 3
    assert batch(model, tmp_path / "in", out).out == first.out and began(out) == 3
    sites.scan(tmp_path / "in" / "c.nii.gz")
    again = batch(model, tmp_path / "in", out)
    assert again.code == 0 and began(out) == 4, "c is another file now"
    (out / "a.nii.gz").unlink()
    gone = batch(model, tmp_path / "in", out, "--retry")
    assert gone.code == 1 and "1  results gone" in gone.out and lines(out)["a"]["became"] == summary.GONE


@pytest.mark.slow
def test_a_batch_that_was_killed_goes_on_where_it_was(model, tmp_path):
    for name in ("a", "once", "z"):
        sites.scan(tmp_path / "in" / f"{name}.nii.gz")
    out, words = tmp_path / "out", [model, tmp_path / "in", tmp_path / "out", "--output", "tests.service.poison", *FAST]
    command = [sys.executable, "-m", "medseg", "batch", *map(str, words)]
    child = subprocess.Popen(command, env=tiny.ENVIRONMENT, stderr=subprocess.PIPE)
    try:
        sites.until((out / "once.begun").exists)
    finally:
        child.kill()
        child.communicate(timeout=sites.PATIENCE_S)
    again = subprocess.run(command, env=tiny.ENVIRONMENT, capture_output=True, text=True, timeout=sites.PATIENCE_S)
    assert again.returncode == 0 and "3  done" in again.stdout, again
    assert began(out) == 4 and not list((out / "work").iterdir()) and not (out / ".staging").exists()


@pytest.mark.slow
def test_a_batch_that_is_interrupted_says_what_waits(model, tmp_path):
    for name in ("a", "b"):
        sites.scan(tmp_path / "in" / f"{name}.nii.gz", shape=(96, 96, 96))
    out, words = tmp_path / "out", [model, tmp_path / "in", tmp_path / "out", "--set", "overlap=0.9", *FAST]
    command = [sys.executable, "-m", "medseg", "batch", *map(str, words)]
    child = subprocess.Popen(command, env=tiny.ENVIRONMENT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        sites.until((out / "journal.sqlite").exists)
        journal = Journal(out / "journal.sqlite")
        sites.until(lambda: any(job.share > 0 for job in journal.jobs.find()))
        child.send_signal(signal.SIGTERM)
        said, errors = child.communicate(timeout=sites.PATIENCE_S)
    finally:
        child.kill()
    assert child.returncode not in (0, 1) and "2  waiting" in said and "Traceback" not in errors, (said, errors)
    assert {(job.state, job.attempts, job.owner) for job in journal.jobs.find()} == {("queued", 0, None)}
    journal.close()


def test_a_case_does_not_take_the_place_of_another(model, tmp_path):
    one, other = (sites.scan(tmp_path / name / "a.nii.gz") for name in ("one", "other"))
    kept = batches.Batch(model, tmp_path / "out", batches.Parameters())
    journal = Journal(tmp_path / "out" / "journal.sqlite")
    [first] = batches.submit(kept, journal, batches_inputs(one), who="me")
    with pytest.raises(Refusal, match=r"the name a, which .*one"):
        batches.submit(kept, journal, batches_inputs(other), who="me")
    better = batches.Batch(model, tmp_path / "out", batches.Parameters(quality="best"))
    [second] = batches.submit(better, journal, batches_inputs(one), who="me")
    assert (journal.jobs.get(first).state, journal.jobs.get(second).state) == ("cancelled", "queued")
    journal.close()


def batches_inputs(path: Path) -> list[batches.Input]:
    return (batches.Input("a", {"all": str(path)}, ("facts of", str(path))),)


def test_another_model_under_the_same_name_makes_other_jobs(tmp_path):
    kept = batches.Batch(tmp_path / "run", tmp_path / "out", batches.Parameters())
    prints = []
    for seed in (0, 1):
        if seed:
            (tmp_path / "run").rename(tmp_path / "former")
        tiny.untrained_run(tmp_path / "run", seed=seed)
        prints.append(kept.fingerprint())
    assert prints[0] != prints[1]


def test_the_journal_of_a_site_is_no_place_for_a_batch(model, tmp_path):
    journal = Journal(tmp_path / "journal.sqlite")
    journal.jobs.submit(Asked({"all": "x"}, "d", "c", route="liver"), who="CT")
    with pytest.raises(Refusal, match="the journal of a site"):
        batches.submit(batches.Batch(model, tmp_path, batches.Parameters()), journal, [], who="me")
    journal.close()


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are Unicode there")
@pytest.mark.parametrize("which", ["model", "results"])
def test_a_path_that_the_journal_cannot_hold_is_refused(which, model, tmp_path):
    """It would be another one in the journal, and results would go into another folder."""
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    run, out = (odd, tmp_path / "out") if which == "model" else (model, odd)
    done = batch(run, sites.scan(tmp_path / "a.nii.gz"), out)
    assert done.code and "found a name that is no UTF-8" in done.err and not odd.exists()


@pytest.mark.slow
@pytest.mark.parametrize("folder", [pytest.param(reference.ROOT / "dicom", marks=reference.needed, id="dicom")])
def test_every_series_of_the_reference_scans_ends_and_what_preflight_calls_good_is_done(folder, model, tmp_path):
    out = tmp_path / "out"
    said = batch(model, folder, out, "--ahead")
    assert "Traceback" not in said.out + said.err
    journal = Journal(out / "journal.sqlite")
    jobs = journal.jobs.find()
    journal.close()
    looked = survey.check(sweep.look(list(archive.files(folder)), workers=available_cores()), DicomSettings())
    ended: dict[str, list[Job]] = {}
    for job in jobs:
        ended.setdefault(job.identity.series_uid, []).append(job)
    for one in looked.series:
        verdicts = [volume.verdict for volume in one.volumes]
        assert len(ended[one.head.series_uid]) == len(verdicts)
        if all(verdict is Verdict.GOOD for verdict in verdicts):
            assert {job.state for job in ended[one.head.series_uid]} == {"done"}, one.series.text
    assert all(job.state == "done" or (job.state == "failed" and job.reason_code and job.reason) for job in jobs)
    assert sum(row["count"] for row in summary.counts(jobs)) == len(jobs) > 20
    assert any(summary.became(job) == "repaired" for job in jobs)


# medseg jobs


@pytest.fixture
def journal(tmp_path):
    """Of a site: jobs in several states."""
    (tmp_path / "site.yaml").write_text("name: test\n")
    opened = Journal(tmp_path / "data" / "journal.sqlite")
    yield opened
    opened.close()


def job(journal: Journal, name: str, *states: str, **facts: object) -> int:
    asked = Asked({"all": f"/in/{name}"}, name, name, "/m", route="liver", receivers=("pacs",), hold=("fail",))
    made = journal.jobs.submit(asked, who="CT")[0].id
    if states:
        assert journal.jobs.take("queued", "w", becomes="running").id == made
    for state in states[1:]:
        journal.jobs.move(made, "w", state, keep=True, **facts if state == states[-1] else {})
    if len(states) > 1:
        journal.jobs.give_back(made, "w", counts=False) if states[-1] == "held" else None
    return made


def test_jobs_are_listed_explained_and_counted(journal, tmp_path):
    good = job(journal, "good", "running", "written", "proven", "sent", "done")
    bad = job(journal, "bad", "running", "failed", reason_code="unproven", reason="cut off:\n series 1\n series 2")
    job(journal, "later")
    site = tmp_path / "site.yaml"
    listed = medseg_command("jobs", "list", site)
    assert [line.split()[:3] for line in listed.out.splitlines()] == [
        ["3", "queued", "later"],
        ["2", "failed", "bad"],
        ["1", "done", "good"],
    ]
    assert "unproven: cut off: ..." in listed.out
    only = json.loads(medseg_command("jobs", "list", site, "--state", "failed", "--json").out)
    assert [one["id"] for one in only] == [bad]
    assert medseg_command("jobs", "list", site, "--state", "faild").code == 2
    shown = medseg_command("jobs", "show", site, bad).out
    assert "a result could not be read back as it was written" in shown and "cut off" in shown and "to pacs" in shown
    assert json.loads(medseg_command("jobs", "show", site, good, "--json").out)["events"][-1]["state"] == "done"
    counted = medseg_command("jobs", "summary", site).out.splitlines()
    assert [line.split()[:2] for line in counted[:4]] == [
        ["1", "done"],
        ["1", "failed:"],
        ["1", "waiting"],
        ["3", "in"],
    ]


HELD = ("running", "written", "proven", "held")


def test_jobs_are_tried_again_cancelled_and_released(journal, tmp_path):
    site = tmp_path / "site.yaml"
    bad = [job(journal, name, "running", "failed", reason_code="error", reason="x") for name in ("one", "two")]
    held = job(journal, "held", *HELD)
    journal.jobs.submit(Asked({"all": "/in/w"}, "w", "waiting", "/m"), who="CT")
    dry = medseg_command("jobs", "retry", site, "--state", "failed", "--dry-run")
    assert "2 jobs, nothing was changed" in dry.out and journal.jobs.get(bad[0]).state == "failed"
    assert medseg_command("jobs", "retry", site, bad[0]).code == 0 and journal.jobs.get(bad[0]).state == "queued"
    assert medseg_command("jobs", "retry", site, "--state", "failed").out.endswith("1 jobs\n")
    assert medseg_command("jobs", "retry", site).code == medseg_command("jobs", "retry", site, bad[0]).code == 2
    assert medseg_command("jobs", "release", site, held).code == 0 and journal.jobs.get(held).state == "proven"
    assert medseg_command("jobs", "cancel", site, bad[0], bad[1]).code == 0
    assert {journal.jobs.get(one).state for one in bad} == {"cancelled"}
    done = [(entry.what, entry.about) for _, entry in journal.audit.entries()]
    assert ("release", f"job {held}") in done and done.count(("retry", f"job {bad[0]}")) == 1


def test_a_journal_is_not_made_by_looking_for_it(tmp_path):
    for where in (tmp_path, tmp_path / "journal.sqlite"):
        said = medseg_command("jobs", "list", where)
        assert said.code == 2 and "no journal" in said.err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("state", sorted(summary.BAD | {"queued", "running", "written", "proven", "sent", "held"}))
def test_no_state_but_done_counts_as_done(state, journal):
    made = journal.jobs.get(job(journal, "a"))
    ended = made.__class__(**(made.__dict__ | {"state": state}))
    assert not summary.is_good(ended) and summary.counts([ended])[0]["became"] not in summary.GOOD


def test_one_that_cannot_be_changed_does_not_keep_others_from_it(journal, tmp_path):
    journal.jobs.submit(Asked({"all": "/in/gone"}, "gone", "gone"), who="CT")
    gone = journal.jobs.take("received", "clerk")
    journal.jobs.move(gone.id, "clerk", "failed", reason_code="lost-input", reason="some files are gone")
    bad = job(journal, "bad", "running", "failed", reason_code="error", reason="x")
    said = medseg_command("jobs", "retry", tmp_path / "site.yaml", "--state", "failed")
    assert (said.code, said.out.splitlines()[-1]) == (2, "1 jobs") and f"job {gone.id}" in said.err
    assert [journal.jobs.get(one).state for one in (gone.id, bad)] == ["failed", "queued"]
    assert [entry.about for _, entry in journal.audit.entries() if entry.what == "retry"] == [f"job {bad}"]
    for what, state in (("cancel", "cancelled"), ("release", "proven")):
        other = bad if what == "cancel" else job(journal, "held", *HELD)
        said = medseg_command("jobs", what, tmp_path / "site.yaml", gone.id, other)
        assert said.code == 2 and f"job {gone.id}" in said.err and journal.jobs.get(other).state == state
