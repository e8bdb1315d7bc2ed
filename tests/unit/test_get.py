"""`medseg get` against servers of this machine that behave, cut connections, and send the wrong thing."""

from __future__ import annotations

import errno
import hashlib
import io
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from medseg import catalogue, download
from medseg.refusal import Refusal
from tests import tiny

CONTENT = bytes(range(256)) * 12_000  # 2.9 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Holds one file; what it does wrong is set by a test.

    Attributes:
        cut_at: bytes after which the connection is closed; None: never.
        ranges: whether parts are given.
        etag: name of this version of the file.
        kind: content type.
        status: answered in place of the file, if not 200.
        asked: path and Range of every request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.content = CONTENT
        self.cut_at: int | None = None
        self.ranges = True
        self.etag = '"one"'
        self.kind = "application/octet-stream"
        self.status = 200
        self.moved = ""
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights.pth"


class Answer(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append((self.path, asked))
        if self.server.moved:
            self.send_response(302)
            self.send_header("Location", self.server.moved)
            self.end_headers()
            return
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        content, start = self.server.content, 0
        same = self.headers.get("If-Range") in (None, self.server.etag)
        if asked and self.server.ranges and same:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Content-Type", self.server.kind)
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        self.end_headers()
        self.wfile.write(content[start : self.server.cut_at])

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def get(server: Server, folder: Path, *words: object, name: str = "stunet-s") -> tiny.Said:
    return tiny.medseg_command("get", name, "--out", folder, "--url", server.url, *words)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_without_a_name_the_catalogue_is_listed():
    said = tiny.medseg_command("get")
    assert said.code == 0 and len(said.out.splitlines()) == len(catalogue.entries())
    assert all(f"{name} " in said.out for name in catalogue.entries())


def test_a_download_shows_the_licence_first_and_says_what_comes_next(server, tmp_path):
    said = get(server, tmp_path, "--yes")
    assert said.code == 0, said.err
    target = tmp_path / "small_ep4k.model"
    assert target.read_bytes() == CONTENT and names(tmp_path) == {target.name}
    assert "licence      Apache-2.0" in said.out and said.out.endswith(f"{target}\n")
    assert f"sha256 {SHA256}, no checksum is known" in said.err
    assert f"medseg import-weights {target} --as stunet-s" in said.err
    said = get(server, tmp_path, "--yes")
    assert said.code == 2 and "the file there already" in said.err and len(server.asked) == 1


def test_nothing_is_asked_of_the_network_before_the_licence_is_accepted(server, tmp_path, monkeypatch):
    said = get(server, tmp_path)
    assert said.code == 2 and "a terminal, or --yes" in said.err and "licence      Apache-2.0" in said.out

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    assert get(server, tmp_path).code == 1
    assert server.asked == [] and names(tmp_path) == set()
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert get(server, tmp_path).code == 0 and len(server.asked) == 1


def test_an_entry_without_an_address_says_where_to_go(tmp_path):
    said = tiny.medseg_command("get", "rrwnet-rite", "--out", tmp_path, "--yes")
    assert said.code == 2 and "download rrwnet_RITE_1.pth from https://github.com/j-morano/rrwnet" in said.err


def test_a_name_that_is_not_in_the_catalogue():
    assert "did you mean 'stunet-s'" in tiny.medseg_command("get", "stunet-sm").err


def test_a_folder_that_cannot_be_made_or_written(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for folder, why in ((tmp_path / "file", "File exists"), (tmp_path / "file" / "folder", "Not a directory")):
        said = get(server, folder, "--yes")
        assert said.code == 2 and f"found {why}; needed a place that may be" in said.err and "Traceback" not in said.err

    def forbidden(*words: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/closed")

    monkeypatch.setattr(Path, "mkdir", forbidden)
    assert "error: /closed: found Permission denied" in get(server, tmp_path, "--yes").err


def test_the_catalogues_checksum_is_held_against_what_came(server, tmp_path):
    said = get(server, tmp_path, "--yes", name="resnet18-imagenet")
    known = catalogue.find("resnet18-imagenet").sha256
    assert said.code == 2 and f"found sha256 {SHA256}; needed {known}" in said.err and "do not use it" in said.err
    assert names(tmp_path) == set()


def test_a_cut_download_goes_on_where_it_was(server, tmp_path):
    target = tmp_path / "w.pth"
    server.cut_at = 1_500_000
    with pytest.raises(Refusal, match=r"the connection cut after 1\.4 of 2\.9 MiB.*run the same command again"):
        download.fetch(server.url, target)
    assert names(tmp_path) == {"w.pth.part", "w.pth.part.json"}
    server.cut_at = None
    assert download.fetch(server.url, target) == SHA256
    assert [asked for _, asked in server.asked] == [None, "bytes=1500000-"]
    assert target.read_bytes() == CONTENT and names(tmp_path) == {"w.pth"}


@pytest.mark.parametrize("change", ["etag", "no etag", "no ranges", "other address", "lost note"])
def test_parts_of_two_versions_are_never_joined(server, tmp_path, change):
    target, url = tmp_path / "w.pth", server.url
    server.cut_at = 1_000_000
    server.etag = "" if change == "no etag" else server.etag
    with pytest.raises(Refusal):
        download.fetch(url, target)
    server.cut_at, server.content = None, CONTENT[::-1]
    if change == "etag":
        server.etag = '"two"'
    elif change == "no ranges":
        server.ranges = False
    elif change == "other address":
        url += "?version=2"
    elif change == "lost note":
        (tmp_path / "w.pth.part.json").write_text("{")
    download.fetch(url, target)
    assert target.read_bytes() == CONTENT[::-1]


def test_a_kill_between_the_note_and_the_first_bytes(server, tmp_path, monkeypatch):
    """The note of a new version never lies beside the bytes of an old one."""
    server.cut_at = 1_000_000
    with pytest.raises(Refusal):
        download.fetch(server.url, tmp_path / "w.pth")
    server.cut_at, server.content, server.etag = None, CONTENT[::-1], '"two"'
    with monkeypatch.context() as patched:
        opened = Path.open
        patched.setattr(Path, "open", lambda path, mode="r", *rest, **more: _killed(opened, path, mode, *rest, **more))
        with pytest.raises(KeyboardInterrupt):
            download.fetch(server.url, tmp_path / "w.pth")
    download.fetch(server.url, tmp_path / "w.pth")
    assert (tmp_path / "w.pth").read_bytes() == CONTENT[::-1]


def _killed(opened, path: Path, mode: str, *rest, **more):
    if "b" in mode and path.suffix == ".part":
        raise KeyboardInterrupt
    return opened(path, mode, *rest, **more)


def test_without_a_name_for_the_version_a_checksum_allows_to_go_on(server, tmp_path):
    server.cut_at, server.etag = 1_000_000, ""
    with pytest.raises(Refusal):
        download.fetch(server.url, tmp_path / "w.pth", sha256=SHA256)
    server.cut_at = None
    assert download.fetch(server.url, tmp_path / "w.pth", sha256=SHA256) == SHA256
    assert server.asked[1][1] == "bytes=1000000-"


def test_a_download_that_was_killed_before_its_last_step(server, tmp_path):
    server.cut_at = 1_000_000
    with pytest.raises(Refusal):
        download.fetch(server.url, tmp_path / "w.pth")
    (tmp_path / "w.pth.part").write_bytes(CONTENT)
    assert download.fetch(server.url, tmp_path / "w.pth") == SHA256
    assert server.asked[1][1] == f"bytes={len(CONTENT)}-" and names(tmp_path) == {"w.pth"}


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    with pytest.raises(Refusal, match=f"found sha256 {SHA256}; needed {'0' * 64}"):
        download.fetch(server.url, tmp_path / "w.pth", sha256="0" * 64)
    assert names(tmp_path) == set()
    assert download.fetch(server.url, tmp_path / "w.pth", sha256=SHA256[:8].upper()) == SHA256


@pytest.mark.parametrize(
    ("status", "message"),
    [(404, "found 404 Not Found.*--url"), (403, "found 403.*by hand"), (503, "found 503.*try again later")],
)
def test_what_the_server_says_is_told(server, tmp_path, status, message):
    server.status = status
    with pytest.raises(Refusal, match=message):
        download.fetch(server.url, tmp_path / "w.pth")
    assert names(tmp_path) == set()


def test_a_web_page_is_not_the_file(server, tmp_path):
    server.kind = "text/html; charset=utf-8"
    with pytest.raises(Refusal, match="found a web page; needed a file"):
        download.fetch(server.url, tmp_path / "w.pth")


def test_no_connection(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(Refusal, match=r"found no connection \(.*HTTPS_PROXY"):
        download.fetch(f"http://127.0.0.1:{port}/w.pth", tmp_path / "w.pth")


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/x", "/etc/hostname"])
def test_other_kinds_of_address(tmp_path, url):
    with pytest.raises(Refusal, match="another kind of address"):
        download.fetch(url, tmp_path / "w.pth")


def test_redirections_are_followed_but_not_away_from_https(server, tmp_path, monkeypatch):
    with Server() as other:
        thread = threading.Thread(target=other.serve_forever, args=(0.01,))
        thread.start()
        server.moved = other.url
        assert download.fetch(server.url, tmp_path / "w.pth") == SHA256
        other.shutdown()
        thread.join()

    class Opener:
        def open(self, request, timeout):
            response = io.BytesIO()
            response.url = "http://mirror.invalid/w.pth"  # type: ignore[attr-defined]
            return response

    monkeypatch.setattr(download.urllib.request, "build_opener", Opener)
    with pytest.raises(Refusal, match=r"a redirection to http://mirror\.invalid/w\.pth"):
        download.fetch("https://weights.invalid/w.pth", tmp_path / "x.pth")


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy"])
def test_a_proxy_is_taken_from_the_environment(server, tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_port}")
    assert download.fetch("http://weights.invalid/w.pth", tmp_path / "w.pth") == SHA256
    assert server.asked == [("http://weights.invalid/w.pth", None)]


def test_a_full_disk_is_noticed_before_the_download(server, tmp_path, monkeypatch):
    usage = download.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage._replace(free=2**20))
    with pytest.raises(Refusal, match="found 1 MiB free; needed 3 MiB"):
        download.fetch(server.url, tmp_path / "w.pth")


def test_progress_is_told_in_mib(server, tmp_path):
    told: list[tuple[int, int]] = []
    download.fetch(server.url, tmp_path / "w.pth", show=lambda done, total: told.append((done, total)))
    assert told[-1] == (2, 2) and told == sorted(told)
