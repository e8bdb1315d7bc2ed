"""`medseg listen` as its administrator starts it: with dcmtk and Orthanc as senders, over TLS, stopped and killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from medseg.service.journal import Journal
from medseg.service.journal.arrivals import Counts
from tests import judges
from tests.judges import free_port
from tests.service.certificates import certificates
from tests.service.hospital import hospital, until
from tests.service.intake_sites import image, save, send
from tests.tiny import ENVIRONMENT

pytestmark = judges.needs("storescu")


class Program:
    """`medseg listen` in a process of its own."""

    def __init__(self, folder: Path, **sections: object):
        self.folder, self.port = folder, free_port()
        listen = {"port": self.port, "quiet_s": 0.3, **sections.pop("listen", {})}  # type: ignore[dict-item]
        settings = {"listen": listen, "keep": {"free_gib": 0}, **sections}
        (folder / "site.yaml").write_text(yaml.safe_dump(settings))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        words = [sys.executable, "-m", "medseg", "listen", str(self.folder / "site.yaml"), *options]
        with (self.folder / "log").open("ab") as log:
            before = log.tell()
            self.process = subprocess.Popen(words, stderr=log, stdout=log, env=ENVIRONMENT)
        until(lambda: "listens at" in self.log()[before:] or self.process.poll() is not None, "it listens")
        assert self.process.poll() is None, self.log()

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def end(self, number: int) -> int:
        assert self.process
        self.process.send_signal(number)
        return self.process.wait(timeout=120)

    @contextmanager
    def journal(self) -> Iterator[Journal]:
        journal = Journal(self.folder / "data" / "journal.sqlite")
        try:
            yield journal
        finally:
            journal.close()

    def jobs(self) -> list[object]:
        with self.journal() as journal:
            return list(journal.jobs.find())


@pytest.fixture
def program(tmp_path):
    made: list[Program] = []

    def make(**sections: object) -> Program:
        made.append(Program(tmp_path, **sections))
        return made[-1]

    yield make
    for one in made:
        if one.process and one.process.poll() is None:
            one.process.kill()
            one.process.wait(timeout=60)


def test_a_study_becomes_a_job_and_the_log_names_nobody(program, tmp_path):
    made = program(listen={"allow": ["CT1"]}, watch=[{"folder": "in", "quiet_s": 0.2}])
    made.start("--json")
    paths = [save(image(n, PatientName="Meier^Anna", PatientID="ID-4711"), tmp_path / f"{n}.dcm") for n in (1, 2)]
    assert not send(made.port, *paths, calling="EVIL") and send(made.port, *paths)
    until(lambda: len(made.jobs()) == 1, "a job of what was sent")
    save(image(1, study="1.2.3", PatientName="Meier^Anna"), tmp_path / "in" / "Meier.dcm")
    until(lambda: len(made.jobs()) == 2, "a job of what was found")
    assert made.end(signal.SIGTERM) == 0
    with made.journal() as journal:
        watched, sent = journal.jobs.find()
        assert (sent.identity.patient_id, watched.identity.study_uid) == ("ID-4711", "1.2.3")
        assert journal.arrivals.counts() == Counts(received=3, duplicates=0, corrected=0, studies=2, open=0)
        outcomes = [entry.outcome for _, entry in journal.audit.entries()]
    assert sorted(outcomes) == ["done, 2 objects", "refused: not allowed"]
    lines = [json.loads(line) for line in made.log().splitlines()]
    assert {"study complete", "association ended"} <= {line["what"] for line in lines}
    for word in ("Meier", "4711", sent.identity.study_uid, "Traceback"):
        assert word not in made.log()


def test_what_was_answered_with_success_outlives_any_kill_and_nothing_is_doubled(program, tmp_path):
    made = program(listen={"quiet_s": 600})
    paths = [save(image(n), tmp_path / "study" / f"{n:03}.dcm") for n in range(100)]
    taken: set[str] = set()
    for moment in (2, 60):
        made.start()
        words = [judges.program("storescu"), "-v", "-aec", "MEDSEG", "127.0.0.1", str(made.port), *map(str, paths)]
        sender = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        answers, current = 0, ""
        assert sender.stdout
        for line in sender.stdout:
            if "Sending file: " in line:
                current = line.partition("Sending file: ")[2].strip()
            elif "Received Store Response (Success)" in line:
                taken.add(Path(current).stem)
                answers += 1
                if answers == moment:
                    made.end(signal.SIGKILL)
        assert sender.wait(timeout=60) != 0 and answers >= moment
        made.end(signal.SIGKILL)
    made.start()
    with made.journal() as journal:
        here = {one.sop_uid.rpartition(".")[2] for one in journal.arrivals.current(image(1).StudyInstanceUID)}
        assert here >= {str(int(name)) for name in taken} and len(taken) >= 60
    assert send(made.port, *paths)
    with made.journal() as journal:
        counts = journal.arrivals.counts()
        current = journal.arrivals.current(image(1).StudyInstanceUID)
    assert (len(current), counts.corrected, counts.open) == (100, 0, 1)
    stored = list((tmp_path / "data" / "objects").rglob("*.dcm"))
    assert {str(path.relative_to(tmp_path / "data")) for path in stored} == {one.path for one in current}
    assert made.end(signal.SIGTERM) == 0
    left = [path for path in (tmp_path / "data" / "incoming").rglob("*") if path.suffix != ".lock"]
    assert not left


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_fifty_associations_of_two_hundred_objects_at_once(program, tmp_path):
    """None is dropped, and the memory does not grow with what comes in."""
    made = program(listen={"associations": 50, "quiet_s": 600, "idle_s": 300})
    made.start()
    memory = []
    for objects in (4, 200):
        crowd = [sys.executable, "-m", "tests.service.crowd", str(made.port), "50", str(objects)]
        sent = subprocess.run(crowd, capture_output=True, text=True, env=ENVIRONMENT, timeout=1000)
        assert sent.stdout.strip() == str(50 * objects), sent.stderr
        memory.append(peak_mib(made.process.pid))
    print(f"peak of the listener's memory: {memory[0]:.0f} MiB after 200 objects, {memory[1]:.0f} after 10200")
    with made.journal() as journal:
        counts = journal.arrivals.counts()
        assert (counts.received, counts.duplicates, counts.studies) == (10200, 200, 50)
        until(lambda: len(journal.audit.entries()) == 100, "all are on record")
        assert sum(entry.outcome == "done, 200 objects" for _, entry in journal.audit.entries()) == 50
    assert memory[1] - memory[0] < 40


def peak_mib(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def test_a_site_that_cannot_be_is_one_clear_sentence(program, tmp_path):
    made = program(listen={"tls": {"certificate": "none.pem", "key": "none.pem"}})
    words = [sys.executable, "-m", "medseg", "listen", str(tmp_path / "site.yaml")]
    done = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=120)
    assert done.returncode == 2 and "none.pem" in done.stderr and "Traceback" not in done.stderr
    made = program()
    made.start()
    done = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=120)
    assert done.returncode == 2 and f"127.0.0.1:{made.port}" in done.stderr and "Traceback" not in done.stderr


def test_over_tls_only_who_shows_a_certificate_is_heard(program, tmp_path):
    certificates(tmp_path)
    made = program(listen={"tls": {"certificate": "server.pem", "key": "server.key", "authority": "authority.pem"}})
    made.start()
    path = save(image(1), tmp_path / "1.dcm")

    def by(name: str) -> tuple[str, ...]:
        return (
            "+tls",
            str(tmp_path / f"{name}.key"),
            str(tmp_path / f"{name}.pem"),
            "+cf",
            str(tmp_path / "authority.pem"),
        )

    assert not send(made.port, path)
    assert not send(made.port, path, more=("+tla", "+cf", str(tmp_path / "authority.pem")))
    assert not send(made.port, path, more=by("foreign"))
    assert send(made.port, path, more=by("client"))
    with made.journal() as journal:
        assert journal.arrivals.counts().received == 1
        until(lambda: made.log().count("outcome") == 4 and journal.audit.entries(), "all are on record")
        outcomes = [entry.outcome for _, entry in journal.audit.entries()]
    assert outcomes == ["done, 1 objects"] and made.log().count("no TLS") == 3


@pytest.mark.parametrize("known", [True, False], ids=["at its own address", "on the same association"])
def test_orthanc_sends_and_is_told_what_is_kept(tmp_path, known):
    with hospital(tmp_path) as made:
        sources = (
            {"pacs": {"kind": "dicom", "host": "127.0.0.1", "port": made.archive.dicom, "ae_title": "ORTHANC"}}
            if known
            else {}
        )
        listen = {"port": made.port, "allow": ["ORTHANC", "CT1"], "quiet_s": 1.0}
        made.site.write_text(yaml.safe_dump({"listen": listen, "sources": sources, "keep": {"free_gib": 0}}))
        made.start("listen")
        made.introduce()
        until(lambda: "listens at" in made.log("listen"), "it listens", within_s=60)
        study = {made.keep(save(image(n), tmp_path / f"{n}.dcm")) for n in (1, 2)}.pop()
        assert made.send(study)
        until(lambda: len(made.jobs()) == 1, "a job")
        asked = [
            {"SOPClassUID": image(n).SOPClassUID, "SOPInstanceUID": image(n).SOPInstanceUID, "n": n} for n in (1, 2, 3)
        ]
        next((tmp_path / "data" / "objects").rglob("*.dcm")).unlink()
        with made.journal() as journal:
            [lost] = [
                one.sop_uid
                for one in journal.arrivals.current(image(1).StudyInstanceUID)
                if not (tmp_path / "data" / one.path).exists()
            ]
        if known:
            body = {
                "DicomInstances": [{name: one[name] for name in ("SOPClassUID", "SOPInstanceUID")} for one in asked]
            }
            answer = made.put("/modalities/MEDSEG/storage-commitment", body, "POST")
            until(lambda: made.look(answer["Path"])["Status"] != "Pending", "the answer", within_s=60)
            said = made.look(answer["Path"])
            assert [one["SOPInstanceUID"] for one in said["Success"]] == [
                one["SOPInstanceUID"] for one in asked[:2] if one["SOPInstanceUID"] != lost
            ]
            assert {one["SOPInstanceUID"] for one in said["Failures"]} == {lost, asked[2]["SOPInstanceUID"]}
        else:
            assert told_here(made.port, asked) == {
                "kept": [one["SOPInstanceUID"] for one in asked[:2] if one["SOPInstanceUID"] != lost],
                "failed": {lost: 0x0112, asked[2]["SOPInstanceUID"]: 0x0112},
            }


def told_here(port: int, asked: list[dict[str, str]]) -> dict[str, object]:
    """Ask for commitment by pynetdicom, and wait for the answer on the same association."""
    import queue

    from pydicom.dataset import Dataset
    from pynetdicom import AE, evt
    from pynetdicom.sop_class import StorageCommitmentPushModel

    said: queue.Queue[Dataset] = queue.Queue()
    wanted = Dataset()
    wanted.TransactionUID, wanted.ReferencedSOPSequence = "1.2.3.4", []
    for one in asked:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one["SOPClassUID"], one["SOPInstanceUID"]
        wanted.ReferencedSOPSequence.append(item)
    entity = AE("CT1")
    entity.add_requested_context(StorageCommitmentPushModel)
    handler = (evt.EVT_N_EVENT_REPORT, lambda event: said.put(event.event_information) or (0, None))
    association = entity.associate("127.0.0.1", port, ae_title="MEDSEG", evt_handlers=[handler])
    status, _ = association.send_n_action(wanted, 1, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1")
    assert status.Status == 0
    answer = said.get(timeout=60)
    bad = Dataset()
    bad.TransactionUID = "no uid"
    assert association.send_n_action(bad, 1, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1")[0].Status == 0x0115
    assert association.send_n_action(bad, 7, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1")[0].Status == 0x0123
    association.release()
    assert answer.TransactionUID == "1.2.3.4"
    return {
        "kept": [one.ReferencedSOPInstanceUID for one in answer.get("ReferencedSOPSequence", ())],
        "failed": {one.ReferencedSOPInstanceUID: one.FailureReason for one in answer.FailedSOPSequence},
    }
