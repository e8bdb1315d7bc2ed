"""What strangers, wrong roles, foreign pages and hostile files get from the service: nothing, in few words."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import socket
import struct
import threading
import zipfile
from pathlib import Path

import pytest
from uvicorn.lifespan.off import LifespanOff

from medseg.refusal import Refusal
from medseg.service import logs, strangers
from medseg.service.settings.serve import Serve
from medseg.service.web import access, feed, guard, pages, server, tokens, unzip, volumes
from medseg.service.web.guard import Guard
from medseg.service.web.problem import Problem
from tests.service import studies
from tests.service.test_api import VOLUME, objects, submit
from tests.service.web import MARKED, asked, finished, related, serving, site_in, zipped

WAIT_S = 60
OPEN = {"/healthz", "/readyz", "/login", "/page/{name}", "/", "/jobs/{job}"}
"""What strangers may ask for: whether it is up, and pages without data; the last two only lead to the login."""


@pytest.fixture
def service(tmp_path):
    with serving(site_in(tmp_path)) as started:
        yield started


def endpoints(service) -> list[tuple[str, str]]:
    paths = service.client.app.openapi()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def test_strangers_get_nothing_and_no_details(service):
    finished(service, identity=MARKED)
    found = endpoints(service)
    assert len(found) > 20
    for method, path in found:
        if path in OPEN:
            continue
        address = path.replace("{job}", "1").replace("{name}", "case.nii.gz").replace("{study}", "1.2")
        for headers in (
            {},
            {"authorization": "Bearer admin.wrong"},
            {"authorization": "Basic YTpi"},
            {"cookie": "medseg=x"},
        ):
            service.client.app.state.door.failures = strangers.Counted(lambda: 0.0)
            answer = service.client.request(method, address, headers=headers)
            assert answer.status_code in (401, 403), (method, path, headers, answer.text)
            assert MARKED.patient_id not in answer.text and "admin" not in answer.text
    for page in ("/", "/jobs/1"):
        answer = service.client.get(page, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    for path in ("/docs", "/redoc", "/openapi.json", "/api/v1/docs"):
        assert service.get(path, "").status_code == 404


def test_each_role_may_do_no_more_than_it_says(service):
    job = finished(service)
    for who in ("read", "submit"):
        assert service.post(f"/api/v1/jobs/{job.id}/cancel", who).status_code == 403
        assert service.post(f"/api/v1/jobs/{job.id}/release", who).status_code == 403
    body, headers = related(objects()[:1])
    assert service.post("/dicom-web/studies", "read", content=body, headers=headers).status_code == 403
    assert submit(service, {"model": "liver"}, {"image": ("a.nrrd", VOLUME)}, "read").status_code == 403
    assert service.journal.arrivals.counts().received == 0 and len(service.journal.jobs.find()) == 1


def test_a_token_that_is_removed_is_refused_at_once_and_its_session_too(service):
    origin = {"origin": "http://127.0.0.1"}
    logged = service.client.post("/login", json={"token": service.secrets["submit"]}, headers=origin)
    cookie = logged.headers["set-cookie"].lower()
    assert logged.status_code == 200 and "httponly" in cookie and "samesite=strict" in cookie
    assert service.get("/api/v1/me", "").json() == {"name": "submit", "role": "submit"}
    tokens.remove(service.site.at(service.site.serve.tokens), "submit")
    assert service.get("/api/v1/me", "").status_code == 401
    assert service.get("/api/v1/me", "submit").status_code == 401
    tokens.add(service.site.at(service.site.serve.tokens), "submit", "admin")
    assert service.get("/api/v1/me", "").status_code == 401, "one of the same name is another"


def test_a_session_ends_with_logging_out_and_with_time(service):
    now = [0.0]
    door = service.client.app.state.door
    door._clock = lambda: now[0]
    origin = {"origin": "http://127.0.0.1"}
    log_in = lambda: service.client.post("/login", json={"token": service.secrets["read"]}, headers=origin)  # noqa: E731
    log_in()
    now[0] += access.SESSION_S - 1
    assert service.get("/api/v1/me", "").status_code == 200
    now[0] += access.SESSION_S + 1
    assert service.get("/api/v1/me", "").status_code == 401
    log_in()
    assert service.client.post("/logout", headers=origin).status_code == 200
    assert service.get("/api/v1/me", "").status_code == 401


def test_other_pages_cannot_use_a_session(service):
    own = {"origin": "http://127.0.0.1"}
    service.client.post("/login", json={"token": service.secrets["admin"]}, headers=own)
    job, _ = service.journal.jobs.submit(asked(1, model="/m"), who="a")
    path = f"/api/v1/jobs/{job.id}/cancel"
    for origin in ({}, {"origin": "https://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1.evil"}):
        assert service.client.post(path, headers=origin).status_code == 403, origin
    assert service.client.post("/login", json={"token": "x"}, headers={"origin": "https://evil"}).status_code == 403
    assert service.client.post(path, headers=own).status_code == 200
    answer = service.get("/api/v1/me", headers={"origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_wrong_tokens_are_counted_and_those_who_are_known_stay_in(service):
    now = [0.0]
    door = service.client.app.state.door
    door.failures = strangers.Counted(lambda: now[0])
    assert service.get("/api/v1/me").status_code == 200
    wrong = {"authorization": f"Bearer read.{'x' * 43}"}
    for _ in range(strangers.OFTEN):
        assert service.client.get("/api/v1/me", headers=wrong).status_code == 401
    answer = service.client.get("/api/v1/me", headers=wrong)
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= strangers.WITHIN_S
    assert service.get("/api/v1/me", "admin").status_code == 429, "a right one waits, too: guesses are not told apart"
    assert service.get("/api/v1/me").status_code == 200, "but not one that was here before"
    now[0] += strangers.WITHIN_S + 1
    assert service.get("/api/v1/me", "admin").status_code == 200


def test_wrong_tokens_of_a_network_count_together():
    failures = strangers.Counted(lambda: 0.0)
    for number in range(strangers.OFTEN):
        failures.add(f"2001:db8::{number:x}")
    assert failures.wait_s("2001:db8::ffff") and not failures.wait_s("2001:db8:0:1::1")
    assert not failures.wait_s("192.0.2.1")


@pytest.mark.parametrize("host", ["evil.example", "", "localhost.evil", "127.0.0.1.evil", "[::1].evil", "a b"])
def test_other_names_than_its_own_are_refused(service, host):
    assert service.get("/healthz", "", headers={"host": host}).status_code == 421


def test_its_own_names_and_addresses_are_fine(tmp_path):
    with serving(site_in(tmp_path, serve=Serve(names=("seg.hospital.example",)))) as service:
        for host in ("seg.hospital.example", "SEG.hospital.example:8080", "localhost:1", "[::1]:8080", "192.0.2.7"):
            assert service.get("/healthz", "", headers={"host": host}).status_code == 200, host


def test_every_answer_says_what_a_browser_may_do_with_it(service):
    finished(service)
    for path in ("/healthz", "/api/v1/me", "/login", "/page/worklist.js", "/none", "/api/v1/jobs/1/files/case.nii.gz"):
        headers = service.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy, path
        assert "unsafe" not in policy and headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store" and headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers


@pytest.mark.parametrize(
    "name",
    [
        "../case.nii.gz",
        "..%2f..%2fjournal.sqlite",
        "%2e%2e/x",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "case.nii.gz%00",
        ".",
        "other",
    ],
)
def test_files_are_those_that_the_job_names(service, name):
    job = finished(service)
    (Path(job.out) / "other").write_text("secret")
    answer = service.get(f"/api/v1/jobs/{job.id}/files/{name}")
    assert answer.status_code in (404, 422) and "secret" not in answer.text
    assert service.get(f"/page/{name}").status_code in (404, 405, 422)


def test_names_that_are_sent_are_no_paths(service):
    for name in ("../../evil.nrrd", "/tmp/evil.nrrd", "..\\evil", "a\x00b", "x" * 3000, "<b>"):
        answer = submit(service, {"model": "liver"}, {"image": (name, VOLUME)})
        assert answer.status_code in (200, 400)
    found = {path.name for path in service.site.folder.rglob("*") if "evil" in path.name or "<" in path.name}
    assert found == set()
    for uid in ("../../x", "1.2/../3", "1" * 65):
        assert service.post(f"/dicom-web/studies/{uid}", content=b"", headers={}).status_code in (404, 415, 422)
        assert service.post("/api/v1/jobs", json={"model": "liver", "study": uid}).status_code in (400, 404)


def bomb(claimed: int | None = None) -> bytes:
    """A small zip of a large file; it may claim to be smaller than it is."""
    content = bytes(128) + b"DICM" + bytes(80 * 2**20)
    packed = bytearray(zipped({"a.dcm": content}))
    if claimed is not None:
        for signature, place in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
            at = packed.index(signature)
            packed[at + place : at + place + 4] = struct.pack("<I", claimed)
    return bytes(packed)


def many() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(20_001):
            archive.writestr(str(number), b"")
    return stream.getvalue()


@pytest.mark.parametrize(("entries", "comment"), [(unzip.MOST_FILES + 1, 0), (400, 60_000)], ids=["many", "long"])
def test_the_list_of_a_zip_is_looked_at_before_it_is_taken_in(entries, comment, tmp_path, monkeypatch):
    """Its entries share one file, so that it is much smaller than what is made of it in memory."""
    local = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 0, 0, 0, 0, 0, 0, 1, 0) + b"a"
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *(20, 20), *[0] * 7, 1, 0, comment, *[0] * 4)
    entry += b"a" + bytes(comment)
    size, count = entries * len(entry), entries
    end = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, len(local))
    end += struct.pack("<4sLQL", b"PK\x06\x07", 0, len(local) + size, 1)
    end += struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path = tmp_path / "a.zip"
    path.write_bytes(local + entry * entries + end)
    with zipfile.ZipFile(path) as whole:
        assert len(whole.infolist()) == entries
    made = []
    monkeypatch.setattr(zipfile, "ZipInfo", lambda *words: made.append(words))
    with pytest.raises(Refusal, match="packed as studies are"):
        unzip.dicom_files(path, tmp_path, most_bytes=2**30, free_bytes=0)
    assert not made


@pytest.mark.parametrize(
    ("made", "words"),
    [(bomb, "packed as studies are"), (lambda: bomb(1000), "zip of DICOM files"), (many, "packed as studies are")],
    ids=["large", "lying", "many"],
)
def test_zips_that_are_traps_are_refused(service, made, words):
    packed = made()
    for ask in ({"model": "liver"}, {}):
        answer = submit(service, ask, {"study": ("a.zip", packed)})
        assert answer.status_code in (400, 413) and words in answer.json()["error"]["needed"], answer.text
    assert list(service.store.incoming.iterdir()) == [] and service.journal.jobs.find() == []


def test_what_is_counted_counts_though_nothing_was_declared(tmp_path):
    with serving(site_in(tmp_path, serve=Serve(largest_mib=1))) as service:
        kind = {"content-type": "multipart/form-data; boundary=b"}

        def body():
            yield b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n'
            for _ in range(100):
                yield bytes(2**16)

        answer = service.post("/api/v1/jobs", content=body(), headers=kind)
        assert answer.status_code == 413 and answer.json()["error"]["code"] == "too-large"
        assert list(service.store.incoming.iterdir()) == []


def send_slowly(site, chunks, clock) -> tuple[int, str]:
    """Status and code of an upload whose chunks come as `chunks` yields them."""

    async def application(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def run():
        sent = []

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/api/v1/jobs", "headers": [(b"host", b"127.0.0.1")]}
        try:
            await Guard(application, site, clock=clock)(scope, chunks, send)
        except Exception as problem:
            return problem.status, problem.code
        return sent[0]["status"], json.loads(sent[1]["body"]).get("error", {}).get("code", "")

    return asyncio.run(run())


def test_an_upload_that_stands_still_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "IDLE_S", 0.05)

    async def never():
        await asyncio.Event().wait()

    assert send_slowly(site_in(tmp_path), never, lambda: 0.0) == (408, "too-slow")


def test_an_upload_that_trickles_is_ended_and_one_that_is_fast_goes_on(tmp_path):
    now = [0.0]

    def arriving(size: int, every_s: float, most: int):
        count = [0]

        async def chunk():
            now[0] += every_s
            count[0] += 1
            return {"type": "http.request", "body": bytes(size), "more_body": count[0] < most}

        return chunk

    site = site_in(tmp_path)
    assert send_slowly(site, arriving(1, 20.0, 10_000), lambda: now[0]) == (408, "too-slow")
    assert now[0] < 100
    assert send_slowly(site, arriving(2**20, 20.0, 1000), lambda: now[0]) == (200, "")


@pytest.fixture
def impatient(service, monkeypatch):
    """A port of a server in a thread that waits a moment for headers, and for who does not read."""
    monkeypatch.setattr(server, "HEADERS_S", 0.3)
    monkeypatch.setattr(server, "UNREAD_S", 0.3)
    with server.listening(service.site.model_copy(update={"serve": Serve(port=0)})) as bound:
        running = server.server(service.client.app, service.site)
        running.config.lifespan_class = LifespanOff
        running.config.timeout_keep_alive = 1
        thread = threading.Thread(target=running.run, args=([bound],))
        thread.start()
        yield bound.getsockname()[1]
        running.should_exit = True
        thread.join(WAIT_S)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    "start", [b"", b"GET /healthz HTTP/1.1\r\nHost: 127", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET"]
)
def test_who_does_not_say_what_is_wanted_is_let_go(impatient, start):
    with socket.create_connection(("127.0.0.1", impatient), timeout=WAIT_S) as connection:
        connection.sendall(start)
        while connection.recv(65536):
            pass


def test_who_sends_on_after_a_refusal_is_let_go(impatient):
    start = b"POST /api/v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", impatient), timeout=WAIT_S / 3) as connection:
        connection.sendall(start)
        assert b" 401 " in connection.recv(65536)
        connection.sendall(b"-")
        while connection.recv(65536):
            pass


@pytest.mark.parametrize("high", [2**16, 2**30], ids=["while it is sent", "when all is sent"])
def test_who_does_not_read_is_let_go(impatient, high, monkeypatch):
    """Answers that are larger than what the sockets on both sides hold; the server holds so much itself."""
    lost, made_of, lost_of = threading.Event(), server.Patient.connection_made, server.Patient.connection_lost

    def made(self, transport):
        made_of(self, transport)
        transport.set_write_buffer_limits(high)

    monkeypatch.setattr(server.Patient, "connection_made", made)
    monkeypatch.setattr(server.Patient, "connection_lost", lambda self, exc: (lost_of(self, exc), lost.set()))
    monkeypatch.setattr(pages, "_text", lambda name: "x" * 1_000_000)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", impatient))
        connection.sendall(b"GET /page/worklist.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 20)
        assert lost.wait(WAIT_S / 3)


def test_the_log_holds_nothing_that_a_patient_is_known_by(service, caplog):
    caplog.set_level(logging.DEBUG)
    finished(service, identity=MARKED)
    uid = studies.study_uid(1)
    service.get(f"/api/v1/jobs?text={MARKED.patient_id}")
    service.get(f"/{MARKED.patient_id}/{uid}")
    service.get(f"/api/v1/jobs/1/files/{MARKED.patient_id}")
    service.post(f"/api/v1/jobs?text={MARKED.patient_id}", json={"model": MARKED.patient_id, "study": uid})
    submit(service, {}, {MARKED.patient_id: (f"{MARKED.patient_id}.zip", zipped(dict(enumerate_names(objects()))))})
    body, headers = related([*objects()[:2], b"x"])
    service.post(f"/dicom-web/studies/{uid}", content=body, headers=headers)
    service.client.get("/api/v1/me", headers={"authorization": f"Bearer {MARKED.patient_id}.x"})
    service.journal.jobs.counts = lambda: {}[MARKED.patient_id]
    assert service.get("/api/v1/summary").status_code == 500
    ours = [record for record in caplog.records if record.name.startswith("medseg")]
    lines = [logs.Lines().format(record) for record in ours]
    assert sum(record.getMessage() == "request" for record in ours) >= 8 and any("KeyError" in line for line in lines)
    text = "\n".join(lines)
    for secret in (
        MARKED.patient_id,
        MARKED.accession,
        MARKED.study_uid,
        uid,
        "MS0001",
        "Phantom",
        *service.secrets.values(),
    ):
        assert secret not in text, secret
    assert logs.pseudonym(uid) in text and '"route": "/api/v1/jobs/{job}/files/{name}"' in text


def enumerate_names(contents):
    return ((f"MARK-PATIENT-4711-{number}.dcm", content) for number, content in enumerate(contents))


def test_what_strangers_tried_to_change_is_on_record_too(service):
    service.post("/api/v1/jobs/1/cancel", "")
    service.client.post("/login", json={"token": "a.b"}, headers={"origin": "http://127.0.0.1"})
    told = [(who.partition(" at ")[0], what, outcome) for who, what, _, outcome in service.audit()]
    assert told == [("a stranger", "cancel", "401 no-token"), ("a stranger", "log_in", "401 no-token")]


def test_strangers_do_not_fill_the_audit_log(service):
    for _ in range(3 * strangers.OFTEN):
        assert service.post("/api/v1/jobs/1/cancel", "").status_code == 401
    service.post("/api/v1/jobs/1/cancel")
    told = [who.partition(" at ")[0] for who, *_ in service.audit()]
    assert told == ["a stranger"] * strangers.OFTEN + ["token admin"]


def test_a_file_of_tokens_that_others_can_read_lets_nobody_in(service):
    assert service.get("/api/v1/me").status_code == 200
    path = service.site.at(service.site.serve.tokens)
    path.chmod(0o644)
    answer = service.get("/api/v1/me")
    assert answer.status_code == 503 and path.name not in answer.text
    path.chmod(0o600)
    assert service.get("/api/v1/me").status_code == 200


@pytest.mark.parametrize("before", ["\n", "\r\n", "\r", "\n\r", "\r\r\n", "\n \r", "\n\t", "\0", "\n\0\r"])
@pytest.mark.parametrize("field", ["data file", "datafile", "DATA  FILE", "data\rfile", "data file "])
def test_a_volume_does_not_take_its_voxels_from_elsewhere(tmp_path, before, field):
    (tmp_path / "secret").write_bytes(bytes(10_000))
    start = "NRRD0004\ntype: short\ndimension: 3\nsizes: 2 2 2\nencoding: raw"
    path = tmp_path / "sent"
    path.write_bytes(f"{start}{before}{field}: {tmp_path / 'secret'}\n\n".encode() + bytes(16))
    with pytest.raises(Problem, match="points to another file"):
        volumes.suffix(path)


def test_a_volume_has_the_line_ends_of_its_format(tmp_path):
    for end in (b"\n", b"\r\n"):
        (tmp_path / "sent").write_bytes(VOLUME.replace(b"\n", end))
        assert volumes.suffix(tmp_path / "sent") == ".nrrd"
    (tmp_path / "sent").write_bytes(VOLUME.replace(b"\n", b"\r", 3))
    with pytest.raises(Problem, match="other line ends"):
        volumes.suffix(tmp_path / "sent")


def test_a_token_that_is_removed_hears_no_more(service, monkeypatch):
    monkeypatch.setattr(feed, "QUIET_S", 0.05)
    door = service.client.app.state.door
    token, asked_again, still = door.by_token(service.secrets["read"], ""), threading.Event(), door.still
    monkeypatch.setattr(door, "still", lambda token: (still(token), asked_again.set())[0])
    hold = threading.Thread(target=lambda: service.get("/api/v1/events"))
    hold.start()
    assert asked_again.wait(WAIT_S / 3) and hold.is_alive()
    tokens.remove(service.site.at(service.site.serve.tokens), "read")
    hold.join(WAIT_S / 3)
    assert not hold.is_alive() and not door.still(token)
    tokens.add(service.site.at(service.site.serve.tokens), "read", "read")
    assert not door.still(token), "one of the same name is another"
