"""`medseg doctor`: says what is amiss in an installation, and what to do; nothing that is broken stops it."""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import pytest
import torch
from sqlalchemy import text

from medseg.dicom import codec
from medseg.service import models
from medseg.service.journal import Journal
from medseg.service.operations import doctor
from medseg.service.operations.checks import installation, machine, network, software
from medseg.service.operations.checks.finding import Finding, trying
from medseg.service.settings.keep import Keep
from medseg.service.settings.receivers import FolderReceiver, StoreReceiver, WebReceiver
from medseg.service.settings.routes import Route
from medseg.service.settings.site import Site
from medseg.service.settings.sources import DicomSource, WebSource
from tests import judges
from tests.service.answering import Answers, answered_by
from tests.service.test_journal import ASKED
from tests.tiny import medseg_command, untrained_run

FREE = Keep(free_gib=0)


def said(found: Iterator[Finding]) -> dict[str, tuple[str, str]]:
    """What was looked at -> verdict and what was found."""
    return {one.what: (one.verdict, one.found) for one in found}


def verdicts(found: Iterator[Finding]) -> dict[str, str]:
    return {what: verdict for what, (verdict, _) in said(found).items()}


def test_a_machine_that_is_well(monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    found = list(doctor.examine(None))
    assert not [one for one in found if one.verdict == "bad"]
    told = said(iter(found))
    assert told["codecs"] == ("ok", f"all {len(codec.COMPRESSED)} compressed transfer syntaxes were decoded")
    assert told["versions"][1].startswith("medseg ") and f"torch {torch.__version__}" in told["versions"][1]
    assert all(one.remedy for one in found if one.verdict != "ok")


def test_a_site_that_is_well(tmp_path):
    run = untrained_run(tmp_path / "run").folder
    ports = judges.free_port(), judges.free_port()
    site = tmp_path / "site.yaml"
    site.write_text(
        f"keep: {{free_gib: 0}}\nlisten: {{port: {ports[0]}}}\nserve: {{port: {ports[1]}}}\n"
        "routes: [{name: liver, model: liver, send_to: [disk]}]\n"
        "receivers: {disk: {kind: folder, folder: .}}\n",
        encoding="utf-8",
    )
    medseg_command("models", "install", site, run, "liver", "--version", "1")
    done = medseg_command("doctor", site)
    assert done.code == 0, done.out
    for line in (
        f"ok   port of the listener: 127.0.0.1:{ports[0]} is free",
        "ok   model liver@1: licence: CC0-1.0; in use",
        f"ok   route liver: model {tmp_path / 'data' / 'models' / 'liver' / '1'}",
        f"ok   receiver disk: {tmp_path} can be written to",
        "version 0001, 0 jobs, 0 wait",
        "ok   disk, hard links: work",
        "ok   disk, file locks: work",
    ):
        assert line in done.out
    assert sorted(path.name for path in (tmp_path / "data").iterdir())[:1] == ["journal.sqlite"]  # nothing is left


def test_a_site_that_is_not(tmp_path):
    site = tmp_path / "site.yaml"
    site.write_text(
        "journal: postgresql://nobody@127.0.0.1:1/none\nkeep: {free_gib: 1000000000}\n"
        "routes: [{name: liver, model: liver}]\nreceivers: {disk: {kind: folder, folder: missing}}\n",
        encoding="utf-8",
    )
    done = medseg_command("doctor", site, "--json")
    assert done.code == 1
    found = {one["what"]: one for one in json.loads(done.out)}
    assert {what for what, one in found.items() if one["verdict"] == "bad"} == {
        "disk",
        "journal",
        "routes",
        "receiver disk",
    }
    assert all(one["remedy"] for one in found.values() if one["verdict"] == "bad")
    assert "models list" in found["routes"]["remedy"] or "models install" in found["routes"]["remedy"]


def test_a_journal_is_not_made_by_looking_for_it(tmp_path):
    found = said(doctor.examine(Site(folder=tmp_path, keep=FREE)))
    assert found["journal"][0] == "look" and not (tmp_path / "data" / "journal.sqlite").exists()


def test_a_check_that_fails_stops_no_other():
    def broken() -> Iterator[Finding]:
        yield Finding("x", "ok", "first")
        raise OSError(5, "Input/output error")

    assert said(trying("driver", broken)) == {
        "x": ("ok", "first"),
        "driver": ("bad", "OSError: [Errno 5] Input/output error"),
    }


def test_decoders_that_are_missing_or_wrong(monkeypatch):
    real = codec.decode

    def decode(code, frame):
        if frame.syntax in codec.HTJ2K:
            raise ImportError("no pylibjpeg")
        return real(code, frame) + (50 if frame.syntax in codec.JPEG_LS else 0)

    monkeypatch.setattr(codec, "decode", decode)
    (finding,) = software.codecs()
    assert finding.verdict == "bad" and "ImportError: no pylibjpeg" in finding.found
    assert finding.found.count("High-Throughput") == 3 and "pixels off by up to 50" in finding.found


def test_extras_and_packages_that_report(monkeypatch):
    found = software.importlib.util.find_spec
    monkeypatch.setattr(software.importlib.util, "find_spec", lambda name: None if name == "fastapi" else found(name))
    assert said(software.extras())["extra service"] == ("look", "not installed: fastapi")
    monkeypatch.setattr(software.importlib.util, "find_spec", lambda name: object())
    assert verdicts(software.environment({})) == {"telemetry": "look"}
    assert verdicts(software.environment({"RAY_USAGE_STATS_ENABLED": "0"})) == {"telemetry": "ok"}


def test_gpus(monkeypatch):
    class Facts:
        name, total_memory = "A GPU", 80 * 2**30

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: Facts)
    ones = torch.ones
    monkeypatch.setattr(torch, "ones", lambda *sides, device: ones(*sides))
    assert said(machine.gpus())["GPU 0"][0] == "ok" and "A GPU, 80 GiB" in said(machine.gpus())["GPU 0"][1]
    monkeypatch.setattr(torch, "ones", lambda *sides, device: ones(*sides) * 1.5)
    assert verdicts(machine.gpus()) == {"GPU 0": "bad"}

    def broken(*sides, device):
        raise RuntimeError("CUDA error: no kernel image is available")

    monkeypatch.setattr(torch, "ones", broken)
    assert said(machine.gpus())["GPU 0"][0] == "bad" and "no kernel image" in said(machine.gpus())["GPU 0"][1]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert verdicts(machine.gpus()) == {"GPU": "look"}


def test_memory_that_a_container_limits(monkeypatch):
    monkeypatch.setattr("medseg.engine.memory.container_limits", lambda: [2 * 2**30])
    (finding,) = machine.memory()
    assert finding.verdict == "look" and "leaves 2.0" in finding.found


def test_a_disk_that_cannot_do_what_is_needed(tmp_path, monkeypatch):
    assert set(verdicts(machine.disk(tmp_path, FREE)).values()) == {"ok"}

    def refuse(self, target):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    monkeypatch.setattr(filelock.FileLock, "acquire", lambda self, timeout=None: _held())
    monkeypatch.setattr(filelock.FileLock, "release", lambda self: None)
    monkeypatch.setattr(machine, "SLOW_SYNC_S", -1)
    assert verdicts(machine.disk(tmp_path, FREE)) == {
        "disk": "ok",
        "disk, syncing": "look",
        "disk, hard links": "bad",
        "disk, file locks": "bad",
        "disk, access": "ok",
    }
    tmp_path.chmod(0o750)
    assert said(machine.disk(tmp_path, FREE))["disk, access"][0] == "look"
    tight = shutil.disk_usage(tmp_path).free / 2**30 / 1.5
    assert said(machine.disk(tmp_path, Keep(free_gib=tight)))["disk"][0] == "look"
    (tmp_path / "file").write_text("")
    assert verdicts(machine.disk(tmp_path / "file", FREE)) == {"disk": "bad"}


@contextmanager
def _held() -> Iterator[None]:
    yield


def test_a_clock_that_is_wrong(journal, monkeypatch):
    monkeypatch.setattr(machine, "_kept_by_a_server", lambda: True)
    assert said(machine.clock(journal))["clock"][1].endswith("kept by a time server")
    journal.jobs.submit(ASKED, who="a")
    assert verdicts(machine.clock(journal)) == {"clock": "ok"}
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 7200)
    assert said(machine.clock(journal))["clock"][1].endswith("2.0 hours before the newest entry")
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert said(machine.clock(None))["clock"][0] == "bad"
    monkeypatch.setattr(time, "time", lambda: now)
    monkeypatch.setattr(machine, "_kept_by_a_server", lambda: False)
    assert verdicts(machine.clock(journal)) == {"clock": "look"}


def test_a_journal_that_can_only_be_read(journal):
    """A disk that the system has mounted anew after an error; a standby, or a database that was closed for repair."""
    assert said(installation.journal(journal))["journal"][0] == "ok"
    if journal.database.is_file:
        closed = journal
        with journal.database.read() as connection:
            connection.execute(text("PRAGMA query_only = ON"))
    else:
        with journal.database.write() as connection:
            connection.execute(
                text(f"ALTER DATABASE {journal.database.url.database} SET default_transaction_read_only = on")
            )
        closed = Journal(journal.database.url.render_as_string(hide_password=False), upgrade=False)
    [found] = installation.journal(closed)
    closed.close()
    assert found.verdict == "bad" and "it cannot be written (" in found.found


def test_a_journal_that_another_writes_all_the_time_is_busy_and_read_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("medseg.service.journal.database.BUSY_MS", 10)
    writing, looking = (Journal(tmp_path / "journal.sqlite") for _ in range(2))
    with writing.database.write():
        busy, counted = installation.journal(looking)
    assert busy.verdict == "look" and busy.found.endswith("it is busy") and busy.remedy
    assert counted.verdict == "ok" and "0 jobs" in counted.found
    writing.close()
    looking.close()


def test_a_journal_of_a_later_medseg_and_one_with_failures(tmp_path):
    site = Site(folder=tmp_path, keep=FREE)
    journal = Journal(site.journal_at)
    journal.jobs.submit(ASKED, who="a")
    job = journal.jobs.take("queued", "w", becomes="running")
    journal.jobs.move(job.id, "w", "failed", reason_code="error")
    found = said(doctor.examine(site))
    assert found["journal"][0] == "look" and "1 ended badly" in found["journal"][1]
    with journal.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    journal.close()
    found = said(doctor.examine(site))
    assert found["journal"][0] == "bad" and "9999" in found["journal"][1] and "clock" in found


def test_models_that_have_changed_or_whose_licence_is_unknown(tmp_path):
    site = Site(folder=tmp_path, keep=FREE, routes=(Route(name="r", model="liver"),))
    for version, licence in (("1", "CC0-1.0"), ("2", "not stated")):
        run = untrained_run(tmp_path / version / "run")
        recipe = run.path("recipe.yaml")
        recipe.write_text(recipe.read_text().replace("CC0-1.0", f"'{licence}'"), encoding="utf-8")
        models.install(models.at(site), run.folder, "liver", version)
    (models.at(site) / "liver" / "1" / "card.md").write_text("another", encoding="utf-8")
    found = said(doctor.examine(site))
    assert found["model liver@1"] == ("bad", "card.md has changed")
    assert found["model liver@2"][0] == "look" and found["route r"][0] == "ok"


def test_ports(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        site = Site.model_validate({"listen": {"port": port}, "serve": {"host": "192.0.2.1", "port": 8080}})
        assert verdicts(network.ports(site)) == {"port of the listener": "look", "port of the page": "bad"}
    site = Site.model_validate({"listen": {"port": port}, "serve": {"port": 0}})
    assert set(verdicts(network.ports(site)).values()) == {"ok"}


@contextmanager
def answering(status: int) -> Iterator[tuple[str, list[str]]]:
    """An address that answers everything so; and the tokens that it was shown."""
    shown: list[str] = []

    class Handler(Answers):
        def do_GET(self) -> None:
            shown.append(self.headers.get("Authorization", ""))
            self.send_response(status)
            self.end_headers()

    with answered_by(Handler) as url:
        yield url, shown


@pytest.mark.parametrize(
    ("status", "verdict"), [(200, "ok"), (404, "ok"), (401, "bad"), (403, "bad"), (500, "bad"), (503, "bad")]
)
def test_archives_over_http(status, verdict, monkeypatch):
    monkeypatch.setenv("PACS_TOKEN", "secret-7")
    with answering(status) as (url, shown):
        receiver = WebReceiver(kind="dicomweb", url=url, token="${PACS_TOKEN}")
        found = said(network.others(Site(receivers={"pacs": receiver})))
    assert found["receiver pacs"][0] == verdict and shown == ["Bearer secret-7"]
    assert "secret-7" not in str(found)


def test_whom_nobody_hears(tmp_path, monkeypatch):
    monkeypatch.setattr(network, "WAIT_S", 0.5)
    with socket.socket() as mute:  # takes connections and says nothing
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        port, closed = mute.getsockname()[1], judges.free_port()
        site = Site(
            receivers={
                "mute": StoreReceiver(kind="dicom", host="127.0.0.1", port=port, ae_title="X"),
                "web": WebReceiver(kind="dicomweb", url=f"http://127.0.0.1:{port}"),
                "disk": FolderReceiver(kind="folder", folder=tmp_path / "none"),
                "unset": WebReceiver(kind="dicomweb", url="http://127.0.0.1:1", token="${NO_SUCH_VARIABLE}"),
            },
            sources={
                "closed": DicomSource(host="127.0.0.1", port=closed, ae_title="X"),
                "web": WebSource(kind="dicomweb", url=f"http://127.0.0.1:{closed}"),
            },
        )
        found = said(network.others(site))
    assert len(found) == 6 and {verdict for verdict, _ in found.values()} == {"bad"}
    assert "NO_SUCH_VARIABLE" in found["receiver unset"][1]


class TestOrthanc:
    pytestmark = judges.needs("Orthanc")

    def test_an_archive_answers(self, tmp_path):
        (tmp_path / "storage").mkdir()
        with judges.orthanc(tmp_path) as archive:
            site = Site(
                receivers={
                    "pacs": StoreReceiver(kind="dicom", host="127.0.0.1", port=archive.dicom, ae_title="ORTHANC"),
                    "web": WebReceiver(kind="dicomweb", url=f"http://127.0.0.1:{archive.http}/dicom-web"),
                }
            )
            found = said(network.others(site))
        assert found["receiver pacs"] == ("ok", f"ORTHANC at 127.0.0.1:{archive.dicom} answers C-ECHO")
        assert found["receiver web"][0] == "ok" and found["receiver web"][1].endswith("answers 200")


def test_an_archive_that_does_not_know_us():
    from pynetdicom import AE

    other = AE("PACS")
    other.require_calling_aet = ["SOMEBODY"]
    other.add_supported_context(network.VERIFICATION)
    server = other.start_server(("127.0.0.1", 0), block=False)
    try:
        port = server.server_address[1]
        source = DicomSource(host="127.0.0.1", port=port, ae_title="PACS")
        found = said(network.others(Site(sources={"pacs": source})))
        assert found["source pacs"][0] == "bad" and "rejects MEDSEG" in found["source pacs"][1]
        other.require_calling_aet = ["MEDSEG"]
        assert verdicts(network.others(Site(sources={"pacs": source}))) == {"source pacs": "ok"}
    finally:
        server.shutdown()
