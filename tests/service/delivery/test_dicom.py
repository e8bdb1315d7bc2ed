"""Results to an archive by C-STORE: what its answers mean, what it takes, and TLS."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom import AllStoragePresentationContexts, build_context

from medseg.service.delivery.way import meaning
from tests.judges import free_port, needs, program
from tests.service.delivery.rig import WAIT_S, at, problems, proven, scp, send, sending, share, site_of, states, told
from tests.service.hospital import until


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
    process = subprocess.Popen(
        [program("storescp"), "-od", folder, *map(str, words), str(port)], stderr=subprocess.PIPE
    )
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
