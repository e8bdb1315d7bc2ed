"""`medseg serve` as a process: addresses, TLS, events as they happen, slow and rude clients, and its end."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from dicomweb_client.api import DICOMwebClient

from medseg.refusal import Refusal
from medseg.service.settings.site import Site
from medseg.service.web import server, tokens
from tests.service import studies
from tests.service.served import WAIT_S, Process, process
from tests.service.web import MARKED, asked, nrrd
from tests.tiny import medseg_command, phantom

TLS = {"certificate": "cert.pem", "key": "key.pem"}


def certificate(folder: Path) -> None:
    command = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command.split(), *names], cwd=folder, check=True, capture_output=True, timeout=WAIT_S)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Iterator[Process]:
    with process(tmp_path_factory.mktemp("serve")) as started:
        yield started


def heard(lines: Iterator[str], kind: str) -> dict[str, Any]:
    """Content of the next event of a kind, with its number."""
    number = ""
    for line in lines:
        if line.startswith("id: "):
            number = line[4:]
        if line == f"event: {kind}":
            return {**json.loads(next(lines).removeprefix("data: ")), "number": number}
    raise AssertionError(f"the stream ended without {kind}")


def test_changes_and_percentages_come_as_they_happen(plain):
    with (
        plain.journal() as journal,
        httpx.Client(base_url=plain.address, headers=plain.headers, timeout=WAIT_S) as client,
    ):
        job, _ = journal.jobs.submit(asked(1, model="/m", identity=MARKED), who="a")
        with (
            client.stream("GET", "/api/v1/events") as all_,
            client.stream("GET", f"/api/v1/jobs/{job.id}/events") as one,
        ):
            assert all_.headers["content-type"].startswith("text/event-stream")
            every, own = all_.iter_lines(), one.iter_lines()
            assert next(every).startswith("retry")
            assert [heard(own, "job")["state"] for _ in range(2)] == ["received", "queued"], "from its first change on"
            journal.jobs.submit(asked(2, model="/m"), who="a")
            other = [heard(every, "job") for _ in range(2)]
            assert {told["job"] for told in other} == {2}, "all of it"
            journal.jobs.take("queued", "w", becomes="running")
            assert heard(own, "job")["state"] == "running", "and nothing of another job"
            journal.jobs.beat(job.id, "w", stage="network", share=0.25)
            told = heard(own, "progress")
            while told["percent"] == 0:
                told = heard(own, "progress")
            assert (told["job"], told["stage"], told["percent"]) == (job.id, "network", 25)
            last = heard(every, "job")["number"]
        journal.jobs.move(job.id, "w", "written")
        with client.stream("GET", "/api/v1/events", headers={"last-event-id": last}) as resumed:
            assert heard(resumed.iter_lines(), "job")["state"] == "written", "what was missed"


def test_a_client_of_dicomweb_stores_a_study(plain):
    client = DICOMwebClient(f"{plain.address}dicom-web", headers=plain.headers)
    answer = client.store_instances(studies.series(3))
    stored = {one.ReferencedSOPInstanceUID for one in answer.ReferencedSOPSequence}
    assert len(stored) == studies.SLICES and "FailedSOPSequence" not in answer
    with plain.journal() as journal:
        assert set(journal.arrivals.holds(stored)) == stored
        (arrival,) = journal.arrivals.open(studies.study_uid(3))
        assert (arrival.objects, arrival.sender) == (studies.SLICES, "token me")


def test_it_ends_in_good_order_though_somebody_listens(tmp_path):
    with (
        process(tmp_path) as started,
        httpx.stream("GET", f"{started.address}api/v1/events", headers=started.headers, timeout=WAIT_S) as stream,
    ):
        lines = stream.iter_lines()
        assert next(lines).startswith("retry")
        logged = started.end()
        assert [line for line in lines if line] == []
    for line in logged.splitlines():
        json.loads(line)
    with pytest.raises(httpx.ConnectError):
        httpx.get(started.address)


def test_over_tls_and_with_certificates_of_clients(tmp_path):
    certificate(tmp_path)
    trust = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    with process(tmp_path, tls=TLS) as started:
        assert started.address.startswith("https://")
        answer = httpx.get(f"{started.address}api/v1/me", headers=started.headers, verify=trust, timeout=WAIT_S)
        assert answer.json() == {"name": "me", "role": "admin"} and "strict-transport-security" in answer.headers
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://127.0.0.1:{started.port}/healthz", timeout=WAIT_S)
    tokens.remove(tmp_path / "tokens.yaml", "me")
    with process(tmp_path, tls={**TLS, "authority": "cert.pem"}) as started:
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{started.address}healthz", verify=trust, timeout=WAIT_S)
        trust.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
        assert httpx.get(f"{started.address}healthz", verify=trust, timeout=WAIT_S).status_code == 200


@pytest.mark.parametrize(
    ("serve", "words"),
    [
        ({"host": "0.0.0.0"}, "no TLS"),
        ({"tls": {"certificate": "none.pem", "key": "none.pem"}}, "serve.tls"),
        ({"host": "192.0.2.1", "plain": True}, "192.0.2.1"),
    ],
)
def test_what_is_not_safe_or_not_there_is_refused(tmp_path, serve, words):
    site = tmp_path / "site.yaml"
    site.write_text(yaml.safe_dump({"serve": {"port": 0, **serve}}))
    done = medseg_command("serve", site)
    assert done.code == 2 and words in done.err and "What to do" in done.err


def test_a_port_that_is_taken_is_said(plain, tmp_path):
    site = tmp_path / "site.yaml"
    site.write_text(yaml.safe_dump({"serve": {"port": plain.port}}))
    done = medseg_command("serve", site)
    assert done.code == 2 and str(plain.port) in done.err


def test_loopback_needs_no_tls():
    for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9"):
        server.refuse_open(Site(serve={"host": host}))
    server.refuse_open(Site(serve={"host": "0.0.0.0", "plain": True}))
    for host in ("0.0.0.0", "::", "10.0.0.1", "a-name", ""):
        with pytest.raises(Refusal):
            server.refuse_open(Site(serve={"host": host}))


def answered(port: int, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
        connection.sendall(sent)
        found = b""
        while b"\r\n\r\n" not in found and (block := connection.recv(65536)):
            found += block
    return found


def test_what_is_too_large_is_refused_before_it_is_sent(plain):
    head = f"POST /api/v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {plain.token}\r\n"
    kind = "Content-Type: multipart/form-data; boundary=b\r\n"
    for path, length in (("/api/v1/jobs", 10 * 2**30), ("/dicom-web/studies", 10**18), ("/login", 10**6)):
        asked_for = f"{head}{kind}Content-Length: {length}\r\n\r\n".replace("/api/v1/jobs", path)
        said = answered(plain.port, asked_for.encode())
        assert said.startswith(b"HTTP/1.1 413"), (path, said)
    for bytes_, status in ((20_000, b"431"), (10**6, b"400")):
        assert answered(plain.port, f"{head}X: {'a' * bytes_}\r\n\r\n".encode())[9:12] == status
    assert answered(plain.port, b"\x16\x03\x01\x02\x00rubbish\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert httpx.get(f"{plain.address}healthz").status_code == 200


def test_a_large_upload_lies_on_the_disk_and_not_in_memory(plain):
    volume = nrrd(phantom(0)[0])
    megabytes = 300

    def body() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.nrrd"\r\n\r\n' + volume
        for _ in range(megabytes):
            yield bytes(2**20)
        yield b"\r\n--b--\r\n"

    def resident() -> int:
        text = Path(f"/proc/{plain.running.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", text)[1]) // 1024  # type: ignore[index]

    kind = {"content-type": "multipart/form-data; boundary=b"}
    httpx.get(f"{plain.address}api/v1/me", headers=plain.headers, timeout=WAIT_S)
    before = resident()
    answer = httpx.post(f"{plain.address}api/v1/jobs", headers=plain.headers | kind, content=body(), timeout=WAIT_S)
    assert answer.status_code == 400 and "without a model" in answer.text
    assert resident() - before < megabytes / 4
    (incoming,) = (path for path in (plain.site.parent / "data" / "incoming").iterdir() if path.is_dir())
    assert list(incoming.iterdir()) == []
