"""Storage commitment: an archive says, at once or later, on this association or its own, what it keeps."""

from __future__ import annotations

import json
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pydicom
import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from medseg.refusal import Refusal
from medseg.service import wire
from medseg.service.delivery import commitment
from medseg.service.delivery.dicom import StoreWay
from tests.judges import Archive, free_port
from tests.service.delivery.rig import (
    ORTHANC,
    WAIT_S,
    at,
    of_orthanc,
    problems,
    proven,
    scp,
    send,
    sending,
    site_of,
    states,
    told,
)


@pytest.mark.parametrize("listens", [0, 11113])
def test_two_cannot_wait_for_confirmations_at_one_port(listens, tmp_path):
    one = at(104, commitment=True, reports=11113)
    with pytest.raises(Refusal, match=r"port 11113 for .*as reports of receiver"):
        site_of(tmp_path, listen={"port": listens}, one=one, **({} if listens else {"two": one}))
    site_of(tmp_path, listen={"port": 11112}, one=one, two=one | {"reports": 11114}, three=at(1), four=at(1))


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
