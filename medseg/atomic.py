"""Files and folders that appear under their final name only when they are complete."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a write that finds no room: disk, quota, limit on the size of a file."""


@contextlib.contextmanager
def replacing(path: Path, *, former: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, on any failure it is removed.

    The temporary name ends like the final one, because writers choose their format by suffix. The content is flushed
    to disk before the rename, so that a power cut leaves either the old file or the new one.

    Args:
        former: where the file that is replaced is kept; for a moment it is the only one there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".partial-{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        if former and path.exists():
            path.replace(former)
        temporary.replace(path)
    except OSError as error:
        if error.errno:  # a write that finds no room does not say where
            error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file that somebody named on the command line. What is no file (a pipe, /dev/stdout) or a link is not
    replaced but written to."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        path.write_text(text, encoding="utf-8")
        return
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """The same for a folder. A folder that is already at `path` is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".partial-{uuid.uuid4().hex[:8]}-{path.name}")
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    finally:
        if temporary.exists():
            shutil.rmtree(temporary)


def remove_partial(folder: Path) -> None:
    """Remove what a killed process left half-written directly inside `folder`."""
    for leftover in folder.glob(".partial-*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)
