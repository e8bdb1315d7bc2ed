"""Results reach their receivers: whole, once, kept until that is confirmed, and nobody waits for one who is down."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import AE, AllStoragePresentationContexts, build_context, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

from medseg import plugins, readers
from medseg.labels import LabelTable
from medseg.prediction import Prediction
from medseg.refusal import Refusal
from medseg.service import logs, wire
from medseg.service.delivery import backoff, commitment, sender
from medseg.service.delivery.dicom import StoreWay
from medseg.service.delivery.way import digest, meaning
from medseg.service.journal import Journal
from medseg.service.journal.job import Job
from medseg.service.settings import site as sites
from medseg.service.settings.site import Site
from tests import dicom_series as ds
from tests.judges import Archive, free_port, needs, orthanc
from tests.service.hospital import until
from tests.service.test_journal import ASKED

ORTHANC = needs("Orthanc")
WAIT_S = 60


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A segmentation, measurements as DICOM and as a table, under names and with attributes that are odd."""
    folder = tmp_path_factory.mktemp("made")
    odd = {"PatientName": "<script>alert(1)</script>^Ümläüt", "SpecificCharacterSet": "ISO_IR 192"}
    scan = readers.read(ds.series(folder / "scan", ds.places(5), **odd))
    target = np.zeros((1, *scan.shape), np.uint8)
    target[0, 2:6, 3:8, 1:4] = 1
    prediction = Prediction(
        "case", LabelTable.of({"liver": 1}), scan.with_array(target), {"model": "unit test"}, scan=scan
    )
    for name in ("dicom_seg", "dicom_sr", "statistics_csv"):
        output = plugins.find("outputs", name)
        output.write(prediction, folder / "out" / f"case{output.SUFFIX}", output.Options())
    return folder / "out"


@pytest.fixture
def journal(tmp_path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "journal.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """Seconds that pass when a test says so, for the back-off and for the journal's waits alike."""
    now = [1e9]
    made = backoff.BackOff
    monkeypatch.setattr(sender, "BackOff", lambda: made(lambda: now[0]))
    monkeypatch.setattr("medseg.service.journal.jobs.time.time", lambda: now[0])
    return now


def site_of(folder: Path, *, listen: Any = None, routes: Any = (), **receivers: dict[str, Any]) -> Site:
    values = {"receivers": receivers, "listen": listen or {}, "routes": list(routes)}
    (folder / "site.yaml").write_text(yaml.safe_dump(values))
    return sites.load(folder / "site.yaml")


def share(folder: Path) -> dict[str, Any]:
    (folder / "share").mkdir(exist_ok=True)
    return {"kind": "folder", "folder": "share"}


def proven(journal: Journal, made: Path, *receivers: str, digest_: str = "d", **more: Any) -> Job:
    """A job whose results were read back."""
    verdict = more.pop("verdict", "pass")
    asked = replace(ASKED, receivers=receivers, out=str(made), digest=digest_, **more)
    job, _ = journal.jobs.submit(asked, who="test")
    journal.jobs.take("queued", "worker", becomes="running")
    files = {path.name: digest(path) for path in sorted(made.iterdir())}
    journal.jobs.move(job.id, "worker", "written", keep=True, files=files)
    journal.jobs.move(job.id, "worker", "proven", verdict=verdict)
    return job


@contextmanager
def sending(site: Site, journal: Journal) -> Iterator[sender.Sender]:
    one = sender.Sender(site, journal, "sender")
    try:
        yield one
    finally:
        one.close()


def send(site: Site, journal: Journal, *, steps: int = 20) -> None:
    """Let a sender work until there is nothing to do."""
    with sending(site, journal) as one:
        for _ in range(steps):
            if not one.step():
                return
    raise AssertionError("the sender finds no end")


def told(journal: Journal, job: Job) -> dict[str, str]:
    return {one.receiver: one.state for one in journal.deliveries.of(job.id)}


def problems(journal: Journal, job: Job) -> str:
    return "; ".join(one.problem for one in journal.deliveries.of(job.id))


def states(journal: Journal, job: Job) -> list[str]:
    return list(dict.fromkeys(event.state for _, event in journal.jobs.events(job.id)))


@contextmanager
def scp(answer: Callable[[Any], int] = lambda event: 0, *, contexts: Any = None, **more: Any) -> Iterator[int]:
    """An archive on loopback that answers each object with a status; its port."""
    entity, handlers = AE("ARCHIVE"), [(evt.EVT_C_STORE, answer), *more.pop("handlers", ())]
    entity.supported_contexts = AllStoragePresentationContexts if contexts is None else contexts
    entity.add_supported_context(Verification)
    entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    for name, value in more.items():
        setattr(entity, name, value)
    port = free_port()
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    try:
        yield port
    finally:
        server.shutdown()


def at(port: int, **more: Any) -> dict[str, Any]:
    return {"kind": "dicom", "host": "127.0.0.1", "port": port, "ae_title": "ARCHIVE", **more}


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Iterator[Archive]:
    with orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


def objects(archive: Archive, folder: Path) -> list[pydicom.Dataset]:
    found = json.loads(archive.get("/instances"))
    return [pydicom.dcmread(archive.fetch(one, folder / f"{one}.dcm")) for one in found]


@pytest.fixture
def empty(archive) -> Archive:
    for patient in json.loads(archive.get("/patients")):
        asked = urllib.request.Request(f"http://127.0.0.1:{archive.http}/patients/{patient}", method="DELETE")
        urllib.request.urlopen(asked, timeout=WAIT_S).close()
    return archive


def of_orthanc(kind: str, archive: Archive, **more: Any) -> dict[str, Any]:
    if kind == "dicom":
        return {**at(archive.dicom), "ae_title": "ORTHANC", **more}
    return {"kind": "dicomweb", "url": f"http://127.0.0.1:{archive.http}/dicom-web", **more}


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=ORTHANC) for kind in ("dicom", "dicomweb")])
def test_what_an_archive_has_is_what_was_written_and_is_there_once(kind, journal, made, tmp_path, empty):
    site = site_of(tmp_path, pacs=of_orthanc(kind, empty))
    job = proven(journal, made, "pacs")
    send(site, journal)
    assert states(journal, job)[-3:] == ["proven", "sent", "done"] and told(journal, job) == {"pacs": "confirmed"}
    assert "no DICOM: case.statistics.csv" in problems(journal, job)
    with journal.database.write() as connection:  # as if the sender had died before it could put it on record
        connection.exec_driver_sql("UPDATE jobs SET state = 'proven'")
        connection.exec_driver_sql("UPDATE deliveries SET state = 'waiting'")
    send(site, journal)
    assert journal.jobs.get(job.id).state == "done"
    back = {one.SOPInstanceUID: one for one in objects(empty, tmp_path)}
    sent = [pydicom.dcmread(path) for path in sorted(made.glob("*.dcm"))]
    assert len(back) == len(sent) == 2
    assert all(back[one.SOPInstanceUID] == one for one in sent)
    assert str(sent[0].PatientName).startswith("<script>")


@pytest.mark.parametrize("kind", [pytest.param("dicomweb", marks=ORTHANC)])
def test_what_an_archive_has_lost_is_sent_again(kind, journal, made, tmp_path, empty, clock):
    """Killed between `sent` and `done`; meanwhile the archive was emptied."""
    site, job = site_of(tmp_path, pacs=of_orthanc(kind, empty)), proven(journal, made, "pacs")
    journal.jobs.take("proven", "dead")
    [delivery] = journal.deliveries.of(job.id)
    journal.deliveries.tell(delivery.id, "sent", tried=True)
    journal.jobs.move(job.id, "dead", "sent", keep=True)
    journal.jobs.take_back("dead", "watch")
    with sending(site, journal) as one:
        assert one.step() and not one.step()
        assert journal.jobs.get(job.id).state == "proven" and told(journal, job) == {"pacs": "waiting"}
        clock[0] += 10
        assert one.step()
    assert journal.jobs.get(job.id).state == "done" and len(objects(empty, tmp_path)) == 2


@pytest.mark.parametrize("state", ["sent", "proven"])
@pytest.mark.parametrize("there", [True, False], ids=["kept", "lost"])
def test_a_sender_that_died_before_it_was_done_only_sends_what_is_not_there(
    there, state, journal, made, tmp_path, clock
):
    site = site_of(tmp_path, share=share(tmp_path))
    job = proven(journal, made, "share")
    with sending(site, journal) as one:
        assert one.step()
    [copy] = (tmp_path / "share").iterdir()
    before = {path: path.stat().st_ino for path in copy.iterdir()}
    if not there:
        min(before).write_bytes(b"")
    with journal.database.write() as connection:
        connection.exec_driver_sql(f"UPDATE jobs SET state = '{state}'")
        connection.exec_driver_sql(f"UPDATE deliveries SET state = '{'sent' if state == 'sent' else 'waiting'}'")
    with sending(site, journal) as one:
        assert one.step()
        good = there or state == "proven"  # then it is sent, and not only asked for
        assert journal.jobs.get(job.id).state == ("done" if good else "proven")
        clock[0] += 10
        assert one.step() != good
    assert journal.jobs.get(job.id).state == "done"
    assert ({path: path.stat().st_ino for path in copy.iterdir()} == before) == there
    assert {path.name: digest(path) for path in copy.iterdir()} == {p.name: digest(p) for p in made.iterdir()}


def test_a_folder_that_is_full_is_tried_again(journal, made, tmp_path, clock, monkeypatch):
    site = site_of(tmp_path, share=share(tmp_path))
    job = proven(journal, made, "share")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with sending(site, journal) as one:
        with monkeypatch.context() as patched:
            patched.setattr("medseg.atomic.os.fsync", full)
            assert one.step() and not one.step()
        waiting = journal.jobs.get(job.id)
        assert (waiting.state, waiting.reason_code, waiting.attempts) == ("proven", "unreachable", 1)
        assert "No space left" in waiting.reason and not list((tmp_path / "share").rglob("*.*"))
        clock[0] += 10
        assert one.step()
    ended = journal.jobs.get(job.id)
    assert (ended.state, ended.reason_code, ended.reason) == ("done", "", "")


@pytest.mark.parametrize("gone", ["before", "between"])
def test_a_share_that_is_not_mounted_gets_nothing_and_confirms_nothing(gone, journal, made, tmp_path, clock):
    """Its place would be made on the local disk, where nobody looks for it."""
    site, job = site_of(tmp_path, share=share(tmp_path)), proven(journal, made, "share")
    if gone == "between":
        [delivery] = journal.deliveries.of(job.id)
        journal.deliveries.tell(delivery.id, "sent", tried=True)
    (tmp_path / "share").rename(tmp_path / "elsewhere")
    with sending(site, journal) as one:
        assert one.step() and not one.step()
        waiting = journal.jobs.get(job.id)
        assert waiting.state in ("proven", "sent") and "is it mounted?" in waiting.reason
        assert not (tmp_path / "share").exists()
        assert told(journal, job) == {"share": "waiting" if gone == "before" else "sent"}
        (tmp_path / "elsewhere").rename(tmp_path / "share")
        while journal.jobs.get(job.id).state != "done":
            clock[0] += 10
            assert one.step()
    assert len(list((tmp_path / "share").rglob("case.*"))) == 3


def test_a_receiver_that_is_down_keeps_nobody_waiting_and_gets_all_of_it_later(journal, made, tmp_path, clock):
    port = free_port()
    site = site_of(tmp_path, pacs=at(port), share=share(tmp_path))
    both = proven(journal, made, "pacs", "share", digest_="a")
    down = [proven(journal, made, "pacs", digest_=str(n)) for n in range(5)]
    up = [proven(journal, made, "share", digest_=f"u{n}") for n in range(3)]
    with sending(site, journal) as one:
        while one.step():
            pass
        assert [journal.jobs.get(job.id).state for job in up] == ["done"] * 3
        assert told(journal, both) == {"pacs": "waiting", "share": "confirmed"}
        tried = sum(
            one.tries for job in (both, *down) for one in journal.deliveries.of(job.id) if one.receiver == "pacs"
        )
        assert tried == 1  # who is down is asked once, not once for every job
        waits = []
        for _ in range(12):
            until, start = one._backoff._until["pacs"], clock[0]
            clock[0] = until - 0.01
            assert not one.step()  # not before its time
            clock[0] = until
            assert one.step()
            waits.append(until - start)
        assert waits == [1, *(min(2**n, 300) for n in range(1, 12))]
        with scp() as again:
            one._ways.to("pacs")._to = one._ways.to("pacs")._to.model_copy(update={"port": again})
            for _ in range(40):
                clock[0] += 300
                while one.step():
                    pass
    assert {journal.jobs.get(job.id).state for job in (both, *down)} == {"done"}


@pytest.mark.parametrize("status", [0xA700, 0xA701, 0x0110, 0x0124])
def test_what_may_go_better_later_is_tried_until_it_does(status, journal, made, tmp_path, clock):
    answers = iter([status, *[0] * 10])
    job = proven(journal, made, "pacs")
    with scp(lambda event: next(answers)) as port, sending(site_of(tmp_path, pacs=at(port)), journal) as one:
        assert one.step() and not one.step()
        assert journal.jobs.get(job.id).state == "proven" and f"{status:04X}H" in problems(journal, job)
        clock[0] += 10
        assert one.step()
    assert journal.jobs.get(job.id).state == "done"


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0xC123, 0x0122])
def test_what_is_refused_for_good_fails_once_all_others_are_served(status, journal, made, tmp_path, clock):
    down = free_port()
    answers = iter([0, status])
    job = proven(journal, made, "pacs", "late", "share")
    with scp(lambda event: next(answers, 0)) as port:
        site = site_of(tmp_path, pacs=at(port), late=at(down), share=share(tmp_path))
        with sending(site, journal) as one:
            assert one.step() and not one.step()
            assert told(journal, job) == {"pacs": "refused", "late": "waiting", "share": "confirmed"}
            assert journal.jobs.get(job.id).state == "proven"
            one._ways.to("late")._to = one._ways.to("late")._to.model_copy(update={"port": port})
            clock[0] += 10
            assert one.step()
            failed = journal.jobs.get(job.id)
            assert (failed.state, failed.reason_code) == ("failed", "refused-by-receiver")
            assert f"{status:04X}H" in failed.reason and told(journal, job)["late"] == "confirmed"
            assert "sent" not in states(journal, job)
            assert journal.jobs.retry(job.id, "me") == "proven"  # the model does not run again
            clock[0] += 10
            assert one.step()
    assert journal.jobs.get(job.id).state == "done"


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0x0111])
def test_a_warning_is_taken_and_said(status, journal, made, tmp_path):
    job = proven(journal, made, "pacs")
    with scp(lambda event: status) as port:
        send(site_of(tmp_path, pacs=at(port)), journal)
    assert journal.jobs.get(job.id).state == "done" and f"taken with {status:04X}H" in problems(journal, job)


@given(st.integers(0, 0xFFFF))
def test_every_status_means_one_thing(status):
    assert (meaning(status) == "taken") == (status in (0, 0x107, 0x111, 0x116) or status >> 12 == 0xB)
    if status >> 8 == 0xA7:
        assert meaning(status) == "again"
    if status >> 12 == 0xC or status >> 8 == 0xA9:
        assert meaning(status) == "never"


def test_an_archive_that_does_not_take_the_kind_of_object_refuses_for_good(journal, made, tmp_path):
    job = proven(journal, made, "pacs")
    with scp(contexts=AllStoragePresentationContexts[:1]) as port:
        send(site_of(tmp_path, pacs=at(port)), journal)
    assert journal.jobs.get(job.id).reason_code == "refused-by-receiver" and "takes no" in problems(journal, job)


def test_an_archive_that_takes_the_default_encoding_alone_gets_it(journal, made, tmp_path):
    got: list[pydicom.Dataset] = []

    def keep(event: Any) -> int:
        got.append(event.dataset)
        return 0

    wanted = [pydicom.dcmread(path) for path in sorted(made.glob("*.dcm"))]
    contexts = [build_context(one.SOPClassUID, ["1.2.840.10008.1.2"]) for one in wanted]
    job = proven(journal, made, "pacs")
    with scp(keep, contexts=contexts) as port:
        send(site_of(tmp_path, pacs=at(port)), journal)
    assert journal.jobs.get(job.id).state == "done", problems(journal, job)
    assert [one.SOPInstanceUID for one in got] == [one.SOPInstanceUID for one in wanted]
    for one, other in zip(got, wanted, strict=True):
        assert one.get("PixelData") == other.get("PixelData")
        both = [dataset for dataset in (one, other) if "PixelData" in dataset]
        for dataset in both:  # whose type is another one there (PS3.5 A.1)
            del dataset.PixelData
        assert one.to_json() == other.to_json()


@pytest.mark.parametrize("commitment", [False, True])
@pytest.mark.parametrize("kind", ["dicom", "dicomweb"])
def test_an_archive_to_which_nothing_can_be_sent_has_not_got_it(kind, commitment, journal, made, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(made / "case.statistics.csv", out)
    job = proven(journal, out, "pacs")
    receiver = at(1, commitment=commitment) if kind == "dicom" else {"kind": kind, "url": "http://127.0.0.1:1"}
    send(site_of(tmp_path, pacs=receiver), journal)
    found = journal.jobs.get(job.id)
    assert (found.state, found.reason_code) == ("failed", "refused-by-receiver")
    assert "no DICOM among case.statistics.csv" in found.reason and told(journal, job) == {"pacs": "refused"}


@pytest.mark.parametrize("outputs", [["nifti"], ["statistics_csv", "seg_nrrd"], ["maps"], []])
def test_a_route_that_makes_nothing_for_an_archive_is_refused(outputs, tmp_path):
    with pytest.raises(Refusal, match=r"route liver sends .* to 'pacs'.*an output that is DICOM"):
        routing_to(tmp_path, outputs, "share", "pacs")
    routing_to(tmp_path, outputs, "share")
    for dicom in ("rtstruct", "dicom_seg:type=labelmap", "dicom_sr", "of_ours.output"):
        routing_to(tmp_path, [*outputs, dicom], "share", "pacs")


def routing_to(folder: Path, outputs: list[str], *names: str) -> Site:
    route = {"name": "liver", "model": "liver", "outputs": outputs, "send_to": list(names)}
    return site_of(folder, routes=[route], share=share(folder), pacs=at(104))


@pytest.mark.parametrize("listens", [0, 11113])
def test_two_cannot_wait_for_confirmations_at_one_port(listens, tmp_path):
    one = at(104, commitment=True, reports=11113)
    with pytest.raises(Refusal, match=r"port 11113 for .*as reports of receiver"):
        site_of(tmp_path, listen={"port": listens}, one=one, **({} if listens else {"two": one}))
    site_of(tmp_path, listen={"port": 11112}, one=one, two=one | {"reports": 11114}, three=at(1), four=at(1))


def test_an_association_that_is_rejected_is_tried_again(journal, made, tmp_path, clock):
    job = proven(journal, made, "pacs")
    with scp(require_called_aet=True) as port, sending(site_of(tmp_path, pacs=at(port, ae_title="X")), journal) as one:
        assert one.step() and not one.step()
    assert journal.jobs.get(job.id).state == "proven" and "rejects the association" in problems(journal, job)


def test_the_sender_calls_itself_as_the_site_says(journal, made, tmp_path):
    names = []

    def answer(event: Any) -> int:
        names.append(event.assoc.requestor.ae_title)
        return 0

    with scp(answer) as port:
        site = site_of(tmp_path, one=at(port), two=at(port, calling="OTHER"))
        proven(journal, made, "one", "two")
        send(site, journal)
    assert names == ["MEDSEG", "MEDSEG", "OTHER", "OTHER"]


UNSAID = -1


def commit(event: Any, failed: dict[str, int], of: str = "") -> Any:
    """What an archive says of a request: that it keeps all but those that failed."""
    asked = event.action_information
    said = pydicom.Dataset()
    said.TransactionUID = of or asked.TransactionUID
    said.ReferencedSOPSequence, said.FailedSOPSequence = [], []
    for item in asked.ReferencedSOPSequence:
        reason = failed.get(item.ReferencedSOPInstanceUID)
        if reason == UNSAID:
            continue
        if reason is not None:
            item.FailureReason = reason
        (said.ReferencedSOPSequence if reason is None else said.FailedSOPSequence).append(item)
    return said


@contextmanager
def committing(failing: list[dict[str, int]]) -> Iterator[int]:
    """An archive that says on the same association what it keeps; of each request, the first of `failing` does not."""

    def answer(event: Any) -> tuple[int, None]:
        said = commit(event, failing.pop(0) if failing else {})
        kind = 2 if said.FailedSOPSequence else 1
        waiting.append((event.assoc, said, kind))
        return 0, None

    def report(event: Any) -> None:
        """After the answer to the request has gone."""
        while waiting and event.message.__class__.__name__ == "N_ACTION_RSP":
            association, said, kind = waiting.pop()
            thread = threading.Thread(
                target=association.send_n_event_report,
                args=(said, kind, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1"),
            )
            thread.start()

    waiting: list[Any] = []
    with scp(handlers=[(evt.EVT_N_ACTION, answer), (evt.EVT_DIMSE_SENT, report)]) as port:
        yield port


def test_an_archive_that_keeps_what_it_took_says_so_on_the_same_association(journal, made, tmp_path):
    job = proven(journal, made, "pacs")
    with committing([]) as port:
        send(site_of(tmp_path, pacs=at(port, commitment=True)), journal)
    assert journal.jobs.get(job.id).state == "done" and told(journal, job) == {"pacs": "confirmed"}


@pytest.mark.parametrize("reason", [0x0112, 0x0119, UNSAID])
def test_what_an_archive_does_not_keep_is_sent_again(reason, journal, made, tmp_path, clock):
    job = proven(journal, made, "pacs")
    uid = str(pydicom.dcmread(next(made.glob("*.seg.dcm"))).SOPInstanceUID)
    with (
        committing([{uid: reason}]) as port,
        sending(site_of(tmp_path, pacs=at(port, commitment=True)), journal) as one,
    ):
        assert one.step() and not one.step()
        assert journal.jobs.get(job.id).state == "proven" and "does not keep" in problems(journal, job)
        clock[0] += 10
        assert one.step()
    assert journal.jobs.get(job.id).state == "done"
    assert states(journal, job).count("sent") == 1  # of different ones; both times are on record
    assert [event.state for _, event in journal.jobs.events(job.id)].count("sent") == 2


def test_an_archive_that_never_answers_is_asked_again_after_a_while(monkeypatch):
    asked: list[str] = []

    class Silent:
        def send_n_action(self, wanted: pydicom.Dataset, *_: object) -> tuple[pydicom.Dataset, None]:
            asked.append(wanted.TransactionUID)
            answer = pydicom.Dataset()
            answer.Status = 0
            return answer, None

    class Report:
        event_information = pydicom.Dataset()

    now, wanted = [0.0], {"1.2.3": "1.2"}
    monkeypatch.setattr(commitment.time, "monotonic", lambda: now[0])
    commitments = commitment.Commitments(AE(), ("127.0.0.1", 0))
    for _ in range(2):
        assert commitments.due(wanted)
        commitments.ask(Silent(), wanted)
        assert not commitments.due(wanted) and commitments.answer(wanted, 0.0) is None
        now[0] += commitment.ASK_AGAIN_S + 1
    [first, second] = asked
    now[0] -= commitment.ASK_AGAIN_S
    for transaction, answer in ((first, None), ("1.2.3.4", None), (second, {"1.2.3": 0x0112})):
        Report.event_information.TransactionUID = transaction
        commitments.handlers[0][1](Report)
        assert commitments.answer(wanted, 0.0) == answer


def test_an_archive_without_storage_commitment_is_told_of(journal, made, tmp_path, clock):
    job = proven(journal, made, "pacs")
    unable = [(evt.EVT_N_ACTION, lambda event: (0x0110, None))]
    with scp(handlers=unable) as port, sending(site_of(tmp_path, pacs=at(port, commitment=True)), journal) as one:
        assert one.step() and not one.step()
    found = journal.jobs.get(job.id)
    assert (found.state, found.reason_code) == ("sent", "unconfirmed") and "would not say" in problems(journal, job)


@pytest.mark.parametrize("_", [pytest.param("", marks=ORTHANC)])
def test_orthanc_confirms_on_an_association_of_its_own(_, journal, made, tmp_path, empty, clock):
    port = free_port()
    tell = {"AET": "MEDSEG", "Host": "127.0.0.1", "Port": port, "AllowStorageCommitment": True}
    put(empty, "/modalities/medseg", tell)
    site = site_of(tmp_path, pacs=of_orthanc("dicom", empty, commitment=True, reports=port))
    job = proven(journal, made, "pacs")
    with sending(site, journal) as one:
        for _ in range(12):
            one.step()
            if journal.jobs.get(job.id).state == "done":
                break
            clock[0] += 10
    assert journal.jobs.get(job.id).state == "done", problems(journal, job)


def gone(connection: socket.socket) -> bool:
    """Whether the other side closes within the test's patience."""
    connection.settimeout(30)
    with suppress(ConnectionError):
        while connection.recv(65536):
            pass
    return True


def test_the_port_for_confirmations_is_for_the_archive_alone_and_reads_no_absurd_length(tmp_path):
    site = site_of(tmp_path, pacs=at(1, commitment=True, reports=free_port()))
    receiver = site.receivers["pacs"]
    way, outcomes = StoreWay(site, receiver), set()
    try:
        for start in (b"\x01\x00\xff\xff\xff\xf0", b"GET / HTTP/1.1\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", receiver.reports)) as liar:
                liar.sendall(start + bytes(1000))
                assert gone(liar)
            outcomes |= {visit.outcome for visit in way._commitments._server.visits}
        assert "ended: a PDU of 4294967280 bytes" in outcomes
        for title, known in ((receiver.ae_title, True), ("STRANGER", False)):
            entity = AE(title)
            entity.acse_timeout = 30
            entity.add_requested_context(StorageCommitmentPushModel)
            association = entity.associate("127.0.0.1", receiver.reports)
            let_in = association.is_established
            if let_in:
                association.release()
            assert let_in == known and association.is_rejected != known
    finally:
        way.close()


def test_who_is_silent_at_the_port_for_confirmations_holds_nobody_up(tmp_path, monkeypatch):
    monkeypatch.setattr(wire, "ASK_S", 0.2)
    site = site_of(tmp_path, pacs=at(1, commitment=True, reports=free_port()))
    receiver = site.receivers["pacs"]
    way = StoreWay(site, receiver)
    try:
        for start in (b"", b"\x01"):
            with socket.create_connection(("127.0.0.1", receiver.reports)) as silent:
                silent.sendall(start)
                assert gone(silent)
    finally:
        way.close()


def put(archive: Archive, path: str, body: Any) -> None:
    data = json.dumps(body).encode()
    asked = urllib.request.Request(f"http://127.0.0.1:{archive.http}{path}", data=data, method="PUT")
    urllib.request.urlopen(asked, timeout=WAIT_S).close()


STORED = {"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2.3"]}}]}}


def failed(reason: int) -> dict[str, Any]:
    item = {"00081155": {"vr": "UI", "Value": ["1.2.3"]}, "00081197": {"vr": "US", "Value": [reason]}}
    return {"00081198": {"vr": "SQ", "Value": [item]}}


@contextmanager
def web(status: int, body: Any = STORED, *, other: bytes = b"", seen: list[str] | None = None) -> Iterator[str]:
    """A server that answers whatever is stored with a status, and whatever is asked for with 404, or with `other`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            while self.rfile.read(int(self.headers.get("Content-Length") or 0)):
                break
            if seen is not None:
                seen.append(str(self.headers["Authorization"]))
            self.answer(status, body if isinstance(body, bytes) else json.dumps(body).encode())

        def do_GET(self) -> None:
            self.answer(200 if other else 404, other)

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/dicom-web"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "state", "words"),
    [
        (503, b"<html>", "waiting", "answers 503"),
        (429, b"", "waiting", "answers 429"),
        (401, b"", "waiting", "answers 401"),
        (400, b"<html>", "refused", "answers 400"),
        (415, b"", "refused", "answers 415"),
        (409, failed(0xC000), "refused", "answers C000H"),
        (409, failed(0xA700), "waiting", "answers A700H"),
        (202, failed(0xA900), "refused", "answers A900H"),
        (200, failed(0x0110), "waiting", "answers 0110H"),
        (200, b"<html>", "waiting", "cannot be read"),
        (200, STORED, "waiting", "does not have"),
    ],
)
def test_what_a_web_archive_answers(status, body, state, words, journal, made, tmp_path, clock):
    job = proven(journal, made, "web")
    with web(status, body) as url, sending(site_of(tmp_path, web={"kind": "dicomweb", "url": url}), journal) as one:
        assert one.step() and not one.step()
    assert told(journal, job) == {"web": state} and words in problems(journal, job)
    expected = ("proven", "unreachable") if state == "waiting" else ("failed", "refused-by-receiver")
    found = journal.jobs.get(job.id)
    assert (found.state, found.reason_code) == expected


def test_another_object_in_its_place_is_not_taken_for_it(journal, made, tmp_path, clock):
    job, other = proven(journal, made, "web"), b'[{"00080018": {"vr": "UI", "Value": ["1.2.3"]}}]'
    with web(200, other=other) as url, sending(site_of(tmp_path, web={"kind": "dicomweb", "url": url}), journal) as one:
        assert one.step() and not one.step()
    assert told(journal, job) == {"web": "waiting"} and "something else in place of" in problems(journal, job)


def test_a_web_archive_is_told_who_asks(journal, made, tmp_path, clock, monkeypatch):
    seen: list[str] = []
    monkeypatch.setenv("PACS_TOKEN", "s3cret")
    proven(journal, made, "web")
    with web(503, b"", seen=seen) as url:
        site = site_of(tmp_path, web={"kind": "dicomweb", "url": url, "token": "${PACS_TOKEN}"})
        with sending(site, journal) as one:
            assert one.step()
    assert seen == ["Bearer s3cret"]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    for name in ("ours", "theirs"):
        made = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
        files = ["-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"]
        command = ["openssl", "req", *made, "-addext", "subjectAltName=IP:127.0.0.1", *files]
        subprocess.run(command, check=True, capture_output=True, timeout=WAIT_S)
    return folder


@contextmanager
def storescp(folder: Path, *words: object) -> Iterator[int]:
    """dcmtk's archive; what it takes lies in `folder`."""
    folder.mkdir()
    port = free_port()
    process = subprocess.Popen(["storescp", "-od", folder, *map(str, words), str(port)], stderr=subprocess.PIPE)
    try:
        until(lambda: listens(port), "storescp listens", every_s=0.05)
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=WAIT_S)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("trusted", [pytest.param(trusted, marks=needs("storescp")) for trusted in (True, False)])
def test_tls_to_whom_is_trusted_and_to_nobody_else(trusted, journal, made, tmp_path, clock, certificates):
    ours, theirs = certificates / "ours", certificates / "theirs"
    words = ["+tls", f"{theirs}.key", f"{theirs}.pem", "+cf", f"{ours}.pem"]
    tls = {"certificate": f"{ours}.pem", "key": f"{ours}.key", "authority": f"{theirs if trusted else ours}.pem"}
    job = proven(journal, made, "pacs")
    with storescp(tmp_path / "got", *words) as port, sending(site_of(tmp_path, pacs=at(port, tls=tls)), journal) as one:
        assert one.step()
    assert journal.jobs.get(job.id).state == ("done" if trusted else "proven"), problems(journal, job)
    assert len(list((tmp_path / "got").iterdir())) == (2 if trusted else 0)


@pytest.mark.parametrize("_", [pytest.param("", marks=needs("storescp"))])
def test_dcmtk_that_refuses_every_association(_, journal, made, tmp_path, clock):
    job = proven(journal, made, "pacs")
    with storescp(tmp_path / "got", "--refuse") as port, sending(site_of(tmp_path, pacs=at(port)), journal) as one:
        assert one.step() and not one.step()
    assert journal.jobs.get(job.id).state == "proven" and "rejects the association" in problems(journal, job)


def test_certificates_that_cannot_be_used_are_told_of(journal, made, tmp_path, clock):
    tls = {"certificate": "none.pem", "key": "none.key"}
    job = proven(journal, made, "pacs")
    with sending(site_of(tmp_path, pacs=at(1, tls=tls)), journal) as one:
        assert one.step() and not one.step()
    assert "none.pem" in journal.jobs.get(job.id).reason


def test_results_wait_for_a_person_where_the_route_says_so(journal, made, tmp_path):
    site = site_of(tmp_path, share=share(tmp_path))
    held = proven(journal, made, "share", hold=("fail",), verdict="fail")
    good = proven(journal, made, "share", hold=("fail",), verdict="look", digest_="g")
    send(site, journal)
    assert [journal.jobs.get(job.id).state for job in (held, good)] == ["held", "done"]
    assert told(journal, held) == {"share": "waiting"}
    journal.jobs.release(held.id, "me")
    send(site, journal)
    assert journal.jobs.get(held.id).state == "done"


def test_results_that_nobody_gets_are_done(journal, made, tmp_path):
    job = proven(journal, made)
    send(site_of(tmp_path), journal)
    assert states(journal, job)[-3:] == ["proven", "sent", "done"]


@pytest.mark.parametrize("change", ["changed", "gone"])
def test_results_that_are_not_as_they_were_written_are_made_anew_and_not_sent(change, journal, made, tmp_path):
    out = shutil.copytree(made, tmp_path / "out")
    job = proven(journal, out, "share")
    victim = out / "case.statistics.csv"
    victim.write_bytes(b"x") if change == "changed" else victim.unlink()
    send(site_of(tmp_path, share=share(tmp_path)), journal)
    found = journal.jobs.get(job.id)
    assert (found.state, found.reason_code) == ("queued", "unproven") and "case.statistics.csv" in found.reason
    assert not list((tmp_path / "share").iterdir())


def test_results_that_are_never_as_they_were_written_are_not_made_for_ever(journal, made, tmp_path):
    site, job = site_of(tmp_path, share=share(tmp_path)), proven(journal, made, "share")
    with journal.database.write() as connection:
        connection.exec_driver_sql('UPDATE jobs SET files = \'{"none.csv": "00"}\'')
    for _ in range(site.work.tries - 1):
        send(site, journal)
        assert journal.jobs.take("queued", "worker", becomes="running")
        journal.jobs.move(job.id, "worker", "written", keep=True)
        journal.jobs.move(job.id, "worker", "proven")
    send(site, journal)
    found = journal.jobs.get(job.id)
    assert (found.state, found.reason_code) == ("failed", "unproven")


def test_a_job_that_is_cancelled_is_not_sent_to_the_next(journal, made, tmp_path):
    job = proven(journal, made, "pacs", "share")

    def cancel(event: Any) -> int:
        if journal.jobs.get(job.id).stop_asked == "":
            journal.jobs.cancel(job.id, "me")
            until(lambda: journal.jobs.get(job.id).beat > before, "a beat of the heart", every_s=0.01)
        return 0

    before = journal.jobs.get(job.id).beat + 1
    with scp(cancel) as port:
        send(site_of(tmp_path, pacs=at(port), share=share(tmp_path)), journal)
    assert journal.jobs.get(job.id).state == "cancelled" and not list((tmp_path / "share").iterdir())


@pytest.mark.parametrize("answer", [0x0000, 0xA700, 0xC000])
def test_a_sender_that_lost_its_job_changes_nothing_that_another_has_put_on_record(answer, journal, made, tmp_path):
    job = proven(journal, made, "pacs")

    def overtaken(event: Any) -> int:
        """While the first of its objects hangs, the job is taken away, and ended by another."""
        if journal.jobs.get(job.id).state == "proven":
            journal.jobs.take_back("sender", "supervisor")
            journal.jobs.take("proven", "another")
            [delivery] = journal.deliveries.of(job.id)
            journal.deliveries.tell(delivery.id, "confirmed", was="waiting")
            journal.jobs.move(job.id, "another", "sent", keep=True)
            journal.jobs.move(job.id, "another", "done")
        return answer

    with scp(overtaken) as port, sending(site_of(tmp_path, pacs=at(port)), journal) as one:
        assert one.step()
    [delivery] = journal.deliveries.of(job.id)
    assert journal.jobs.get(job.id).state == "done"
    assert (delivery.state, delivery.problem, delivery.tries) == ("confirmed", "", 0)


def test_an_error_of_ours_is_tried_again_and_its_words_stay_out_of_the_log(
    journal, made, tmp_path, clock, monkeypatch, caplog
):
    def broken(*_: object) -> str:
        raise KeyError("P-4711")

    site, job = site_of(tmp_path, share=share(tmp_path)), proven(journal, made, "share")
    with sending(site, journal) as one, monkeypatch.context() as patched:
        patched.setattr("medseg.service.delivery.folder.FolderWay.send", broken)
        assert one.step() and not one.step()
    assert journal.jobs.get(job.id).state == "proven" and "P-4711" in problems(journal, job)
    lines = [logs.Lines().format(record) for record in caplog.records]
    assert any("KeyError < test_sender.py" in line for line in lines) and "P-4711" not in "".join(lines)


def test_a_receiver_that_the_site_has_no_more_is_told_of(journal, made, tmp_path, clock):
    job = proven(journal, made, "old")
    with sending(site_of(tmp_path), journal) as one:
        assert one.step() and not one.step()
    assert "no receiver 'old' any more" in journal.jobs.get(job.id).reason
