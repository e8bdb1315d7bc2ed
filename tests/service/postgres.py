"""A PostgreSQL of the test's own, on a free port of this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FOUND = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name)
PROGRAMS = Path(FOUND[-1]) if FOUND else Path(os.path.dirname(shutil.which("initdb") or "."))  # noqa: PTH120
MARKS = [
    pytest.mark.postgres,
    pytest.mark.skipif(not (PROGRAMS / "initdb").is_file(), reason="not installed: initdb (Debian package postgresql)"),
]
START_S = 60


def _run(*command: str | Path) -> None:
    """As a user that the server does not refuse; it refuses root."""
    words = [str(word) for word in command]
    if os.geteuid() == 0:
        words = ["runuser", "-u", "postgres", "--", *words]
    done = subprocess.run(words, capture_output=True, text=True, timeout=START_S * 2, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def server() -> Iterator[str]:
    """The address of a running server with an empty database, without a journal's name."""
    folder = Path(tempfile.mkdtemp(prefix="medseg-postgres-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        data = folder / "data"
        _run(PROGRAMS / "initdb", "-D", data, "-U", "medseg", "-A", "trust", "--no-sync")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"
        _run(PROGRAMS / "pg_ctl", "-D", data, "-o", options, "-l", folder / "log", "-w", "-t", str(START_S), "start")
        try:
            yield f"postgresql://medseg@127.0.0.1:{port}"
        finally:
            _run(PROGRAMS / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
