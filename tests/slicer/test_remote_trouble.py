"""A service that is not there, is another one, lies, or may not be trusted: plain words, no hang, no token told."""

from __future__ import annotations

import json
import socket
import zipfile

import pytest

from MedSegLib.remote import Remote
from MedSegLib.service.form import zipped
from MedSegLib.work import Order
from tests.judges import free_port
from tests.slicer.actor import NAME, RESULT, actor, html, job, json_error, remote
from tests.slicer.heard import TOKEN, failure
from tests.slicer.rude import stranger


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
