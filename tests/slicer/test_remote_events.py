"""What is heard of a job while it goes on, and cancels that come at odd moments."""

from __future__ import annotations

import itertools
import socket
import threading
from contextlib import ExitStack
from typing import Any

import pytest

from MedSegLib.remote import Remote
from MedSegLib.service import course
from MedSegLib.service.events import Events
from MedSegLib.work import CANCELLED, DONE, Line, Order, Progress
from tests.slicer.actor import NAME, RESULT, actor, html, job, json_error, remote
from tests.slicer.heard import AT_ONCE_S, TOKEN, Heard, failure, is_stage
from tests.slicer.rude import stranger

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
