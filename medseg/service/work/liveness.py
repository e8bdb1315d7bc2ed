"""Which processes are alive, told without a clock: on this machine by a lock that dies with its process, of others by
whether their beats go on."""

from __future__ import annotations

import contextlib
import os
import socket
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from medseg.service.settings.folders import private

LEASE_S = 60.0
"""A process of another machine whose beats did not go on for so long is gone."""
SUFFIX = ".lock"


def here() -> str:
    """What this machine is called among those that share a journal."""
    return socket.gethostname()


def name(role: str) -> str:
    """A name for a process that was never given before and says where it runs."""
    return f"{role}@{here()}#{uuid.uuid4().hex[:12]}"


def folder(data: Path) -> Path:
    """Of the locks, in a site's data folder."""
    return data / "work"


@contextlib.contextmanager
def alive(locks: Path, owner: str) -> Iterator[None]:
    """Within it, whoever looks sees that the process lives; the lock goes with the process, however it ends."""
    private(locks.parent)
    locks.mkdir(exist_ok=True)
    path = locks / f"{owner}{SUFFIX}"
    with FileLock(path, timeout=0):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows removes no open file; who sweeps finds it free
                path.unlink()


@contextlib.contextmanager
def supervising(data: Path) -> Iterator[str]:
    """Within it, this process is alive under the name that is given."""
    owner = name("supervisor")
    with alive(folder(data), owner):
        yield owner


class Watch:
    """Looks at the owners of jobs from time to time, and remembers what it saw."""

    def __init__(self, locks: Path, *, lease_s: float = LEASE_S, now: Callable[[], float] = time.monotonic):
        self._locks, self._lease_s, self._now = locks, lease_s, now
        self._seen: dict[str, tuple[dict[int, int], float]] = {}
        """Of each owner: its beats, and since when they are the same, by our own monotonic clock."""

    def gone(self, owned: Mapping[str, dict[int, int]]) -> list[str]:
        """Owners that are gone.

        Args:
            owned: of each owner job -> beat, see `Jobs.owned`.
        """
        self._seen = {owner: seen for owner, seen in self._seen.items() if owner in owned}
        return [owner for owner, beats in owned.items() if self._is_gone(owner, beats)]

    def _is_gone(self, owner: str, beats: dict[int, int]) -> bool:
        lock = self._locks / f"{owner}{SUFFIX}"
        if f"@{here()}#" in owner and lock.is_file():  # locks of other machines may look free from here
            return _free(lock)
        now = self._now()
        known, since = self._seen.get(owner, ({}, now))
        if known != beats:
            self._seen[owner] = beats, now
            return False
        return now - since > self._lease_s

    def sweep(self, owners: Collection[str]) -> None:
        """Remove locks of processes of this machine that are gone and have no jobs any more."""
        for lock in self._locks.glob(f"*@{here()}#*{SUFFIX}"):
            if lock.name.removesuffix(SUFFIX) not in owners and _free(lock):
                lock.unlink(missing_ok=True)


def _free(lock: Path) -> bool:
    """Whether nobody holds a lock. It is not made anew if it has just been removed."""
    try:
        with FileLock(os.fspath(lock), timeout=0):
            return True
    except Timeout:
        return False
