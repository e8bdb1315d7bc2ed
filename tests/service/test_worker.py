"""The worker: what becomes of a job, whatever happens while it is worked on."""

from __future__ import annotations

import errno
import hashlib
import time
from pathlib import Path

import nibabel as nib
import pydicom
import pytest

from medseg.engine import memory
from medseg.engine.predict import Predictor
from medseg.service.journal import Journal
from medseg.service.work import parameters, proof, worker
from medseg.service.work.parameters import Parameters
from medseg.service.work.worker import Worker
from tests import dicom_sources, tiny
from tests.service import site as sites


@pytest.fixture
def journal(tmp_path) -> Journal:
    """In SQLite alone; the journal's own tests hold it against PostgreSQL."""
    opened = Journal(tmp_path / "data" / "journal.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def loads(monkeypatch) -> list[Predictor]:
    """Models that were loaded, each time that one was."""
    load, found = Predictor.load, []
    monkeypatch.setattr(Predictor, "load", lambda *words, **more: found.append(load(*words, **more)) or found[-1])
    return found


def states(journal: Journal, job: int) -> list[str]:
    return [event.state for _, event in journal.jobs.events(job)]


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_job_ends_proven_with_files_whose_bytes_are_on_record(journal, model, tmp_path):
    asked = sites.asked(model, sites.scan(tmp_path / "a.nii.gz"), tmp_path / "out")
    job = sites.submitted(journal, asked)
    post = Worker(sites.site(tmp_path), journal, "w")
    assert post.step() and not post.step()
    done = journal.jobs.get(job.id)
    assert states(journal, job.id) == ["received", "queued", "running", "written", "proven"]
    assert (done.state, done.owner, done.attempts, done.share) == ("proven", None, 1, 1.0)
    assert files(tmp_path / "out") == {"a.nii.gz"} == set(done.files)
    assert done.files["a.nii.gz"] == hashlib.sha256((tmp_path / "out" / "a.nii.gz").read_bytes()).hexdigest()
    assert nib.load(tmp_path / "out" / "a.nii.gz").shape == (16, 16, 16)
    assert set(done.facts["volume_ml"]) == {"left", "right"} and done.facts["seconds"] > 0


def test_a_job_without_a_folder_gets_one_of_its_own(journal, model, tmp_path):
    asked = sites.asked(model, sites.scan(tmp_path / "a.nii.gz"), Path())
    job = sites.submitted(journal, asked.__class__(**(asked.__dict__ | {"out": ""})))
    assert Worker(sites.site(tmp_path), journal, "w").step()
    out = tmp_path / "data" / "results" / str(job.id)
    assert journal.jobs.get(job.id).out == str(out) and files(out) == {"a.nii.gz"}


@pytest.mark.parametrize("ahead", [False, True])
def test_one_that_is_refused_does_not_stop_the_others_of_its_row(ahead, journal, model, loads, tmp_path, caplog):
    caplog.set_level("INFO")
    (tmp_path / "b.nii.gz").write_bytes(b"no scan")
    scans = [sites.scan(tmp_path / "a.nii.gz"), tmp_path / "b.nii.gz", sites.scan(tmp_path / "c.nii.gz")]
    jobs = [sites.submitted(journal, sites.asked(model, path, tmp_path / "out")) for path in scans]
    post = Worker(sites.site(tmp_path, ahead=ahead), journal, "w")
    assert post.step() and not post.step()
    ends = [journal.jobs.get(job.id) for job in jobs]
    assert [job.state for job in ends] == ["proven", "failed", "proven"] and len(loads) == 1
    assert ends[1].reason_code == "refused" and "b.nii.gz" in ends[1].reason
    ended = [one.facts for one in caplog.records if one.getMessage() == "a case has ended"]
    assert sorted(one.get("why", "") for one in ended) == ["", "", "refused"]
    assert files(tmp_path / "out") == {"a.nii.gz", "c.nii.gz"}


def test_a_second_attempt_writes_the_same_identifiers(journal, model, tmp_path):
    scan = dicom_sources.ct(tmp_path / "ct")
    asked = sites.asked(model, scan, tmp_path / "out", parameters=Parameters(outputs=("dicom_seg",)).to_json())
    job = sites.submitted(journal, asked)
    post, uids = Worker(sites.site(tmp_path), journal, "w"), []
    for _ in range(2):
        assert post.step(), journal.jobs.get(job.id).reason
        assert journal.jobs.get(job.id).state == "proven", journal.jobs.get(job.id).reason
        uids.append(pydicom.dcmread(tmp_path / "out" / "ct.seg.dcm").SOPInstanceUID)
        journal.jobs.take("proven", "s")
        journal.jobs.move(job.id, "s", "failed")
        journal.jobs.retry(job.id, "me")
    assert uids[0] == uids[1]


@pytest.mark.parametrize("when", ["before", "while it is read"])
def test_an_input_that_is_gone_is_said_to_be(when, journal, model, tmp_path, monkeypatch):
    scan = sites.scan(tmp_path / "gone.nii.gz")
    job = sites.submitted(journal, sites.asked(model, scan, tmp_path / "out"))

    def losing(self, case, **options):
        scan.unlink()
        raise OSError(errno.EIO, "no such disk")

    if when == "before":
        scan.unlink()
    else:
        monkeypatch.setattr(Predictor, "read_scan", losing)
    Worker(sites.site(tmp_path), journal, "w").step()
    assert (journal.jobs.get(job.id).state, journal.jobs.get(job.id).reason_code) == ("failed", "lost-input")


def test_a_model_that_cannot_be_loaded_fails_its_jobs_and_no_others(journal, model, tmp_path):
    path = sites.scan(tmp_path / "a.nii.gz")
    (tmp_path / "no-run").mkdir()
    bad = sites.submitted(journal, sites.asked(tmp_path / "no-run", path, tmp_path / "bad"))
    good = sites.submitted(journal, sites.asked(model, path, tmp_path / "good"))
    post = Worker(sites.site(tmp_path), journal, "w")
    while post.step():
        pass
    assert (journal.jobs.get(bad.id).state, journal.jobs.get(bad.id).reason_code) == ("failed", "model")
    assert journal.jobs.get(good.id).state == "proven"


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_model_that_is_away_is_looked_for_again_later(comes_back, journal, tmp_path, monkeypatch):
    tiny.untrained_run(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "away")
    job = sites.submitted(journal, sites.asked(tmp_path / "run", sites.scan(tmp_path / "a.nii.gz"), tmp_path / "out"))
    post = Worker(sites.site(tmp_path), journal, "w")
    assert post.step() and not post.step(), "not at once"
    waiting = journal.jobs.get(job.id)
    assert (waiting.state, waiting.reason_code) == ("queued", "model") and waiting.not_before > time.time() + 30
    later = time.time() + 3000
    monkeypatch.setattr(time, "time", lambda: later)
    if comes_back:
        (tmp_path / "away").rename(tmp_path / "run")
    monkeypatch.setattr(worker, "AWAY_S", 0.0)
    while post.step():
        pass
    assert journal.jobs.get(job.id).state == ("proven" if comes_back else "quarantined")


def test_only_so_many_models_stay_loaded(journal, model, loads, tmp_path):
    path = sites.scan(tmp_path / "a.nii.gz")
    post = Worker(sites.site(tmp_path, models=2), journal, "w")
    for number, quality in enumerate(["fast", "standard", "fast", "best", "fast", "standard"]):
        asked = sites.asked(model, path, tmp_path / str(number), parameters=Parameters(quality=quality).to_json())
        sites.submitted(journal, asked.__class__(**(asked.__dict__ | {"digest": str(number)})))
        assert post.step()
    assert len(loads) == 4, "fast stays, standard is dropped for best and loaded anew"
    assert len(post._loaded._benches) == 2


@pytest.mark.parametrize("becomes", ["another", "none"])
def test_a_model_that_is_replaced_under_its_path_is_not_used_any_more(becomes, journal, loads, tmp_path):
    tiny.untrained_run(tmp_path / "run")
    post, jobs = Worker(sites.site(tmp_path), journal, "w"), []
    for name in "abc":
        if name == "c":
            (tmp_path / "run").rename(tmp_path / "former")
        if name == "c" and becomes == "another":
            tiny.untrained_run(tmp_path / "run", seed=1)
        asked = sites.asked(tmp_path / "run", sites.scan(tmp_path / f"{name}.nii.gz"), tmp_path / "out")
        jobs.append(sites.submitted(journal, asked))
        assert post.step()
    states = [journal.jobs.get(job.id) for job in jobs]
    if becomes == "none":
        assert [job.state for job in states] == ["proven", "proven", "queued"] and states[2].reason_code == "model"
        return
    assert [job.state for job in states] == ["proven"] * 3
    assert len({one.provenance["weights sha256"] for one in loads}) == len(loads) == 2


def test_a_coarse_model_that_is_replaced_is_not_used_any_more(journal, loads, model, tmp_path):
    tiny.untrained_run(tmp_path / "coarse", spacing=(4, 4, 4))
    look = Parameters(labels=("left",), changes=(f"coarse={tmp_path / 'coarse'}",)).to_json()
    post = Worker(sites.site(tmp_path), journal, "w")
    for name in "abc":
        if name == "c":
            (tmp_path / "coarse").rename(tmp_path / "former")
            tiny.untrained_run(tmp_path / "coarse", spacing=(4, 4, 4), seed=1)
        sites.submitted(
            journal, sites.asked(model, sites.scan(tmp_path / f"{name}.nii.gz"), tmp_path / "out", parameters=look)
        )
        assert post.step()
    assert len({one.provenance["coarse weights sha256"] for one in loads if one.coarse}) == 2 == len(loads) // 2


def test_a_row_ends_where_its_model_is_replaced(journal, loads, tmp_path, monkeypatch):
    tiny.untrained_run(tmp_path / "run")
    scans = [sites.scan(tmp_path / f"{name}.nii.gz") for name in "ab"]
    jobs = [sites.submitted(journal, sites.asked(tmp_path / "run", path, tmp_path / "out")) for path in scans]
    predict = Predictor.predict

    def replacing(self, *words, **options):
        if not (tmp_path / "former").exists():
            (tmp_path / "run").rename(tmp_path / "former")
            tiny.untrained_run(tmp_path / "run", seed=1)
        return predict(self, *words, **options)

    monkeypatch.setattr(Predictor, "predict", replacing)
    post = Worker(sites.site(tmp_path, ahead=False), journal, "w")
    assert post.step()
    assert [journal.jobs.get(job.id).state for job in jobs] == ["proven", "queued"]
    assert post.step() and len(loads) == 2
    assert (journal.jobs.get(jobs[1].id).state, journal.jobs.get(jobs[1].id).attempts) == ("proven", 1)


def test_another_series_of_a_study_needs_no_other_model():
    asked = sites.asked(Path("m"), Path("a"), Path("o"))
    one, other = (
        asked.__class__(**(asked.__dict__ | {"parameters": Parameters(series=uid).to_json()})) for uid in ("1", "2")
    )
    assert one.kind == other.kind and one.key != other.key


def failing(monkeypatch, errors: list[Exception | None]) -> list[Predictor]:
    """Each prediction fails with the next error; says which predictors were asked."""
    asked, predict = [], Predictor.predict

    def instead(self, *words, **options):
        asked.append(self)
        error = errors.pop(0) if errors else None
        if error:
            raise error
        return predict(self, *words, **options)

    monkeypatch.setattr(Predictor, "predict", instead)
    return asked


def test_a_case_that_runs_out_of_memory_gets_a_lower_plan_each_time(journal, model, tmp_path, monkeypatch):
    job = sites.submitted(journal, sites.asked(model, sites.scan(tmp_path / "a.nii.gz"), tmp_path / "out"))
    asked = failing(monkeypatch, [MemoryError(), MemoryError()])
    monkeypatch.setattr(memory, "available", lambda: 9 * memory.GIB)
    monkeypatch.setattr(memory, "resident", lambda: memory.GIB)
    post = Worker(sites.site(tmp_path), journal, "w")
    for _ in range(3):
        assert post.step()
    limits = [predictor.limits.host for predictor in asked]
    assert limits == [None, 5 * memory.GIB, 3 * memory.GIB], "what it has, and half or a quarter of what is free"
    assert journal.jobs.get(job.id).state == "proven" and journal.jobs.get(job.id).reason_code == ""


def test_memory_that_never_suffices_puts_the_job_aside(journal, model, tmp_path, monkeypatch):
    job = sites.submitted(journal, sites.asked(model, sites.scan(tmp_path / "a.nii.gz"), tmp_path / "out"))
    failing(monkeypatch, [MemoryError()] * 9)
    post = Worker(sites.site(tmp_path, tries=2), journal, "w")
    assert post.step() and post.step() and not post.step()
    assert (journal.jobs.get(job.id).state, journal.jobs.get(job.id).reason_code) == ("quarantined", "memory")


def test_a_job_that_was_begun_before_is_done_alone(journal, model, tmp_path, monkeypatch):
    jobs = [
        sites.submitted(journal, sites.asked(model, sites.scan(tmp_path / f"{name}.nii.gz"), tmp_path / "out"))
        for name in "abc"
    ]
    failing(monkeypatch, [RuntimeError("once")])
    post = Worker(sites.site(tmp_path), journal, "w")
    assert post.step(), "a, b and c in a row: a fails"
    assert [journal.jobs.get(job.id).state for job in jobs] == ["queued", "proven", "proven"]
    later = sites.submitted(journal, sites.asked(model, sites.scan(tmp_path / "d.nii.gz"), tmp_path / "out"))
    assert post.step(), "a again, alone"
    assert [journal.jobs.get(one).state for one in (jobs[0].id, later.id)] == ["proven", "queued"]


def test_a_full_disk_costs_no_attempt_and_makes_the_worker_wait(journal, model, tmp_path, monkeypatch):
    job = sites.submitted(journal, sites.asked(model, sites.scan(tmp_path / "a.nii.gz"), tmp_path / "out"))
    failing(monkeypatch, [OSError(errno.ENOSPC, "full")] * 5)
    monkeypatch.setattr(worker, "FIRST_PAUSE_S", 0.01)
    post, steps = Worker(sites.site(tmp_path, tries=1), journal, "w"), []
    sites.until(lambda: journal.jobs.get(job.id).state == "proven", lambda: steps.append(post.step()))
    assert journal.jobs.get(job.id).attempts == 1 and steps.count(True) == 6 and False in steps


def test_a_case_too_large_for_the_disk_does_not_keep_others_waiting(journal, model, tmp_path, monkeypatch):
    scans = [sites.scan(tmp_path / f"{name}.nii.gz") for name in ("large", "a", "b")]
    jobs = [sites.submitted(journal, sites.asked(model, path, tmp_path / "out")) for path in scans]
    failing(monkeypatch, [OSError(errno.ENOSPC, "full")])
    monkeypatch.setattr(worker, "FIRST_PAUSE_S", 60.0)
    for name in ("paused now", "another"):
        assert Worker(sites.site(tmp_path), journal, name).step()
    assert [journal.jobs.get(job.id).state for job in jobs] == ["queued", "proven", "proven"]
    assert journal.jobs.get(jobs[0].id).attempts == 0


def test_a_result_that_cannot_be_read_back_is_never_proven(journal, model, tmp_path, monkeypatch):
    job = sites.submitted(journal, sites.asked(model, sites.scan(tmp_path / "a.nii.gz"), tmp_path / "out"))
    hashed = proof.sha256

    def spoilt(path: Path) -> str:
        found = hashed(path)
        if path.parent.parent.name == worker.STAGING:
            path.write_bytes(path.read_bytes()[:-40])
        return found

    monkeypatch.setattr(proof, "sha256", spoilt)
    post = Worker(sites.site(tmp_path, tries=2), journal, "w")
    assert post.step() and post.step() and not post.step()
    assert (journal.jobs.get(job.id).state, journal.jobs.get(job.id).reason_code) == ("quarantined", "unproven")
    assert "proven" not in states(journal, job.id)


def test_what_no_reader_takes_is_not_proven_either(model, tmp_path):
    bench = worker.Loaded(sites.site(tmp_path).work, worker.at_its_path).bench(
        Journal(tmp_path / "j.sqlite").jobs.submit(sites.asked(model, tmp_path / "a", tmp_path), who="a")[0]
    )
    (tmp_path / "a.nii.gz").write_bytes(b"not one")
    sums = {"a.nii.gz": proof.sha256(tmp_path / "a.nii.gz")}
    with pytest.raises(proof.Unproven, match=r"a\.nii\.gz cannot be read back"):
        proof.prove(tmp_path, "a", bench.outputs, sums)


@pytest.mark.parametrize("ahead", [False, True])
def test_a_job_that_is_cancelled_while_it_runs_ends_and_the_others_go_on(ahead, journal, model, tmp_path, monkeypatch):
    large = sites.scan(tmp_path / "a.nii.gz", shape=(96, 96, 96))
    changes = Parameters(changes=("overlap=0.9",)).to_json()
    paths = [large, sites.scan(tmp_path / "b.nii.gz")]
    jobs = [sites.submitted(journal, sites.asked(model, path, tmp_path / "out", parameters=changes)) for path in paths]
    beat, asked = type(journal.jobs).beat, []

    def cancelling(self, job, owner, **more):
        if job == jobs[0].id and not asked:
            asked.append(self.cancel(job, "me"))
        return beat(self, job, owner, **more)

    monkeypatch.setattr(type(journal.jobs), "beat", cancelling)
    post = Worker(sites.site(tmp_path, ahead=ahead), journal, "w")
    while post.step():
        pass
    assert [journal.jobs.get(job.id).state for job in jobs] == ["cancelled", "proven"]
    assert files(tmp_path / "out") == {"b.nii.gz"} and not (tmp_path / "out" / worker.STAGING).exists()


def test_a_job_that_is_cancelled_while_its_results_are_written_is_not_sent(journal, model, tmp_path, monkeypatch):
    job = sites.submitted(journal, sites.asked(model, sites.scan(tmp_path / "a.nii.gz"), tmp_path / "out"))
    prove = proof.prove

    def cancelling(*words):
        assert journal.jobs.cancel(job.id, "anna") == "written"
        prove(*words)

    monkeypatch.setattr(proof, "prove", cancelling)
    assert Worker(sites.site(tmp_path), journal, "w").step()
    ended = journal.jobs.get(job.id)
    assert (ended.state, ended.reason_code, ended.owner) == ("cancelled", "cancelled", None)
    assert journal.jobs.take("proven", "s") is None
    assert journal.jobs.retry(job.id, "anna") == "queued"


@pytest.mark.parametrize("ahead", [False, True])
def test_a_worker_that_is_asked_to_end_gives_back_what_it_does_not_finish(ahead, journal, model, tmp_path):
    changes = Parameters(changes=("overlap=0.9",)).to_json()
    paths = [sites.scan(tmp_path / f"{name}.nii.gz", shape=(96, 96, 96)) for name in "abc"]
    jobs = [sites.submitted(journal, sites.asked(model, path, tmp_path / "out", parameters=changes)) for path in paths]
    post = Worker(sites.site(tmp_path, ahead=ahead, drain_s=0), journal, "w")
    take = journal.jobs.take

    def ending(*words, **more):
        found = take(*words, **more)
        if found and found.id == jobs[1 if ahead else 0].id:
            post.end()
        return found

    journal.jobs.take = ending
    assert post.step() and not post.step()
    found = [journal.jobs.get(job.id) for job in jobs]
    assert {(job.state, job.attempts, job.owner) for job in found if job.state != "proven"} == {("queued", 0, None)}
    assert found[-1].state == "queued" and not (tmp_path / "out" / worker.STAGING).exists()


def test_who_lost_a_job_leaves_its_files_alone(journal, model, tmp_path, monkeypatch):
    job = sites.submitted(journal, sites.asked(model, sites.scan(tmp_path / "a.nii.gz"), tmp_path / "out"))
    predict = Predictor.predict

    def robbed(self, *words, **options):
        journal.jobs.take_back("w", "watch")
        return predict(self, *words, **options)

    monkeypatch.setattr(Predictor, "predict", robbed)
    assert Worker(sites.site(tmp_path), journal, "w").step()
    assert journal.jobs.get(job.id).state == "queued" and files(tmp_path / "out") == set()


@pytest.mark.parametrize("name", ["../a", "a/b", ".a"])
def test_a_case_whose_name_leads_elsewhere_is_refused(name, journal, model, tmp_path):
    asked = sites.asked(model, sites.scan(tmp_path / "a.nii.gz"), tmp_path / "out" / "deep")
    job = sites.submitted(journal, asked.__class__(**(asked.__dict__ | {"case": name})))
    good = sites.submitted(journal, asked)
    post = Worker(sites.site(tmp_path), journal, "w")
    while post.step():
        pass
    assert journal.jobs.get(job.id).state == "failed" and journal.jobs.get(good.id).state == "proven"
    assert files(tmp_path / "out") == {"deep/a.nii.gz"}


def test_unknown_parameters_are_refused(journal, model, tmp_path):
    asked = sites.asked(model, sites.scan(tmp_path / "a.nii.gz"), tmp_path / "out", parameters={"qualty": "best"})
    job = sites.submitted(journal, asked)
    assert Worker(sites.site(tmp_path), journal, "w").step()
    assert journal.jobs.get(job.id).state == "failed" and "qualty" in journal.jobs.get(job.id).reason
    assert parameters.Parameters().to_json().keys() == {"outputs", "changes", "quality", "labels", "series"}
