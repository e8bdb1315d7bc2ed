"""Results to an archive by DICOMweb: what its answers mean, and who it is told that asks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.service.answering import Answers, answered_by
from tests.service.delivery.rig import problems, proven, sending, site_of, told

DICOM_JSON = "application/dicom+json"
STORED = {"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2.3"]}}]}}


def failed(reason: int) -> dict[str, Any]:
    item = {"00081155": {"vr": "UI", "Value": ["1.2.3"]}, "00081197": {"vr": "US", "Value": [reason]}}
    return {"00081198": {"vr": "SQ", "Value": [item]}}


@contextmanager
def web(status: int, body: Any = STORED, *, other: bytes = b"", seen: list[str] | None = None) -> Iterator[str]:
    """A server that answers whatever is stored with a status, and whatever is asked for with 404, or with `other`."""

    class Handler(Answers):
        def do_POST(self) -> None:
            while self.rfile.read(int(self.headers.get("Content-Length") or 0)):
                break
            if seen is not None:
                seen.append(str(self.headers["Authorization"]))
            self.answer(status, DICOM_JSON, body if isinstance(body, bytes) else json.dumps(body).encode())

        def do_GET(self) -> None:
            self.answer(200 if other else 404, DICOM_JSON, other)

    with answered_by(Handler) as url:
        yield f"{url}/dicom-web"


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
