"""`medseg serve` as a backend, against the real one: with a small model, on loopback, with tokens."""

from __future__ import annotations

import itertools
import json
import random
import ssl
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pydicom
import pytest

from MedSegLib import models
from MedSegLib.remote import Remote
from MedSegLib.runs import Runs
from MedSegLib.service.call import Limits
from MedSegLib.work import CANCELLED, DONE, FAILED, Line, Order, Outcome, Progress
from tests.service import studies
from tests.slicer.heard import AT_ONCE_S, TOKEN, Heard, failure, is_stage, outcome
from tests.slicer.rude import road, stranger
from tests.slicer.serving import TLS, Installation, installation, noise
from tests.tiny import medseg_command

WAIT_S = 120
SOON = Limits(connect=2, silence=3, patience=2, pause=0.5)
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Installation]:
    with installation(tmp_path_factory.mktemp("täst ordner") / "site", tls=TLS) as started:
        yield started


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "täst ordner"
    made.mkdir()
    return made


def order(folder: Path, size: int = 24, *, model: str = "abdomen", seed: int | None = None, **more: Any) -> Order:
    """For a scan that no other test has sent."""
    number = next(NUMBERS) + 1000
    own = folder / f"run {number}"
    own.mkdir()
    scan = noise(folder / f"scän {number}.nii.gz", size, number if seed is None else seed)
    return Order("Müller^Anna", model, (("image", scan),), own, **more)


def asked(site: Installation, path: str) -> Any:
    request = urllib.request.Request(
        f"{site.address}/api/v1/{path}", headers={"Authorization": f"Bearer {site.tokens['admin']}"}
    )
    trust = ssl.create_default_context(cafile=str(site.authority))
    with urllib.request.urlopen(request, timeout=WAIT_S, context=trust) as answer:
        return json.load(answer)


def remote(site: Installation, who: str = "submit", **more: Any) -> Remote:
    return Remote(more.pop("address", site.address), site.tokens[who], **{"authority": site.authority, **more})


def unknown(address: str, **more: Any) -> Remote:
    """With a token that no service knows."""
    return Remote(address, TOKEN, limits=SOON, **more)


def left(one: Order) -> list[Path]:
    return list(one.folder.iterdir())


def test_a_volume_becomes_what_the_command_line_makes_of_it(site, folder):
    one = order(folder)
    heard = Heard(remote(site).start(one))
    done = heard.outcome()
    assert done.state == DONE, done.failure
    ((name, path),) = done.files.items()
    assert path == one.folder / "result" / name and left(one) == [path.parent]
    said = medseg_command(
        "predict", site.models["abdomen"], one.images[0][1], folder / "own", "--output", "seg_nrrd", "--device", "cpu"
    )
    assert said.code == 0, said.err
    (own,) = (folder / "own").glob("*.seg.nrrd")
    assert path.read_bytes() == own.read_bytes(), "voxels, place, names, colours and codes"
    assert b"SCT^10200004^Liver" in own.read_bytes()
    assert set(done.facts["volume_ml"]) == {"liver", "spleen"}
    assert heard.percents == sorted(heard.percents) and heard.percents[-1] == 100
    assert "service: done" in heard.lines and heard.slowest < AT_ONCE_S


def test_progress_is_that_of_the_tiles(site, folder):
    """The worker tells once a second where it is: it is made so slow that it has not much to tell each time."""
    heard, end = Heard(remote(site).start(order(folder, 96))), time.monotonic() + WAIT_S

    def between() -> set[float]:
        return {value for value in heard.percents if 0 < value < 99}

    heard.until(lambda event: isinstance(event, Line) and "running" in event.text)
    while len(between()) < 3 and not isinstance(heard.events[-1], Outcome):
        assert time.monotonic() < end, heard.events
        with site.held("work"):
            heard.during(1.2)
        heard.during(0.2 if any(map(is_stage("segmenting"), heard.events)) else 0.4)
    assert heard.outcome().state == DONE
    assert heard.percents == sorted(heard.percents) and heard.percents[-1] == 100
    assert 100 not in heard.percents[:-1] and len(between()) >= 3
    stages = [event.stage for event in heard.events if isinstance(event, Progress)]
    assert any(stage.startswith("sending") and stage.endswith("MB") for stage in stages) and "segmenting" in stages


def test_two_channels_and_a_map_of_uncertainty(site, folder):
    number = next(NUMBERS)
    images = tuple(
        (name, noise(folder / f"{name}.nii.gz", 20, number + 7 * place)) for place, name in enumerate(("T1", "FLÄR"))
    )
    one = Order("x", "two", images, folder / "own", outputs=("seg_nrrd", "entropy"), labels=("left",), quality="fast")
    one.folder.mkdir()
    done = outcome(remote(site).start(one))
    assert done.state == DONE, done.failure
    assert sorted(name.partition(".")[2] for name in done.files) == ["entropy.nii.gz", "seg.nrrd"]
    asked_for = asked(site, f"jobs/{asked(site, 'jobs')['jobs'][0]['id']}")["parameters"]
    assert (asked_for["quality"], asked_for["labels"]) == ("fast", ["left"])
    assert done.facts["volume_ml"]["left"] > 0 == done.facts["volume_ml"].get("right", 0)


def test_a_study_goes_as_a_zip_and_comes_back_as_dicom(site, folder):
    source = folder / "study"
    (source / "séries").mkdir(parents=True)
    for number, one in enumerate(studies.series(5)):
        one.save_as(source / "séries" / f"Müller Anna {number}", enforce_file_format=True)
    (source / "letter to the family.txt").write_text("is nobody's business")
    one = Order("x", "abdomen", (), folder / "own", dicom=source, outputs=("dicom_seg",))
    one.folder.mkdir()
    done = outcome(remote(site).start(one))
    assert done.state == DONE, done.failure
    (path,) = done.files.values()
    made = pydicom.dcmread(path)
    assert made.Modality == "SEG" and made.StudyInstanceUID == studies.study_uid(5)
    assert left(one) == [path.parent]
    sent = [path for path in (site.folder / "data").rglob("*.dcm") if "input" in path.parts]
    assert (
        len([path for path in sent if pydicom.dcmread(path).StudyInstanceUID == made.StudyInstanceUID])
        == studies.SLICES
    )
    assert not list((site.folder / "data").rglob("*letter*"))
    again = Heard(remote(site).start(one))
    assert again.outcome().state == DONE and any("same job" in line for line in again.lines)


def test_a_classifier_gives_scores(site, folder):
    done = outcome(remote(site).start(order(folder, 12, model="stripes", outputs=("scores",))))
    assert done.state == DONE, done.failure
    (path,) = done.files.values()
    assert "probability striped" in path.read_text() and set(done.facts["probability"]) == {"plain", "striped"}


def test_two_that_queue_end_in_their_order(site, folder):
    runs, ended, end = Runs(), list[tuple[str, str]](), time.monotonic() + WAIT_S
    for title, size in (("large", 64), ("small", 24)):
        one = order(folder, size)
        runs.add(title, partial(remote(site).start, one), lambda told, title=title: ended.append((title, told.state)))
    while len(ended) < 2:
        runs.poll()
        assert time.monotonic() < end, ended
        time.sleep(0.02)
    assert ended == [("large", DONE), ("small", DONE)]
    assert [entry.progress.percent for entry in runs.entries] == [100, 100]


@pytest.mark.slow
def test_two_at_once_both_end(site, folder):
    runs = [Heard(remote(site).start(order(folder))) for _ in range(2)]
    assert [heard.outcome().state for heard in runs] == [DONE, DONE]


def test_what_is_there_is_listed_and_whose_the_token_is(site):
    entries = outcome(remote(site, "read").models()).facts["answer"]
    known = {entry["name"]: models.of_json(entry, entry["name"]) for entry in entries}
    assert set(known) == {"abdomen", "two", "stripes"} and known["two"].channels == ("T1", "FLÄR")
    assert known["stripes"].kind == "image" and known["abdomen"].labels[0].code == "SCT:10200004"
    assert outcome(remote(site).me()).facts["answer"] == {"name": "submit", "role": "submit"}


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_a_cancel_at_any_moment_leaves_nothing(site, folder, seed):
    one = order(folder, 128)
    heard = Heard(remote(site).start(one))
    moment = random.Random(seed).uniform(0, 3)
    heard.during(moment)
    heard.cancel()
    assert heard.outcome(2).state == CANCELLED and left(one) == [], moment
    assert heard.slowest < AT_ONCE_S
    end = time.monotonic() + WAIT_S
    while any(not job["ended"] for job in asked(site, "jobs")["jobs"]):
        assert time.monotonic() < end, "the service is at it still"
        time.sleep(0.1)


def test_what_was_cancelled_is_tried_again_when_it_is_asked_for_again(site, folder):
    one = order(folder, 64)
    heard = Heard(remote(site).start(one))
    heard.until(lambda event: isinstance(event, Line) and "queued" in event.text)
    heard.cancel()
    assert heard.outcome(2).state == CANCELLED
    again = Heard(remote(site).start(one))
    assert again.outcome().state == DONE
    assert any("same job" in line for line in again.lines)


def test_a_cancel_leaves_a_job_to_whoever_had_it_begun(site, folder):
    first = Heard(remote(site).start(order(folder, 80, seed=77)))
    first.until(lambda event: isinstance(event, Line) and "queued" in event.text)
    one = order(folder, 80, seed=77)
    second = Heard(remote(site, "admin").start(one))
    second.until(lambda event: isinstance(event, Line) and "same job" in event.text)
    second.cancel()
    assert second.outcome(2).state == CANCELLED and left(one) == []
    ended = first.outcome()
    assert ended.state == DONE, ended.failure


def test_a_stalled_network_keeps_nobody_waiting(site, folder):
    """While it is asked, sent, listened to and fetched."""
    with road(site.port) as way:
        for stage in ("asking", "sending", "waiting", "segmenting"):
            one = order(folder, 96)
            if stage == "asking":
                way.open.clear()
            heard = Heard(remote(site, address=site.at(way.port)).start(one))
            heard.until(is_stage(stage))
            way.open.clear()
            heard.during(0.3)
            heard.cancel()
            assert heard.outcome(2).state == CANCELLED and left(one) == [], stage
            assert heard.slowest < AT_ONCE_S, stage
            way.open.set()


@pytest.mark.slow
def test_a_slow_network_only_takes_longer(site, folder):
    with road(site.port) as way:
        way.delay_s = 0.2
        heard = Heard(remote(site, address=site.at(way.port)).start(order(folder)))
        assert heard.outcome().state == DONE and heard.slowest < AT_ONCE_S


def test_a_service_that_dies_half_way_and_comes_back(site, folder):
    heard = Heard(remote(site).start(order(folder, 80)))
    heard.until(lambda event: isinstance(event, Progress) and event.percent >= 10)
    site.kill("serve")
    heard.until(lambda event: isinstance(event, Line) and "Trying again" in event.text)
    site.start("serve")
    assert heard.outcome().state == DONE and heard.slowest < AT_ONCE_S
    assert heard.percents == sorted(heard.percents)


def test_a_service_that_is_gone_for_good_is_given_up(site, folder):
    one = order(folder, 128)
    heard = Heard(remote(site, limits=SOON).start(one))
    heard.until(is_stage("segmenting"))
    site.kill("serve")
    try:
        gone = heard.outcome(SOON.patience + SOON.connect + 10)
    finally:
        site.start("serve")
    assert gone.state == FAILED and gone.failure and gone.failure.code == "no-server"
    assert "Nothing answers at 127.0.0.1" in gone.failure.what and "run it again" in gone.failure.remedy
    assert left(one) == [] and heard.slowest < AT_ONCE_S
    again = Heard(remote(site).start(one))
    again.until(lambda event: isinstance(event, Line) and "same job" in event.text)
    again.cancel()
    assert again.outcome(2).state == CANCELLED


def test_an_upload_that_is_cut_is_sent_again_and_is_one_job(site, folder):
    before = len(asked(site, "jobs")["jobs"])
    with road(site.port) as way:
        for late in (False, True):
            way.limit, way.late = 200_000, late
            heard = Heard(remote(site, address=site.at(way.port)).start(order(folder, 64)))
            assert heard.outcome().state == DONE and way.limit is None
            assert any("Trying again" in line for line in heard.lines)
            assert any("same job" in line for line in heard.lines) == late
    assert len(asked(site, "jobs")["jobs"]) == before + 2


def test_a_stream_that_is_cut_again_and_again_is_taken_up(site, folder):
    with road(site.port) as way:
        heard = Heard(remote(site, address=site.at(way.port)).start(order(folder, 80)))
        for percent in (10, 40):
            heard.until(lambda event, least=percent: isinstance(event, Progress) and event.percent >= least)
            way.cut()
        assert heard.outcome().state == DONE
    said = [line for line in heard.lines if line.startswith("service:")]
    assert len(said) == len(set(said)), "each change once"
    assert heard.percents == sorted(heard.percents)


def test_a_token_that_is_wrong_or_may_only_look(site, folder):
    wrong = Remote(site.address, TOKEN, authority=site.authority)
    for run in (wrong.me(), wrong.models(), wrong.start(order(folder))):
        found = failure(run)
        assert found.code == "no-token" and "does not know this token" in found.what
    looks = Remote(site.address, site.tokens["read"], authority=site.authority)
    assert "may look" in failure(looks.start(order(folder))).what


def test_only_a_certificate_that_is_right_is_talked_to(site, folder):
    right = Remote(site.address, site.tokens["submit"], authority=site.authority)
    assert outcome(right.me()).state == DONE
    cases = [
        (unknown(site.address), "authority that is not known"),
        (unknown(site.at(site.port, "localhost"), authority=site.authority), "another name"),
        (unknown(site.address, authority=folder / "none.pem"), "CA file"),
        (unknown(site.address, authority=site.folder / "site.yaml"), "CA file"),
    ]
    for told, words in cases:
        for run in (told.me(), told.start(order(folder))):
            found = failure(run)
            assert words in found.what and found.code == "no-trust", found
    assert failure(unknown(f"http://127.0.0.1:{site.port}").me()).code in ("no-server", "no-medseg")
    with stranger(lambda method, path: (200, b"<html>")) as plain:
        found = failure(unknown(f"https://127.0.0.1:{plain.port}").me())
        assert "does not speak TLS" in found.what and TOKEN not in repr(plain.heard)
