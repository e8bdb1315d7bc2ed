"""`medseg serve` as a backend, against the real one: with a small model, on loopback, with tokens."""

from __future__ import annotations

import time
from functools import partial

import pydicom
import pytest

from MedSegLib import models
from MedSegLib.remote import Remote
from MedSegLib.runs import Runs
from MedSegLib.work import DONE, Line, Order, Outcome, Progress
from tests.service import studies
from tests.slicer.asking import NUMBERS, WAIT_S, asked, left, order, remote, unknown
from tests.slicer.heard import AT_ONCE_S, TOKEN, Heard, failure, is_stage, outcome
from tests.slicer.rude import stranger
from tests.slicer.serving import noise
from tests.tiny import medseg_command


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
