"""Which route takes which series of a study, what is said of it, and what the clerk makes of that."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from medseg.engine.run import Run, export
from medseg.refusal import Refusal
from medseg.service import reading
from medseg.service.journal import Journal
from medseg.service.journal.job import Job
from medseg.service.routing.clerk import Clerk
from medseg.service.settings import site as sites
from medseg.service.settings.site import Site
from tests import dicom_series as ds
from tests import dicom_study
from tests.service import studies
from tests.service.hospital import until
from tests.service.test_hospital import REASONS
from tests.service.test_journal import ARRIVED, arrive
from tests.tiny import ENVIRONMENT, medseg_command, untrained_run

CT = {"must": {"modality": "CT"}}
LIVER = {
    "must": {"modality": "CT", "phase": "portal venous", "body_part": "abdomen"},
    "prefer": [{"spacing_mm": [None, 1.5], "score": 2}],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """A model without rules, one with, and one of two channels."""
    folder, liver = tmp_path_factory.mktemp("runs"), f"dicom.select={json.dumps(LIVER)}"
    return {
        "plain": untrained_run(folder / "a" / "plain").folder,
        "liver": untrained_run(folder / "b" / "liver", changes=(liver,)).folder,
        "brain": untrained_run(folder / "c" / "brain", channels=("t1c", "flair")).folder,
    }


@pytest.fixture
def installed(tmp_path, runs):
    """A site with these routes."""

    def make(*routes: dict[str, Any]) -> Site:
        named = [
            {"name": f"r{n}", **route, "model": str(runs.get(route["model"], route["model"]))}
            for n, route in enumerate(routes, start=1)
        ]
        receivers = {"pacs": {"kind": "folder", "folder": "out"}}
        (tmp_path / "site.yaml").write_text(yaml.safe_dump({"routes": named, "receivers": receivers}))
        return sites.load(tmp_path / "site.yaml")

    return make


@pytest.fixture
def journal(tmp_path):
    opened = Journal(tmp_path / "journal.sqlite")
    yield opened
    opened.close()


def routed(journal: Journal, site: Site, folder: Path) -> list[Job]:
    """The jobs that a study becomes, in the order of the routes."""
    asked = replace(ARRIVED, source={"all": str(folder)}, arrival=arrive(journal, len(journal.jobs.find()) + 1))
    journal.jobs.submit(replace(asked, digest=str(folder)), who="CT")
    step(journal, site)
    return journal.jobs.find()[::-1]


def step(journal: Journal, site: Site) -> None:
    clerk = Clerk(site, journal, "clerk")
    assert clerk.step()
    assert not clerk.step()


@pytest.fixture(scope="module")
def shared() -> Iterator[reading.Reading]:
    one = reading.Reading()
    yield one
    one.close()


@pytest.fixture(autouse=True)
def _one_process_reads(shared, monkeypatch) -> None:
    """To start one costs half a second."""
    monkeypatch.setattr("medseg.service.routing.clerk.Reading", lambda: shared)


@pytest.fixture(scope="module")
def abdomen(tmp_path_factory) -> Path:
    return dicom_study.write(tmp_path_factory.mktemp("abdomen"), dicom_study.abdomen(), shuffled=1)


def test_mistyped_settings_of_a_site_are_named_in_plain_words(tmp_path):
    text = "listen: {prot: 104}\nreceivers:\n  pacs: {kind: dicom, host: pacs, port: 104}\n"
    text += "  web: {kind: dicomweb, ulr: x}\n  out: {kind: folder, hst: x}\n"
    text += "routes: [{name: a, model: m, series: {mst: {}}}]\n"
    (tmp_path / "site.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(Refusal) as caught:
        sites.load(tmp_path / "site.yaml")
    assert "listen.prot: no such setting; did you mean 'port'\n" in caught.value.found
    assert "receivers.out.folder.hst: no such setting; choose one of: kind, folder\n" in caught.value.found
    assert "receivers.web.dicomweb.ulr: no such setting; did you mean 'url'\n" in caught.value.found
    assert "routes.0.series.mst: no such setting; did you mean 'must'\n" in caught.value.found
    assert "receivers.pacs.dicom.ae_title: not there, and needed\n" in caught.value.found


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are Unicode there")
@pytest.mark.parametrize(("folder", "data"), [(b"caf\xe9", "data"), (b"site", r"/caf\uDCE9/data")])
def test_a_site_in_a_folder_that_the_journal_cannot_hold_is_refused(folder, data, tmp_path):
    path = tmp_path / os.fsdecode(folder) / "site.yaml"
    path.parent.mkdir()
    path.write_text(f'data: "{data}"\n', encoding="utf-8")
    with pytest.raises(Refusal, match=r"caf\?.*found a name that is no UTF-8"):
        sites.load(path)


def test_a_study_becomes_a_job_for_each_route_that_wants_it(journal, installed, runs, abdomen):
    own = {"must": {"modality": "CT", "phase": "arterial"}}
    site = installed(
        {"model": "liver", "send_to": ["pacs"], "hold": ["fail"], "set": ["overlap=0.25"], "labels": ["left"]},
        {"model": "plain", "series": own, "outputs": ["nifti"], "quality": "fast"},
        {"model": "plain", "series": {"must": {"modality": "MR"}}},
    )
    first, second = routed(journal, site, abdomen)
    assert (first.state, first.route, first.model) == ("queued", "r1", str(runs["liver"]))
    assert first.parameters == {
        "outputs": ["dicom_seg", "dicom_sr"],
        "changes": ["overlap=0.25"],
        "quality": "standard",
        "labels": ["left"],
        "series": "1.2.3.6",
    }
    assert (first.hold, [one.receiver for one in journal.deliveries.of(first.id)]) == (["fail"], ["pacs"])
    assert (first.identity.series_uid, first.identity.description) == ("1.2.3.6", "Abdomen portalvenös 1.0")
    assert first.identity.patient_id == "P1" and first.source == {"all": str(abdomen)}
    assert (second.state, second.route, second.parameters["series"]) == ("queued", "r2", "1.2.3.4")
    assert (second.parameters["outputs"], second.parameters["quality"]) == (["nifti"], "fast")
    assert not journal.deliveries.of(second.id)
    assert len({first.out, second.out}) == 2 and all(Path(job.out).is_absolute() for job in (first, second))
    checked = [event.what for _, event in journal.jobs.events(first.id) if event.state == "checked"]
    assert "route r3: not wanted: none of 13 series that fits the rules" in checked[0]


def test_a_job_names_the_patient_of_its_series_and_not_another_of_its_study(journal, installed, tmp_path):
    """Two patients under one Study Instance UID, as after a mistake at the scanner; the study is known by the first."""
    others = [
        studies.series(1, uid=str(n), PatientID=name, SeriesDescription=name) for n, name in enumerate(["A", "B"])
    ]
    folder = ds.write(tmp_path / "s", [one for series in others for one in series])
    rules = [{"must": {"description": name}} for name in "BA"]
    made = routed(journal, installed(*({"model": "plain", "series": one} for one in rules)), folder)
    assert [(job.identity.patient_id, job.identity.description) for job in made] == [("B", "B"), ("A", "A")]


def test_the_record_of_a_study_that_nothing_matches_names_every_series(journal, installed, abdomen):
    [job] = routed(journal, installed({"model": "plain", "series": {"must": {"modality": "MR"}}}), abdomen)
    assert (job.state, job.reason_code, job.route) == ("unmatched", "no-route", "")
    assert "series 13 'PET WB MAC' (PT, 30 slices): modality PT (needed MR)" in job.reason
    assert job.reason.count("\n") == 13
    [job] = routed(journal, installed(), abdomen)[1:]
    assert (job.state, job.reason) == ("unmatched", "the site has no routes")


@pytest.mark.parametrize("name", studies.BROKEN)
def test_what_is_broken_ends_with_its_reason(name, journal, installed, tmp_path):
    if name == "no codestream":
        pytest.skip("only whoever decodes the pixels can tell")
    [job] = routed(
        journal, installed({"model": "plain", "series": CT}), ds.write(tmp_path / "s", studies.BROKEN[name](1))
    )
    assert (job.reason_code, job.state) == (REASONS[name], "unmatched" if REASONS[name] == "no-route" else "failed")
    assert job.route == ("" if job.state == "unmatched" else "r1") and not job.model


def test_a_series_without_a_place_that_no_route_would_want_is_no_failure(journal, installed, tmp_path):
    folder = ds.write(tmp_path / "s", studies.BROKEN["no place"](1))
    [job] = routed(journal, installed({"model": "plain", "series": {"must": {"modality": "MR"}}}), folder)
    assert (job.state, job.reason_code) == ("unmatched", "no-route")


def test_a_study_that_lacks_a_channel_is_not_meant_whatever_the_other_is(journal, installed, tmp_path):
    rules = {"t1c": {"must": {"modality": "CT"}}, "flair": {"must": {"description": "flair"}}}
    folder = ds.write(tmp_path / "s", studies.BROKEN["two series that fit"](1))
    [job] = routed(journal, installed({"model": "brain", "channels": rules}), folder)
    assert (job.state, job.reason_code) == ("unmatched", "no-route")


def test_a_route_without_rules_takes_the_only_scan_and_guesses_among_no_two(journal, installed, tmp_path, abdomen):
    site = installed({"model": "plain"})
    folder = ds.write(tmp_path / "one", studies.series(1) + dicom_study.capture(9, "Protocol"))
    [job] = routed(journal, site, folder)
    assert (job.state, job.parameters["series"]) == ("queued", f"{studies.study_uid(1)}.1")
    [_, job] = routed(journal, site, abdomen)
    assert (job.state, job.reason_code) == ("failed", "several-series")


def test_one_file_that_cannot_be_read_refuses_the_study(journal, installed, tmp_path):
    folder = ds.write(tmp_path / "one", studies.series(1))
    (folder / "IM0003.dcm").write_bytes(b"\0" * 300)
    [job] = routed(journal, installed({"model": "plain"}), folder)
    assert (job.state, job.reason_code) == ("failed", "unreadable") and "IM0003.dcm" in job.reason
    shutil.rmtree(folder)
    assert journal.jobs.retry(job.id, "me") == "received"
    step(journal, installed({"model": "plain"}))
    assert journal.jobs.get(job.id).reason_code == "lost-input"


def test_a_route_that_cannot_have_its_series_stops_no_other_and_is_judged_anew(journal, installed, tmp_path):
    """Two slices are missing, 12 mm wide: one route may fill gaps as wide as that, the other may not."""
    folder = ds.write(tmp_path / "s", studies.series(1, places=np.delete(ds.places(12), [5, 6, 7], axis=0)))
    narrow = {"model": "plain", "series": CT, "send_to": ["pacs"]}
    wide = {**narrow, "set": ["dicom.gap_mm=15"]}
    first, second = routed(journal, installed(narrow, wide), folder)
    assert (first.state, first.reason_code, first.route) == ("failed", "missing-slices", "r1")
    assert (second.state, second.route) == ("queued", "r2")
    assert journal.jobs.retry(first.id, "me") == "received"
    step(journal, installed(wide, wide))
    again = journal.jobs.get(first.id)
    assert (again.state, again.route, again.reason_code, again.out) == ("queued", "r1", "", first.out)
    assert again.parameters["changes"] == ["dicom.gap_mm=15"] and len(journal.jobs.find()) == 2
    assert len(journal.deliveries.of(first.id)) == 1


@pytest.mark.parametrize("change", ["dicom.repair=refuse", "dicom.repair=report"])
def test_a_repair_that_a_route_forbids(change, journal, installed, tmp_path):
    folder = ds.write(tmp_path / "s", studies.series(1, places=np.delete(ds.places(12), 5, axis=0)))
    allowed, forbidden = {"model": "plain"}, {"model": "plain", "set": [change]}
    first, second = routed(journal, installed(allowed, forbidden), folder)
    assert (first.state, second.state, second.reason_code) == ("queued", "failed", "missing-slices")


def test_each_channel_has_rules_of_its_own(journal, installed, tmp_path):
    rules = {"t1c": {"must": {"description": "KM$", "plane": "axial"}}, "flair": {"must": {"description": "flair"}}}
    head = dicom_study.head()
    study = {name: head[name] for name in ("t2", "flair", "t1 axial", "t1c", "t1c coronal")}
    site, whole = installed({"model": "brain", "channels": rules}), dicom_study.write(tmp_path / "whole", study)
    [job] = routed(journal, site, whole)
    assert (job.state, job.parameters["series"]) == ("queued", {"t1c": "1.2.3.10", "flair": "1.2.3.3"})
    del study["flair"]
    [_, job] = routed(journal, site, dicom_study.write(tmp_path / "lacking", study))
    assert (job.state, job.reason_code) == ("unmatched", "no-route")
    twice = dict.fromkeys(rules, rules["flair"])
    [*_, job] = routed(journal, installed({"model": "brain", "channels": twice}), whole)
    assert (job.state, job.reason_code) == ("failed", "channels")
    [*_, job] = routed(journal, installed({"model": "brain", "channels": {"t1": rules["t1c"]}}), whole)
    assert (job.state, job.reason_code) == ("failed", "model") and "t1c, flair" in job.reason


def test_one_volume_of_a_series_is_named_behind_a_slash(journal, installed, tmp_path):
    echoes = studies.series(1, EchoTime=2.0, EchoNumbers=1) + studies.series(1, EchoTime=4.0, EchoNumbers=2)
    for number, one in enumerate(echoes, start=1):
        one.Modality, one.InstanceNumber = "MR", number
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{number}"
    folder, uid = ds.write(tmp_path / "s", echoes), f"{studies.study_uid(1)}.1"
    second, both = {"must": {"volume": "echo 2"}}, {"must": {"modality": "MR"}}
    made = routed(journal, installed({"model": "plain", "series": second}, {"model": "plain", "series": both}), folder)
    assert [job.parameters["series"] for job in made] == [f"{uid}/2", uid]


def test_a_model_that_is_not_there_is_told_of_and_found_later(journal, installed, tmp_path, runs):
    folder = ds.write(tmp_path / "s", studies.series(1))
    elsewhere, other = {"must": {"modality": "MR"}}, tmp_path / "later"
    absent = {"model": str(other)}
    site = installed({**absent, "series": CT}, {**absent, "series": elsewhere}, absent, {"model": "plain"})
    first, third, fourth = routed(journal, site, folder)
    assert [job.route for job in (first, third, fourth)] == ["r1", "r3", "r4"]
    assert [job.reason_code for job in (first, third, fourth)] == ["model", "model", ""]
    export(Run.open(runs["plain"]), tmp_path / "run.zip")
    (tmp_path / "run.zip").rename(other.with_suffix(".zip"))
    journal.jobs.retry(third.id, "me")
    step(journal, installed({"model": "plain"}, {"model": "plain"}, {"model": str(other.with_suffix(".zip"))}))
    again = journal.jobs.get(third.id)
    assert (again.state, again.model) == ("queued", str(other.with_suffix(".zip")))


def test_a_job_whose_model_went_while_it_waited_is_routed_anew_when_it_is_tried_again(
    journal, installed, tmp_path, runs
):
    old = tmp_path / "old.zip"
    export(Run.open(runs["plain"]), old)
    [job] = routed(journal, installed({"model": str(old)}), ds.write(tmp_path / "s", studies.series(1)))
    assert job.model == str(old)
    journal.jobs.take("queued", "w", becomes="running")
    journal.jobs.give_back(job.id, "w", "model", "it is gone", tries=1)
    assert journal.jobs.retry(job.id, "me") == "received"
    journal.jobs.cancel(job.id, "me")
    assert journal.jobs.retry(job.id, "me") == "received", "and does not go back to the one that is gone"
    step(journal, installed({"model": "plain"}))
    again = journal.jobs.get(job.id)
    assert (again.state, again.model, again.out) == ("queued", str(runs["plain"]), job.out)


def test_a_study_that_is_cancelled_while_it_is_looked_at_is_not_routed(journal, installed, tmp_path, monkeypatch):
    folder, look = ds.write(tmp_path / "s", studies.series(1)), reading.Reading.look

    def cancelled(self, path):
        journal.jobs.cancel(1, "me")
        return look(self, path)

    monkeypatch.setattr(reading.Reading, "look", cancelled)
    [job] = routed(journal, installed({"model": "plain"}), folder)
    assert job.state == "cancelled"


def test_a_file_that_hangs_or_kills_the_parser_ends_its_study_alone(journal, installed, tmp_path, monkeypatch):
    """The process that reads is stopped by a signal before each study."""
    good, site = ds.write(tmp_path / "s", studies.series(1)), installed({"model": "plain"})
    connected = reading.Reading._connected

    def stopped(self):
        connection = connected(self)
        os.kill(self._process.pid, signal.SIGKILL if journal.jobs.get(1).attempts == 1 else signal.SIGSTOP)
        return connection

    journal.jobs.submit(replace(ARRIVED, source={"all": str(good)}), who="CT")
    clerk = Clerk(site, journal, "clerk")
    clerk._reading = reading.Reading(limit_s=0.2)
    with monkeypatch.context() as patched:
        patched.setattr(reading.Reading, "_connected", stopped)
        assert clerk.step() and journal.jobs.get(1).reason_code == "crashed"
        assert clerk.step() and journal.jobs.get(1).reason_code == "timeout"
        assert clerk.step() and not clerk.step()
    assert journal.jobs.get(1).state == "quarantined"
    clerk._reading._limit_s = 20  # another process reads: the one that hangs is gone
    journal.jobs.retry(1, "me")
    assert clerk.step() and journal.jobs.get(1).state == "queued"
    clerk.close()


ASKING = """
import subprocess, sys, time
from multiprocessing.connection import Pipe
ours, theirs = Pipe()
number = theirs.fileno()
reader = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(number)], pass_fds=[number])
theirs.close()
ours.send(".")
assert ours.recv() == "begun"
print(reader.pid, flush=True)
time.sleep(600)
"""
READING = """
import sys
from multiprocessing.connection import Connection
from medseg.dicom import archive, sweep
from medseg.service import reading
def hang(paths):
    Connection(int(sys.argv[1])).send("begun")
    while True:
        pass
archive.gather = hang
reading.main(int(sys.argv[1]))
"""


def test_who_reads_ends_with_who_asks_also_in_a_file_that_has_no_end() -> None:
    words = [sys.executable, "-c", ASKING, READING]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as asking:
        assert asking.stdout
        pid = int(asking.stdout.readline())
        asking.kill()
    try:
        until(lambda: not Path(f"/proc/{pid}").exists(), "the process that reads has ended", within_s=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_the_command_explains_without_a_journal(installed, tmp_path, abdomen, runs):
    site = installed(
        {"model": "liver", "send_to": ["pacs"], "hold": ["fail"]},
        {"model": "plain", "series": {"must": {"modality": "MR"}}},
    )
    said = medseg_command("route", tmp_path / "site.yaml", abdomen, "--explain")
    assert said.code == 0
    for text in (
        "route r1: series 6 'Abdomen portalvenös 1.0' (CT, 40 slices), chosen by the rules from",
        "takes series 6 'Abdomen portalvenös 1.0' (CT, 40 slices): modality CT, ",
        "series 3 'Abdomen nativ 1.0' (CT, 40 slices): phase native, by 'nativ' (needed 'portal venous')",
        f"job: {runs['liver']} makes dicom_seg, dicom_sr for pacs, held back where quality control says fail",
        "route r2: not wanted: none of",
    ):
        assert text in said.out, text
    assert not site.at(site.data).exists()
