"""A service that is not there, is another one, lies, or may not be trusted: plain words, no hang, no token told."""

from __future__ import annotations

import itertools
import json
import socket
import threading
import zipfile
from contextlib import ExitStack
from typing import Any

import pytest

from MedSegLib.remote import Remote
from MedSegLib.service import course
from MedSegLib.service.call import Limits
from MedSegLib.service.events import Events
from MedSegLib.service.form import zipped
from MedSegLib.work import CANCELLED, DONE, Line, Order, Progress
from tests.judges import free_port
from tests.slicer.actor import NAME, RESULT, actor, html, job, json_error
from tests.slicer.heard import AT_ONCE_S, TOKEN, Heard, failure, is_stage
from tests.slicer.rude import stranger

SHORT = Limits(connect=2, silence=1, patience=1, pause=0.1)


@pytest.fixture
def order(tmp_path) -> Order:
    folder = tmp_path / "täst ordner"
    folder.mkdir()
    scan = tmp_path / "scän.nrrd"
    scan.write_bytes(bytes(300_000))
    return Order("Müller^Anna", "liver", (("image", scan),), folder)


def remote(address: str, **more: Any) -> Remote:
    return Remote(address, TOKEN, limits=SHORT, **more)


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        (b"220 mail.example ESMTP\r\n", "no-medseg", "no medseg service"),
        (b"", "no-server", "broke"),
        (html(200), "no-medseg", "no medseg service"),
        (html(404), "no-medseg", "no medseg service"),
        (html(401), "no-medseg", "no medseg service"),
        (html(502), "http-502", "behind its gateway"),
        (html(500), "http-500", "met an error"),
        ((200, {"something": "else"}), "no-medseg", "no medseg service"),
        ((200, [1, 2]), "no-medseg", "no medseg service"),
        ((404, {"error": {"code": "not-found", "text": "Not Found"}}), "no-medseg", "another version"),
        (json_error(401, code="no-token", text="Unauthorized"), "no-token", "does not know this token"),
        (
            json_error(507, code="room", found="too little room", needed="more", remedy="try later"),
            "room",
            "too little room",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nrubbish\r\n", "no-server", "broke"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{", "no-server", "broke"),
        ((200, b"[" * 100_000), "no-medseg", "no medseg service"),
        ((200, b"\xff\xfe\x00"), "no-medseg", "no medseg service"),
    ],
)
def test_what_is_no_service_of_ours_is_told_apart(said, code, words):
    with stranger(lambda method, path: said) as other:
        for run in (remote(other.address).me(), remote(other.address).models()):
            found = failure(run)
            assert found.code == code and words in str(found), found


@pytest.mark.parametrize(
    ("head", "drip"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[", (b"1," * 30_000,)),
        (b"HTTP/1.1 200 OK\r\n", (b"X: y\r\n",)),
        (b"HTTP/1.1 100 Continue\r\n\r\n", (b"HTTP/1.1 100 Continue\r\n\r\n",)),
        (b"HTTP/1.1 200 OK\r\nX: ", (b"y" * 10_000,)),
        (b"HTTP/1.1 500 Oh\r\n\r\n", (b"oh " * 10_000,)),
    ],
)
def test_what_talks_without_end_is_not_listened_to_without_end(head, drip):
    with stranger(lambda method, path: head, drip=drip) as other:
        failure(remote(other.address).models())


def test_who_says_nothing_is_left():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = failure(remote(f"http://127.0.0.1:{silent.getsockname()[1]}").me())
    assert "did not answer in time" in found.what and found.code == "no-server"


def test_no_server_is_said_at_once(order):
    found = failure(remote(f"http://127.0.0.1:{free_port()}").start(order), 1)
    assert "Nothing answers at 127.0.0.1" in found.what and found.code == "no-server"


def test_a_redirect_is_not_followed(order):
    with (
        stranger(lambda method, path: (200, {"name": "x", "role": "admin"})) as elsewhere,
        stranger(lambda method, path: html(302, f"Location: {elsewhere.address}/api/v1/me\r\n")) as other,
    ):
        found = failure(remote(other.address).start(order))
        assert "another address" in found.what and elsewhere.address in found.remedy
        assert elsewhere.heard == [] and len(other.heard) == 1


def test_what_a_service_says_is_rid_of_the_token(order):
    said = json_error(400, found=f"'Bearer {TOKEN}'", needed=TOKEN, remedy=TOKEN, where=TOKEN, text=TOKEN)
    with stranger(lambda method, path: said) as other:
        assert "***" in failure(remote(other.address).start(order)).what
    events = [{"id": 1, "state": "failed", "what": TOKEN}]
    told = job("failed", reason=f"{TOKEN}: found {TOKEN}; needed x. What to do: {TOKEN}.", stage=TOKEN, events=events)
    with stranger(actor(told)) as other:
        assert "***" in str(failure(remote(other.address).start(order)))
        assert all(head.count(TOKEN) == 1 and TOKEN not in head.split("\r\n")[0] for head in other.heard)
        (body,) = other.bodies
        assert b'name="image"; filename="0"' in body and b'"model": "liver"' in body
        assert not any(word.encode() in body for word in ("Müller", "Anna", "scän", str(order.folder), TOKEN))


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (job("held"), ("holds the result back", "release")),
        (job("quarantined", code="crashed", meaning="the worker's process died"), ("put it aside", "process died")),
        (job("cancelled", code="cancelled"), ("cancelled at the service", "Run it again")),
        (job("superseded"), ("later revision",)),
        (job("unmatched"), ("No route",)),
        (
            job("failed", code="spacing", reason="scan: found 9 mm; needed 3 mm. What to do: scan it anew."),
            ("found 9 mm", "Scan it anew"),
        ),
        (job("a-new-state"), ("a-new-state",)),
        (job(files=[{"name": NAME, "sha256": "0" * 64, "bytes": None}]), ("cleared", "Run it again")),
        (job(files=[{"name": "../../evil", "sha256": "0" * 64, "bytes": 1}]), ("no medseg service",)),
        (job(files=[{"name": "/evil", "sha256": "0" * 64, "bytes": 1}]), ("no medseg service",)),
        (job(files=[{"name": NAME, "sha256": "0" * 64, "bytes": 8}]), ("checksum",)),
        (job(percent="much"), ("no medseg service",)),
    ],
)
def test_an_end_without_a_result_is_explained(order, told, words):
    with stranger(actor(told)) as other:
        found = failure(remote(other.address).start(order))
    assert all(word.lower() in str(found).lower() for word in words), found
    assert list(order.folder.iterdir()) == [] and [path.name for path in order.folder.parent.iterdir()] != ["evil"]


def test_a_file_that_is_longer_than_told_is_not_kept(order):
    endless = {f"jobs/7/files/{NAME}": b"HTTP/1.1 200 OK\r\n\r\n" + RESULT}
    with stranger(actor(job(), **endless), drip=(bytes(10_000),)) as other:
        assert "checksum" in failure(remote(other.address).start(order)).what
    assert list(order.folder.iterdir()) == []


def test_a_token_that_may_only_look_sends_nothing(order):
    with stranger(actor(job(), role="read")) as other:
        found = failure(remote(other.address).start(order))
        assert "may look" in found.what and len(other.heard) == 1


def test_a_region_is_refused_before_anything_is_sent(order):
    with stranger(actor(job())) as other:
        found = failure(remote(other.address).start(Order("x", "m", order.images, order.folder, roi="1:2,:,:")))
        assert "region" in found.what and other.heard == []


def test_what_cannot_be_read_is_said(order):
    with stranger(actor(job())) as other:
        gone = Order("x", "m", (("image", order.folder / "gone.nrrd"),), order.folder)
        assert "cannot be read" in failure(remote(other.address).start(gone)).what
        empty = Order("x", "m", (), order.folder, dicom=order.folder)
        assert "no DICOM file" in failure(remote(other.address).start(empty)).what
    assert list(order.folder.iterdir()) == []


EVENT = b'event: progress\ndata: {"job": 7, "stage": "network", "percent": 40}\n\n'
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


@pytest.mark.parametrize(
    "events",
    [
        html(404),
        STREAM + b"data: [1]\n\n",
        STREAM + b"event: job\ndata: {}\n\n",
        STREAM + b"data: " + b"x" * 200_000,
        STREAM + b"\xff\xff\n",
        STREAM + b"data: " + b"[" * 50_000 + b"\n\n",
        (204, b""),
    ],
)
def test_without_events_the_job_is_asked_for(order, events):
    looks = itertools.count()

    def reply(method: str, path: str) -> Any:
        told = job("running", stage="network", percent=next(looks) * 20) if path.endswith("jobs/7") else job()
        return actor(job() if told["percent"] > 40 else told, events=events)(method, path)

    with stranger(reply) as other:
        heard = Heard(remote(other.address).start(order))
        done = heard.outcome(20)
    assert done.state == DONE, done.failure
    assert done.files[NAME].read_bytes() == RESULT and done.facts == {"volume_ml": {"liver": 1.5}}
    assert heard.percents == sorted(heard.percents) and 40 in heard.percents and heard.percents[-1] == 100


def test_progress_is_that_of_the_events(order):
    looks = itertools.count()

    def reply(method: str, path: str) -> Any:
        running = job("running") if path.endswith("jobs/7") and next(looks) < 1 else job()
        return actor(running, events=STREAM + EVENT)(method, path)

    with stranger(reply) as other:
        heard = Heard(remote(other.address).start(order))
        assert heard.outcome().state == DONE
    assert any(event == Progress(40, "segmenting") for event in heard.events)


def test_no_event_is_as_long_as_a_service_likes():
    events = Events()
    assert events.feed(EVENT[:20]) == [] and events.feed(EVENT[20:]) == [
        ("progress", {"job": 7, "stage": "network", "percent": 40})
    ]
    for endless in (b"data: ", b"data: x\n"):
        with pytest.raises(ValueError, match="without end"):
            for _ in range(1000):
                events.feed(endless * 100)


def test_what_is_packed_is_dicom_alone_and_the_same_each_time(tmp_path):
    source = tmp_path / "Müller Anna"
    source.mkdir()
    for name in ("b", "a", "Müller.dcm"):
        (source / name).write_bytes(bytes(128) + b"DICM" + name.encode())
    (source / "letter.txt").write_text("is nobody's business")
    for name in ("one.zip", "two.zip"):
        zipped(source, tmp_path / name, lambda done, of: None)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as packed:
        assert packed.namelist() == ["000000.dcm", "000001.dcm", "000002.dcm"]
        assert packed.read("000001.dcm").endswith(b"DICMa")


def test_a_cancel_at_the_last_moment_leaves_nothing(order, monkeypatch):
    monkeypatch.setattr(course, "GLANCE_S", 0.5)  # the cancel is not seen before the end
    runs: list[Heard] = []

    def reply(method: str, path: str) -> Any:
        if path.endswith(NAME):
            runs[0].cancel()
        return actor(job())(method, path)

    with stranger(reply) as other:
        runs.append(Heard(remote(other.address).start(order)))
        assert runs[0].outcome(2).state == CANCELLED and list(order.folder.iterdir()) == []


def test_events_without_end_fill_no_memory_and_can_be_cancelled(order):
    told = actor(job("running"), events=STREAM)
    line = b'id: %d\nevent: job\ndata: {"id": %d, "job": 7, "state": "running", "what": "more"}\n\n'
    drip = [line % (number, number) for number in range(1, 2000)]
    with stranger(told, drip=drip) as other:
        heard = Heard(remote(other.address).start(order))
        heard.until(lambda event: "more" in getattr(event, "text", ""))
        assert max(len(heard.run.poll()) for _ in range(20)) < 5000
        heard.cancel()
        assert heard.outcome(2).state == CANCELLED and heard.slowest < AT_ONCE_S


def test_a_cancel_while_a_file_comes_leaves_nothing(order):
    sized = b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + bytes(100_000)
    told = job(files=[{"name": NAME, "sha256": "0" * 64, "bytes": 9_000_000}])
    with stranger(actor(told, **{f"jobs/7/files/{NAME}": sized}), hold=True) as other:
        heard = Heard(Remote(other.address, TOKEN).start(order))
        heard.until(is_stage("fetching"))
        other.until(lambda _: any(order.folder.rglob("*.part")))
        heard.cancel()
        assert heard.outcome(2).state == CANCELLED and list(order.folder.iterdir()) == []
    assert heard.slowest < AT_ONCE_S


def test_what_was_heard_is_not_asked_for_again(order):
    event = b'id: 41\nevent: job\ndata: {"id": 41, "job": 7, "state": "running", "what": "begun"}\n\n'
    with stranger(actor(job("running"), events=STREAM + event)) as other:
        heard = Heard(remote(other.address).start(order))
        other.until(lambda head: "Last-Event-ID: 41" in head)
        heard.cancel()
        heard.outcome(2)
    said = [event.text for event in heard.events if isinstance(event, Line)]
    assert said == ["service: running: begun"]


def test_a_job_whose_number_was_not_known_yet_is_cancelled_too(order):
    answered = threading.Event()

    def reply(method: str, path: str) -> Any:
        if path.endswith("/jobs"):
            answered.wait()
        return actor(job("running"))(method, path)

    with stranger(reply) as other:
        heard = Heard(Remote(other.address, TOKEN).start(order))
        other.until(lambda head: head.startswith("POST /api/v1/jobs "))
        heard.cancel()
        assert heard.outcome(2).state == CANCELLED and heard.slowest < AT_ONCE_S
        answered.set()
        other.until(lambda head: head.startswith("POST /api/v1/jobs/7/cancel"))


def test_who_does_not_even_take_the_call_keeps_nobody_waiting(order):
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        place = full.getsockname()
        for _ in range(3):  # whoever comes now waits
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(place)
        address = f"http://127.0.0.1:{place[1]}"
        heard = Heard(Remote(address, TOKEN).start(order))
        heard.until(is_stage("asking"))
        heard.cancel()
        assert heard.outcome(2).state == CANCELLED and heard.slowest < AT_ONCE_S
        assert "did not answer in time" in failure(remote(address).me()).what


def test_a_cancel_reaches_the_service(order):
    with stranger(actor(job("running"), **{"jobs/7/cancel": (200, job("running"))})) as other:
        heard = Heard(remote(other.address).start(order))
        other.until(lambda head: "jobs/7 " in head or "jobs/7/events" in head)
        heard.cancel()
        assert heard.outcome(2).state == CANCELLED
        other.until(lambda head: head.startswith("POST /api/v1/jobs/7/cancel"))


def cancels(order: Order, retry: Any) -> list[str]:
    """What a service whose job was there before hears of a cancel. With `retry`, which it answers then, the job had
    failed."""
    failed, running = job("failed", may=["retry"]), job("running")
    heard_retry = threading.Event()

    def reply(method: str, path: str) -> Any:
        if path.endswith("/retry"):
            heard_retry.set()
        told = running if heard_retry.is_set() or not retry else failed
        answers = {"jobs": (200, {"job": {"id": 7}, "new": False}), "jobs/7/retry": retry, "jobs/7/cancel": (200, told)}
        return actor(told, **answers)(method, path)

    with stranger(reply) as other:
        heard = Heard(remote(other.address).start(order))
        if retry:
            other.until(lambda head: "jobs/7/retry" in head)
        other.until(lambda head: "jobs/7/events" in head)
        heard.cancel()
        assert heard.outcome(2).state == CANCELLED
        for thread in threading.enumerate():
            if thread.name == "medseg-service":
                thread.join(10)
        return [head.split("\r\n")[0] for head in other.heard if "cancel" in head]


def test_a_cancel_is_for_what_this_run_had_begun(order):
    assert cancels(order, None) == [], "somebody else waits for it"
    assert cancels(order, json_error(409, code="conflict", found="running")) == [], "somebody else was faster"
    assert cancels(order, (200, job("running"))) == ["POST /api/v1/jobs/7/cancel HTTP/1.1"]


@pytest.mark.parametrize("place", range(570, 601, 6))
def test_no_piece_of_the_token_is_left_where_a_text_is_cut(order, place):
    said = json_error(400, **dict.fromkeys(("found", "remedy", "text", "code", "where"), "x" * place + TOKEN))
    for reply in (said, html(302, f"Location: /{'x' * place}{TOKEN}\r\n"), (404, b"x" * place + TOKEN.encode())):
        with stranger(lambda method, path, reply=reply: reply) as other:
            assert TOKEN[:4] not in repr(failure(remote(other.address).start(order)))


def test_patience_is_not_lost_on_what_will_not_pass(order):
    """A token that is removed while a run goes on."""
    with stranger(actor(json.loads("{}"), **{"jobs/7": json_error(401)})) as other:
        assert failure(Remote(other.address, TOKEN).start(order), 5).code == "no-token"
