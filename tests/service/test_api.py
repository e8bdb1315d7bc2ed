"""The API as programs meet it: jobs are asked for, changed by whom it is allowed, and their results fetched."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, update

import medseg
from medseg.service import models
from medseg.service.journal.states import STATES
from medseg.service.journal.tables import arrivals, jobs
from medseg.service.settings.keep import Keep
from medseg.service.settings.routes import Route
from medseg.service.settings.site import Site
from medseg.service.settings.work import Work
from medseg.service.web import parts, volumes
from medseg.service.work.worker import Worker
from tests.service import studies
from tests.service.web import MARKED, Service, asked, finished, form, nrrd, related, serving, site_in, zipped
from tests.tiny import AFFINE, nifti, phantom, untrained_run

VOLUME = nrrd(phantom(0)[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("site")


@pytest.fixture
def service(tmp_path):
    with serving(site_in(tmp_path)) as started:
        yield started


def objects(number: int = 1) -> list[bytes]:
    made = []
    for one in studies.series(number):
        stream = io.BytesIO()
        one.save_as(stream, enforce_file_format=True)
        made.append(stream.getvalue())
    return made


def submit(service: Service, ask: dict | None, files: dict, who: str = "submit"):
    return service.post("/api/v1/jobs", who, **form(ask, files))


def test_a_volume_becomes_a_job_whose_result_can_be_fetched(service):
    answer = submit(
        service, {"model": "liver", "outputs": ["seg_nrrd"], "case": "mine"}, {"image": ("a b.nrrd", VOLUME)}
    )
    assert answer.status_code == 200, answer.text
    job = answer.json()["job"]
    assert (job["state"], job["case"], job["percent"], answer.json()["new"]) == ("queued", "mine", 0, True)
    on_record = service.journal.jobs
    taken = on_record.take("queued", "w", becomes="running")
    assert taken.parameters == {
        "outputs": ["seg_nrrd"],
        "changes": [],
        "quality": "standard",
        "labels": [],
        "series": "",
    }
    assert Path(taken.source["all"]).read_bytes() == VOLUME and taken.model == str(service.site.folder / "liver")
    on_record.beat(taken.id, "w", stage="network", share=0.5)
    seen = service.get(f"/api/v1/jobs/{taken.id}").json()
    assert (seen["percent"], seen["stage"], seen["ended"]) == (50, "network", False)
    out = Path(taken.out)
    (out / "mine.seg.nrrd").write_bytes(b"result")
    sha256 = hashlib.sha256(b"result").hexdigest()
    on_record.move(taken.id, "w", "written", keep=True, files={"mine.seg.nrrd": sha256})
    seen = service.get(f"/api/v1/jobs/{taken.id}").json()
    assert seen["percent"] == 100 and seen["files"] == [{"name": "mine.seg.nrrd", "sha256": sha256, "bytes": 6}]
    fetched = service.get(f"/api/v1/jobs/{taken.id}/files/mine.seg.nrrd")
    assert fetched.content == b"result" and "attachment" in fetched.headers["content-disposition"]
    packed = service.get(f"/api/v1/jobs/{taken.id}/result")
    with zipfile.ZipFile(io.BytesIO(packed.content)) as archive:
        assert archive.testzip() is None and archive.read("mine.seg.nrrd") == b"result"


def test_the_same_asked_twice_is_one_job_and_one_copy(service):
    first = submit(service, {"model": "liver"}, {"image": ("a.nrrd", VOLUME)}).json()
    again = submit(service, {"model": "liver"}, {"image": ("b.nrrd", VOLUME)}).json()
    other = submit(service, {"model": "liver", "quality": "fast"}, {"image": ("a.nrrd", VOLUME)}).json()
    assert first["job"]["id"] == again["job"]["id"] != other["job"]["id"] and not again["new"]
    inputs = (service.site.at(service.site.data) / "results").glob("*/input/*")
    assert sorted(path.name for path in inputs) == ["0.nrrd", "0.nrrd"], "one a job"
    assert list(service.store.incoming.iterdir()) == []


def test_what_is_asked_for_after_its_result_was_cleared_away_is_done_anew(service):
    ask = {"model": "liver"}
    first = submit(service, ask, {"image": ("a.nrrd", VOLUME)}).json()["job"]["id"]
    on_record = service.journal.jobs
    on_record.take("queued", "w", becomes="running")
    on_record.move(first, "w", "written", keep=True, files={"a.nii.gz": "0" * 64})
    for state in ("proven", "sent", "done"):
        on_record.move(first, "w", state, keep=True)
    shutil.rmtree(on_record.get(first).out)
    again = submit(service, ask, {"image": ("a.nrrd", VOLUME)}).json()
    job = on_record.get(again["job"]["id"])
    assert again["new"] and job.id != first and Path(job.source["all"]).read_bytes() == VOLUME
    assert submit(service, ask, {"image": ("a.nrrd", VOLUME)}).json()["job"]["id"] == job.id


def test_a_model_that_is_damaged_stops_no_other(tmp_path, caplog):
    with serving(site_in(tmp_path)) as service:
        shelf = models.at(service.site)
        for name in ("spine", "brain"):
            models.install(shelf, tmp_path / "liver", name, "1.1")
        (shelf / "brain" / "1.1" / "plan.json").write_text("{", encoding="utf-8")
        (shelf / "spine" / "1.1" / "labels.json").write_text('{"labels": [{"name": 7}]}', encoding="utf-8")
        assert [one["name"] for one in service.get("/api/v1/models").json()] == ["liver"]
        said = [getattr(record, "facts", {}).get("model") for record in caplog.records]
        assert "spine" in said and "brain@1.1" in said
        for name in ("spine", "spine@1.1", "brain", "liver"):
            answer = submit(service, {"model": name}, {"image": ("a.nrrd", VOLUME)})
            assert answer.status_code == {"liver": 200, "brain": 404}.get(name, 503), answer.text
            assert str(tmp_path) not in answer.text and "json" not in answer.text
        shutil.rmtree(tmp_path / "liver")
        answer = submit(service, {"model": "liver"}, {"image": ("a.nrrd", VOLUME)})
        assert answer.status_code == 503 and str(tmp_path) not in answer.text
        assert service.get("/api/v1/models").json() == []


def test_a_job_says_which_version_of_a_model_it_takes(tmp_path):
    with serving(site_in(tmp_path)) as service:
        models.install(models.at(service.site), tmp_path / "liver", "spine", "1.1")
        for asked_for, told in (("spine", "spine@1.1"), ("liver", "liver")):
            job = submit(service, {"model": asked_for}, {"image": ("a.nrrd", VOLUME)}).json()["job"]
            assert job["model"] == told
            assert service.get(f"/api/v1/jobs/{job['id']}").json()["model"] == told


def test_the_events_of_a_job_that_has_ended_end(service):
    job, _ = service.journal.jobs.submit(asked(1, model="/m"), who="a")
    service.journal.jobs.cancel(job.id, "a")
    path = f"/api/v1/jobs/{job.id}/events"
    told = service.get(path)
    assert told.status_code == 200 and told.text.count("event: job") == 3
    last = service.journal.jobs.last_event()
    assert service.get(path, headers={"last-event-id": f"{last - 1}"}).text.count("event: job") == 1
    assert service.get(path, headers={"last-event-id": f"{last}"}).status_code == 204, "come back no more"


def test_dicom_in_a_zip_goes_to_the_model_that_is_named(service):
    files = {f"../../evil/{n}": one for n, one in enumerate(objects())} | {"readme.txt": b"hello"}
    answer = submit(service, {"model": "liver"}, {"study": ("x.zip", zipped(files))})
    job = service.journal.jobs.get(answer.json()["job"]["id"])
    inside = sorted(path.name for path in Path(job.source["all"]).iterdir())
    assert inside == [f"{n:06}.dcm" for n in range(studies.SLICES)]
    assert job.parameters["outputs"] == ["dicom_seg", "dicom_sr"] and job.identity.study_uid == studies.study_uid(1)
    assert not (service.site.folder / "evil").exists()


def test_dicom_without_a_model_goes_to_the_intake(service):
    files = {f"{n}": one for n, one in enumerate(objects())}
    first = submit(service, None, {"study": ("x.zip", zipped(files))})
    again = submit(service, {}, {"study": ("x.zip", zipped(files))})
    expected = {"job": None, "new": True, "studies": [studies.study_uid(1)]}
    assert (first.json(), again.json()) == (expected, {**expected, "new": False})
    (arrival,) = service.journal.arrivals.open(studies.study_uid(1))
    assert (arrival.objects, arrival.expected, arrival.sender) == (studies.SLICES, studies.SLICES, "token submit")


def test_a_model_of_several_channels_gets_each_by_its_name(tmp_path):
    untrained_run(tmp_path / "liver", channels=("T1", "FLAIR"))
    with serving(site_in(tmp_path)) as service:
        other = nrrd(phantom(1)[0])
        answer = submit(service, {"model": "liver"}, {"FLAIR": ("f.nrrd", other), "T1": ("t.nrrd", VOLUME)})
        job = service.journal.jobs.get(answer.json()["job"]["id"])
        assert {name: Path(path).read_bytes() for name, path in job.source.items()} == {"T1": VOLUME, "FLAIR": other}
        missing = submit(service, {"model": "liver"}, {"T1": ("t.nrrd", VOLUME)})
        assert missing.status_code == 400 and "T1, FLAIR" in missing.json()["error"]["needed"]


def test_a_study_that_is_here_gets_a_further_job(service, tmp_path):
    came = replace(asked(1, identity=MARKED), source={"all": str(tmp_path)})
    former, _ = service.journal.jobs.submit(came, who="route")
    assert service.post("/api/v1/jobs", "submit", json={"model": "liver", "study": MARKED.study_uid}).status_code == 404
    with service.journal.database.write() as connection:
        values = {"study_uid": MARKED.study_uid, "revision": 1, "state": "closed", "sender": "", "expected": 0}
        connection.execute(insert(arrivals).values(id=7, changed_at=0.0, **values))
        connection.execute(update(jobs).where(jobs.c.id == former.id).values(arrival=7))
    answer = service.post("/api/v1/jobs", "submit", json={"model": "liver", "study": MARKED.study_uid})
    job = service.journal.jobs.get(answer.json()["job"]["id"])
    assert job.id != former.id and (job.source, job.arrival, job.identity) == (former.source, 7, MARKED)


@pytest.mark.parametrize(
    ("ask", "status", "words"),
    [
        ({"model": "liver", "outputs": ["os.path"]}, 400, "outputs"),
        ({"model": "liver", "outputs": ["nifti:a=!!python/object:x"]}, 400, "outputs"),
        ({"model": "liver", "changes": ["coarse=/etc"]}, 400, "changes"),
        ({"model": "liver", "changes": ["backend=compile"]}, 400, "changes"),
        ({"model": "liver", "labels": ["heart"]}, 400, "labels"),
        ({"model": "liver", "case": "../x"}, 400, "case"),
        ({"model": "liver", "series": "a\x00b"}, 400, "series"),
        ({"model": "../liver"}, 404, "model"),
        ({"model": "/etc"}, 404, "model"),
        ({"model": "http://127.0.0.1:9/x"}, 404, "model"),
        ({"model": "liver", "url": "http://127.0.0.1:9/"}, 400, "url"),
        ({"quality": "fast"}, 400, "without a model"),
        ({}, 400, "volume without a model"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_in_words(service, ask, status, words):
    answer = submit(service, ask, {"image": ("a.nrrd", VOLUME)})
    assert answer.status_code == status and words in answer.json()["error"]["text"]
    assert service.journal.jobs.find() == []


def test_kinds_of_files_are_told_by_their_content(tmp_path):
    made = {".nrrd": VOLUME, ".zip": zipped({"a": b""}), ".dcm": objects()[0]}
    for suffix in (".nii", ".nii.gz"):
        made[suffix] = nifti(tmp_path / f"made{suffix}", phantom(0)[0]).read_bytes()
    for suffix, content in made.items():
        path = tmp_path / "000000"
        path.write_bytes(content)
        assert volumes.suffix(path) == suffix


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text", b"hello"),
        ("empty", b""),
        ("detached", VOLUME.replace(b"encoding: raw\n", b"encoding: raw\ndata file: /etc/passwd\n")),
        ("detached, old", VOLUME.replace(b"encoding: raw\n", b"encoding: raw\nDataFile:secret.raw\n")),
        ("meta", b"ObjectType = Image\nElementDataFile = /etc/passwd\n"),
        ("no end", b"NRRD0005\ntype: short\n" + b"#\n" * 10),
        ("a zip of text", zipped({"a.txt": b"hello"})),
    ],
)
def test_files_that_are_no_volumes_are_refused(service, name, content):
    answer = submit(service, {"model": "liver"}, {"image": ("a.nrrd", content)})
    assert answer.status_code in (400, 415), name
    assert list(service.store.incoming.iterdir()) == [] and service.journal.jobs.find() == []


def test_jobs_are_listed_found_and_turned_over(service):
    for number in range(5):
        service.journal.jobs.submit(asked(number, model="/m/liver", identity=MARKED), who="a")
    first = service.get("/api/v1/jobs?limit=3").json()
    rest = service.get(f"/api/v1/jobs?limit=3&before={first['next']}").json()
    assert [job["id"] for job in first["jobs"] + rest["jobs"]] == [5, 4, 3, 2, 1] and rest["next"] is None
    assert [job["case"] for job in service.get("/api/v1/jobs?text=case-3").json()["jobs"]] == ["case-3"]
    assert len(service.get("/api/v1/jobs?text=mark-patient").json()["jobs"]) == 5
    assert service.get("/api/v1/jobs?text=%25").json()["jobs"] == []
    assert service.get("/api/v1/jobs?state=done&state=failed").json()["jobs"] == []
    assert len(service.get("/api/v1/jobs?state=queued").json()["jobs"]) == 5


def test_the_summary_adds_up(service):
    on_record = service.journal.jobs
    finished(service)
    for number in range(2, 6):
        on_record.submit(asked(number), who="a")
    for state in ("failed", "quarantined", "unmatched"):
        job = on_record.take("received", "c")
        on_record.move(job.id, "c", state, reason_code="error")
    job = on_record.take("received", "c")
    on_record.cancel(job.id, "me")
    on_record.give_back(job.id, "c")
    told = service.get("/api/v1/summary").json()
    assert set(told["jobs"]) == set(STATES) and sum(told["jobs"].values()) == told["total"] == 5
    assert told["done"] + told["under_way"] + told["waiting_for_people"] + told["stopped"] == told["total"]
    assert (told["done"], told["waiting_for_people"], told["under_way"], told["stopped"]) == (0, 3, 1, 1)
    for _ in range(2):
        submit(service, {}, {"study": ("a.zip", zipped({"a": objects()[0]}))})
    told = service.get("/api/v1/summary").json()
    assert (told["total"], told["coming_in"], told["objects"], told["duplicates"]) == (5, 1, 2, 1)


def test_who_submits_changes_own_jobs_alone_and_all_is_on_record(service):
    own = submit(service, {"model": "liver"}, {"image": ("a.nrrd", VOLUME)}).json()["job"]["id"]
    other, _ = service.journal.jobs.submit(asked(2, model="/m"), who="route")
    assert service.get(f"/api/v1/jobs/{own}", "submit").json()["may"] == ["cancel"]
    assert service.get(f"/api/v1/jobs/{other.id}", "submit").json()["may"] == []
    assert service.post(f"/api/v1/jobs/{other.id}/cancel", "submit").status_code == 403
    assert service.post(f"/api/v1/jobs/{own}/cancel", "read").status_code == 403
    assert service.post(f"/api/v1/jobs/{own}/cancel", "submit").json()["state"] == "cancelled"
    assert service.post(f"/api/v1/jobs/{own}/cancel", "submit").status_code == 409
    assert service.post(f"/api/v1/jobs/{own}/retry", "submit").json()["state"] == "queued"
    assert service.post(f"/api/v1/jobs/{other.id}/cancel", "admin").json()["state"] == "cancelled"
    told = [(who.partition(" at ")[0], what, about, outcome) for who, what, about, outcome in service.audit()]
    assert told == [
        ("token submit", "submit_job", f"job {own}", "done"),
        ("token submit", "cancel", f"job {other.id}", "403 not-allowed"),
        ("token read", "cancel", f"job {own}", "403 not-allowed"),
        ("token submit", "cancel", f"job {own}", "done"),
        ("token submit", "cancel", f"job {own}", "409 conflict"),
        ("token submit", "retry", f"job {own}", "done"),
        ("token admin", "cancel", f"job {other.id}", "done"),
    ]
    read = service.get("/api/v1/audit?after=1&limit=2", "admin").json()
    assert [(one["id"], one["what"], one["outcome"]) for one in read] == [
        (2, "cancel", "403 not-allowed"),
        (3, "cancel", "403 not-allowed"),
    ]
    assert service.get("/api/v1/audit", "submit").status_code == 403


def test_what_is_held_back_is_released_by_administrators_alone(service):
    job = finished(service, hold=("pass",))
    service.journal.jobs.take("proven", "s")
    service.journal.jobs.move(job.id, "s", "held")
    seen = service.get(f"/api/v1/jobs/{job.id}", "admin").json()
    assert seen["may"] == ["cancel", "release"] and "release" in seen["remedy"]
    assert service.post(f"/api/v1/jobs/{job.id}/release", "submit").status_code == 403
    assert service.post(f"/api/v1/jobs/{job.id}/release", "admin").json()["state"] == "proven"


def test_models_say_what_a_client_must_know(service):
    (model,) = service.get("/api/v1/models").json()
    assert (model["name"], model["channels"], model["spacing_mm"]) == ("liver", ["image"], [1.5, 1.5, 2.0])
    assert [label["name"] for label in model["labels"]] == ["left", "right"] and len(model["labels"][0]["colour"]) == 3
    assert (model["licence"], model["routes"]) == ("CC0-1.0", ["abdomen"]) and model["weights_bytes"] > 0


def test_objects_that_are_stored_over_http_are_answered_one_by_one(service):
    body, headers = related([*objects()[:2], b"no dicom"])
    answer = service.post("/dicom-web/studies", "submit", content=body, headers=headers)
    assert answer.status_code == 202 and answer.headers["content-type"] == "application/dicom+json"
    told = answer.json()
    stored = {item["00081155"]["Value"][0] for item in told["00081199"]["Value"]}
    assert stored == {f"{studies.study_uid(1)}.1.{n}" for n in (1, 2)}
    assert [item["00081197"]["Value"] for item in told["00081198"]["Value"]] == [[0xC000]]
    body, headers = related(objects()[:1])
    elsewhere = service.post("/dicom-web/studies/1.2.3", "submit", content=body, headers=headers)
    (failed,) = elsewhere.json()["00081198"]["Value"]
    assert elsewhere.status_code == 409 and failed["00081155"]["Value"] == [f"{studies.study_uid(1)}.1.1"]
    here = service.post(f"/dicom-web/studies/{studies.study_uid(1)}", "submit", content=body, headers=headers)
    assert here.status_code == 200


def test_who_watches_over_it_asks_for_health_and_numbers(service):
    finished(service)
    assert service.get("/healthz", "").json() == {"up": True}
    assert service.get("/readyz", "").json() == {"ready": True}
    assert service.get("/metrics", "").status_code == 401
    service.get("/metrics")
    service.journal.jobs.submit(asked(2, model="/m", identity=MARKED, receivers=("pacs",)), who="a")
    service.journal.jobs.take("queued", "w", becomes="running")
    text = service.get("/metrics").text
    for line in (
        'medseg_jobs{state="proven"} 1.0',
        'medseg_jobs{state="running"} 1.0',
        'medseg_deliveries{receiver="pacs",state="waiting"} 1.0',
        'medseg_stage_seconds_count{stage="waiting"} 2.0',
        'medseg_http_requests_total{method="GET",route="/metrics",status="401"} 1.0',
        "medseg_objects_received 0.0",
    ):
        assert line in text, line
    assert MARKED.patient_id not in text and MARKED.study_uid not in text


def test_it_answers_the_same_from_every_kind_of_database(where, tmp_path):
    with serving(site_in(tmp_path, journal=where if "://" in where else "")) as service:
        submit(service, {"model": "liver"}, {"image": ("a.nrrd", VOLUME)})
        submit(service, {}, {"study": ("a.zip", zipped({"a": objects()[0]}))})
        service.journal.jobs.submit(asked(2, model="/m", identity=MARKED, receivers=("pacs",)), who="a")
        assert service.get("/api/v1/jobs?text=mark-patient&state=queued").json()["jobs"][0]["id"] == 2
        assert service.post("/api/v1/jobs/1/cancel", "submit").json()["may"] == ["retry"]
        assert service.get("/api/v1/summary").json()["total"] == 2
        assert 'medseg_jobs{state="cancelled"} 1.0' in service.get("/metrics").text
        assert service.get("/readyz", "").status_code == 200 and len(service.audit()) == 3
        for text in ("%", "'", '"', "\\", "é", "\U0001f600", "a" * 200):
            assert service.get("/api/v1/jobs", params={"text": text}).status_code == 200


def test_a_disk_that_fills_up_on_the_way_ends_the_upload(service, monkeypatch):
    left = iter(range(3 * 2**20, 0, -(2**20)))
    monkeypatch.setattr(parts, "shutil", SimpleNamespace(disk_usage=lambda path: SimpleNamespace(free=next(left))))
    answer = submit(service, {"model": "liver"}, {"image": ("a.nrrd", VOLUME + bytes(5 * 2**20))})
    assert answer.status_code == 507 and answer.headers["retry-after"]
    assert list(service.store.incoming.iterdir()) == [] and service.journal.jobs.find() == []


def test_a_quota_counts_what_comes_in(tmp_path):
    with serving(site_in(tmp_path, keep=Keep(quota_gib=2e-3, free_gib=0))) as service:
        large = nrrd(np.zeros((100, 100, 100), np.int16))
        assert submit(service, {"model": "liver"}, {"image": ("a.nrrd", large)}).status_code == 200
        assert service.get("/readyz", "").status_code == 503
        full = submit(service, {"model": "liver"}, {"image": ("b.nrrd", VOLUME)})
        assert full.status_code == 507 and full.json()["error"]["code"] == "room"


def test_a_service_that_cannot_work_is_not_ready(service):
    room = service.client.app.state.room.desk.room
    room.full = lambda: "0.1 GiB are free"
    assert service.get("/readyz", "").status_code == 503
    assert submit(service, {"model": "liver"}, {"image": ("a.nrrd", VOLUME)}).status_code == 507


def test_a_volume_comes_back_as_a_segmentation_on_its_grid(service):
    ask = {"model": "liver", "outputs": ["seg_nrrd"], "case": "mine"}
    job = submit(service, ask, {"image": ("ct.nrrd", VOLUME)}).json()["job"]["id"]
    site = service.site.model_copy(update={"work": Work(device="cpu", threads=1)})
    assert Worker(site, service.journal, "w").step()
    told = service.get(f"/api/v1/jobs/{job}").json()
    assert (told["state"], told["percent"], told["reason"]) == ("proven", 100, "")
    path = service.site.folder / "mine.seg.nrrd"
    path.write_bytes(service.get(f"/api/v1/jobs/{job}/files/mine.seg.nrrd").content)
    found = medseg.read(path)
    assert found.shape == phantom(0)[0].shape and np.allclose(found.affine, AFFINE)
    assert set(found.source.notes["segments"].values()) == {"left", "right"}


ANY = st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=40), st.lists(st.text(max_size=9), max_size=3))
PATHS = st.sampled_from(
    [
        "/",
        "/login",
        "/metrics",
        "/readyz",
        "/api/v1/me",
        "/api/v1/models",
        "/api/v1/summary",
        "/api/v1/jobs",
        "/api/v1/jobs/{x}",
        "/api/v1/jobs/1/files/{x}",
        "/api/v1/jobs/{x}/result",
        "/api/v1/jobs/{x}/cancel",
        "/api/v1/jobs/{x}/retry",
        "/api/v1/jobs/{x}/release",
        "/api/v1/openapi.json",
        "/dicom-web/studies",
        "/dicom-web/studies/{x}",
        "/jobs/{x}",
        "/jobs/{x}/viewer",
        "/page/{x}",
        "/{x}",
    ]
)


@pytest.fixture(scope="module")
def fuzzed(folder):
    with serving(site_in(folder)) as started:
        finished(started)
        yield started


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS"]),
    path=PATHS,
    x=st.one_of(st.text(max_size=30), st.integers().map(str)),
    query=st.dictionaries(st.sampled_from(["state", "text", "route", "limit", "before", "z"]), ANY, max_size=3),
    body=st.one_of(st.binary(max_size=300), st.dictionaries(st.text(max_size=9), ANY, max_size=4)),
    kind=st.sampled_from(
        ["application/json", "multipart/form-data; boundary=b", "multipart/related", "", "text/plain"]
    ),
)
def test_nothing_that_is_sent_is_an_error_of_ours(fuzzed, method, path, x, query, body, kind):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    if kind.endswith("=b") and isinstance(body, bytes):
        content = b"--b\r\nContent-Disposition: form-data; name=ask\r\n\r\n" + body + b"\r\n--b--\r\n"
    address = path.replace("{x}", quote(x, safe=""))
    asked_for = {key: value for key, value in query.items() if value is not None}
    answer = fuzzed.ask(method, address, "admin", params=asked_for, content=content, headers={"content-type": kind})
    assert answer.status_code < 500, (method, address, answer.text)


def test_channels_may_have_any_name(tmp_path):
    untrained_run(tmp_path / "brain", channels=("T1", "FLÄR"))
    with serving(Site(folder=tmp_path, routes=(Route(name="brain", model="brain"),))) as service:
        head, end = b"--b\r\nContent-Disposition: form-data; name=", b"\r\n--b--\r\n"
        body = head + b'"ask"\r\n\r\n{"model": "brain"}\r\n'
        body += head + b'"T1"; filename="0"\r\n\r\n' + VOLUME + b"\r\n"
        body += head + '"FLÄR"; filename="1"\r\n\r\n'.encode() + VOLUME + end
        kind = {"content-type": "multipart/form-data; boundary=b"}
        answer = service.post("/api/v1/jobs", "submit", content=body, headers=kind)
        assert answer.status_code == 200, answer.text
