"""Folders that hold voxels of a patient for a while. They go away with this program, however it ends.

On Linux and macOS a small shell watches over them, and removes them when this program is gone. Where it cannot (it was
killed as well, the machine was switched off, or this is Windows), the next start does: each folder holds a file that is
locked while its owner lives, on every system. What wrote on while its folder was removed may have made it anew, without
that file: such a one goes once nothing in it has changed for a day.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import stat
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import IO

NAME, LOCK = ".medseg-", "in-use"
WITHOUT = b"without a lock"
"""In the file of a folder whose file system has none: no sweep can tell whether it is in use, and each leaves it."""
MADE = re.compile(re.escape(NAME) + r"[a-z0-9_]{8}")
"""Names that `tempfile` makes of it: all that is ever removed without a lock that says whose it is."""
OLD_S = 86400.0
KEEPER = r"""
while IFS= read -r folder; do
    set -- "$@" "$folder"
done
turn=0
while [ $turn -lt 30 ]; do
    for folder in "$@"; do
        [ -d "$folder" ] && rm -rf -- "$folder"
    done
    sleep 0.1
    turn=$((turn + 1))
done
"""
"""Reads folders from a pipe that this program holds. Once the pipe ends, it removes them for three seconds: so long may
what wrote into them need to end. Those that were removed before do no harm."""
_held: dict[Path, int] = {}
_lock = threading.Lock()
_keeper: subprocess.Popen[bytes] | None = None
_looked: set[Path] = set()


def make(within: Path | None = None) -> Path:
    """A new folder that only this user may read. What programs that are gone have left beside it is removed.

    Args:
        within: is made if it is not there; None: where the system has its temporary files.

    Raises:
        OSError: it cannot be made.
    """
    place = Path(tempfile.gettempdir()) if within is None else within
    place.mkdir(parents=True, exist_ok=True)
    tidy(place)
    folder = Path(tempfile.mkdtemp(prefix=NAME, dir=place))
    try:
        _hold(folder)
    except OSError:
        remove(folder)
        raise
    _keep(folder)
    return folder


def remove(folder: Path) -> None:
    """Remove it; no harm if it is not there."""
    with _lock:
        held = _held.pop(folder, None)
    if held is not None:
        os.close(held)
    _clear(folder)


def tidy(place: Path | None = None) -> None:
    """`sweep` a place in a thread, once for as long as this program lives; None: where the system has its temporary
    files."""
    place = Path(tempfile.gettempdir()) if place is None else place
    with _lock:
        first = place not in _looked
        _looked.add(place)
    if first:
        threading.Thread(target=sweep, args=(place,), name="medseg-tidy", daemon=True).start()


def sweep(place: Path) -> None:
    """Remove what programs of this machine and this user have left in a place, and are not there any more."""
    for folder in place.glob(f"{NAME}*"):
        with contextlib.suppress(OSError, ValueError):
            if _left(folder):
                _clear(folder)


def _clear(folder: Path) -> None:
    """Remove it. What cannot be removed yet, as somebody writes into it or holds it open, is left for a later sweep."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        if stat.S_ISDIR(folder.lstat().st_mode):
            how = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)
            left = os.open(folder / LOCK, how, 0o600)
            try:
                os.write(left, _machine())
            finally:
                os.close(left)


def _hold(folder: Path) -> None:
    """Lock its file for as long as this program lives, or the folder does."""
    held = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    with _lock:
        _held[folder] = held
    os.write(held, _machine() if _locked(held) else WITHOUT)


def _left(folder: Path) -> bool:
    if hasattr(os, "getuid") and folder.lstat().st_uid != os.getuid():
        return False
    file = folder / LOCK
    if not file.exists() or not file.stat().st_size:  # just made: its owner is about to lock it, and must find it free
        return MADE.fullmatch(folder.name) is not None and time.time() - _changed(folder) > OLD_S
    held = os.open(file, os.O_RDWR)
    try:
        return _locked(held) and os.read(held, 1000) == _machine()
    finally:
        os.close(held)


def _changed(folder: Path) -> float:
    """When something in it, or the folder itself, was changed last."""
    inside = (Path(place, name) for place, folders, files in os.walk(folder) for name in folders + files)
    return max(path.lstat().st_mtime for path in (folder, *inside))


def _locked(held: int) -> bool:
    """Whether the lock could be had. Where a file system has none, no folder is ever taken for one that was left."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(held, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _machine() -> bytes:
    """Locks may not hold between machines that share a drive: each looks after its own folders only."""
    return f"medseg {platform.node()}".encode("utf-8", "replace")


def _keep(folder: Path) -> None:
    """Have the keeper watch over it. Without one, the next start removes what is left."""
    line = os.fsencode(folder.absolute())
    if os.name == "nt" or b"\n" in line:
        return
    with _lock, contextlib.suppress(OSError):
        _pipe().write(line + b"\n")
        _pipe().flush()


def _pipe() -> IO[bytes]:
    global _keeper
    if _keeper is None or _keeper.poll() is not None:
        _keeper = subprocess.Popen(
            ["/bin/sh", "-c", KEEPER, "medseg-keeper"],
            env={"PATH": os.environ.get("PATH", os.defpath)},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    assert _keeper.stdin
    return _keeper.stdin
