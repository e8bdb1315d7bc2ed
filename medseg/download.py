"""One file over HTTP: it goes on where it was cut, is checked while it arrives, and gets its name when it is complete.

Written on the standard library's urllib, which takes proxies from the usual environment variables (HTTPS_PROXY,
HTTP_PROXY, NO_PROXY) and certificates from the system.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medseg.refusal import Refusal

Show = Callable[[int, int], None]
"""Called with (MiB done, MiB in all)."""
BLOCK = 1 << 20
TIMEOUT_S = 60
COMPLETE, PARTIAL, OUT_OF_RANGE = 200, 206, 416
REASONS = {
    401: "the server asks for a login; download the file by hand",
    403: "the server does not give it to everybody; download the file by hand",
    404: "the address has changed; look at the source page, and give the new one with --url",
    407: "the proxy asks for a login; put user:password@ into HTTPS_PROXY",
    410: "the file was taken away; look at the source page",
    429: "the server has had too many requests; try again later",
}


def fetch(url: str, target: Path, *, sha256: str | None = None, show: Show | None = None) -> str:
    """Download `url` to `target`.

    What has arrived lies in `<target>.part` until it is complete, so that the same call goes on after a cut. It does so
    only if the server says that its file is the same (ETag or date), or if a full checksum will tell.

    Args:
        url: http or https.
        target: file to make.
        sha256: that the file must have, or how it begins.
        show: progress.

    Returns:
        the file's sha256.

    Raises:
        Refusal: no such address, no connection, a cut one, a full disk, a web page in place of the file, another
            checksum.
    """
    _require_scheme(url)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    start, validator = _left_over(url, part, sure=sha256 is not None and len(sha256) == 64)
    response = _open(url, start, validator)
    if response is None:  # all of it had arrived; the checksum and the name were still to come
        digest = _digest(part).hexdigest()
    else:
        with response:
            digest = _receive(response, url, part, start, show)
    if sha256 and not digest.startswith(sha256.lower()):
        _forget(part)
        raise Refusal(
            url,
            found=f"sha256 {digest}",
            needed=sha256,
            remedy="try again; if it stays so, the file there is another one now: do not use it",
        )
    part.replace(target)
    _forget(part)
    return digest


def _require_scheme(url: str) -> None:
    if not url.lower().startswith(("http://", "https://")):
        raise Refusal(url, found="another kind of address", needed="http:// or https://", remedy="correct --url")


def _note(part: Path) -> Path:
    """Where it stands which address a `.part` came from, and what the server called that version."""
    return part.with_name(part.name + ".json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _left_over(url: str, part: Path, *, sure: bool) -> tuple[int, str]:
    """Bytes to go on from, and the server's word for the version that they are of."""
    try:
        note = json.loads(_note(part).read_text(encoding="utf-8"))
        before, validator = str(note["url"]), str(note["validator"])
        size = part.stat().st_size
    except (OSError, ValueError, KeyError, TypeError):  # none, or a damaged one: begin anew
        return 0, ""
    return (size, validator) if before == url and (validator or sure) else (0, "")


def _open(url: str, start: int, validator: str) -> Any:
    """The response; None if the server has nothing after `start`."""
    request = urllib.request.Request(url, headers={"User-Agent": "medseg", "Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
        if validator:
            request.add_header("If-Range", validator)
    try:
        # an opener of its own, because the module's shared one remembers the proxies of its first call
        response = urllib.request.build_opener().open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == OUT_OF_RANGE and start and error.headers.get("Content-Range") == f"bytes */{start}":
            return None
        if error.code == OUT_OF_RANGE and start:
            return _open(url, 0, "")
        raise Refusal(
            url,
            found=f"{error.code} {error.reason}",
            needed="the file",
            remedy=REASONS.get(error.code, "try again later; or look at the source page"),
        ) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise Refusal(
            url,
            found=f"no connection ({reason})",
            needed="one to the server",
            remedy="check the network; behind a proxy, set HTTPS_PROXY; or carry the file here by hand",
        ) from error
    if url.lower().startswith("https:") and not response.url.lower().startswith("https:"):
        raise Refusal(
            url,
            found=f"a redirection to {response.url}, which anybody on the way can change",
            needed="https all the way",
            remedy="look at the source page for another address",
        )
    if response.headers.get_content_type() == "text/html":
        raise Refusal(
            url,
            found="a web page",
            needed="a file",
            remedy="open it in a browser: it may want a click or a login; then carry the file here by hand",
        )
    return response


def _receive(response: Any, url: str, part: Path, start: int, show: Show | None) -> str:
    """Write what arrives behind what is there; its sha256."""
    if response.status != PARTIAL or not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        start = 0
    length = response.headers.get("Content-Length")
    total = start + int(length) if length else 0
    _require_room(part, total - start)
    running = _digest(part) if start else hashlib.sha256()
    validator = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
    validator = "" if validator.startswith("W/") else validator  # a weak one may name two different files
    if not start:
        _forget(part)  # before the note, which a kill would else leave beside bytes of another version
    _note(part).write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")
    done = start
    with part.open("ab" if start else "wb") as out:
        while block := _block(response, url, done, total):
            out.write(block)
            running.update(block)
            done += len(block)
            if show and total:
                show(done // BLOCK, total // BLOCK)
        out.flush()
        os.fsync(out.fileno())
    if total and done != total:
        raise _cut(url, done, total)
    return running.hexdigest()


def _block(response: Any, url: str, done: int, total: int) -> bytes:
    try:
        return bytes(response.read(BLOCK))
    except (OSError, http.client.HTTPException) as error:
        raise _cut(url, done, total) from error


def _cut(url: str, done: int, total: int) -> Refusal:
    of = f" of {total / BLOCK:.1f}" if total else ""
    return Refusal(
        url,
        found=f"the connection cut after {done / BLOCK:.1f}{of} MiB",
        needed="the whole file",
        remedy="run the same command again; it goes on from there",
    )


def _digest(path: Path) -> Any:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256")


def _require_room(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise Refusal(
            part.parent,
            found=f"{free / BLOCK:.0f} MiB free",
            needed=f"{needed / BLOCK:.0f} MiB",
            remedy="free some space, or choose another --out",
        )
