"""Results reach their receivers: whole, once, kept until that is confirmed, and nobody waits for one who is down."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pydicom
import pytest

from medseg.refusal import Refusal
from medseg.service import logs
from medseg.service.delivery.way import digest
from medseg.service.settings.site import Site
from tests.judges import free_port
from tests.service.delivery.rig import (
    ORTHANC,
    at,
    objects,
    of_orthanc,
    problems,
    proven,
    scp,
    send,
    sending,
    share,
    site_of,
    states,
    told,
)
from tests.service.hospital import until


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
