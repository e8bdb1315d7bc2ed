"""Where every object goes that comes in, whichever way: on the disk and in the journal before anybody is answered.

Many threads hand objects in; one of them puts all that wait on record in one transaction. A file is linked to its place
before its row is written and leaves the folder of what is coming in afterwards, so that whatever a power cut leaves in
that folder is either half a file, or whole and taken in by the next start.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import filelock

from medseg.refusal import Refusal
from medseg.service import logs
from medseg.service.intake import head
from medseg.service.journal import Journal
from medseg.service.journal.arrivals import Novelty
from medseg.service.journal.objects import Received
from medseg.service.settings.folders import private
from medseg.service.settings.site import Site

log = logging.getLogger(__name__)

OBJECTS, INCOMING = "objects", "incoming"
"""Folders in the data folder."""
SHOWN = 24
"""Characters of a hash that name a study's folder."""
WHOLE = ".dcm"
"""Suffix, behind its sha256, of a file that has arrived whole."""
PART = ".part"
"""Suffix of a file that is still coming in."""
MIB = 2**20
LOCKED_S, POLL_S = 300.0, 0.005
"""Longest wait for another process that adds or removes objects, which takes it seconds; how often it is asked."""


@dataclass(frozen=True)
class Kept:
    """An object that is here, and stays."""

    state: Novelty
    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class: str


class Store:
    """The received objects of a site. Safe to use from several threads, and beside other processes with one of it.

    Attributes:
        incoming: a folder of this process alone, on the disk of the data folder, for what is still coming in.
        largest: bytes of an object.

    Example:
        >>> store = Store(site, journal)                                    # doctest: +SKIP
        >>> store.keep(store.incoming / "upload-1", "anna").state           # doctest: +SKIP
        'new'
    """

    def __init__(self, site: Site, journal: Journal):
        """Make the folders, and take in what a process that was killed has left behind."""
        self._data, self._arrivals = site.at(site.data), journal.arrivals
        self.largest = int(site.listen.largest_mib * MIB)
        self._waiting: list[tuple[Received, Path, Future[Novelty]]] = []
        self._queue, self._committing = threading.Lock(), threading.Lock()
        around = self._data / INCOMING
        (private(self._data) / OBJECTS).mkdir(exist_ok=True)
        around.mkdir(exist_ok=True)
        name = uuid.uuid4().hex
        self._alive = filelock.FileLock(around / f"{name}.lock", thread_local=False)
        self._alive.acquire()
        self.incoming = around / name
        self.incoming.mkdir()
        self._take_over(around)

    def keep(self, path: Path, sender: str, *, sop_uid: str = "", name: str = "") -> Kept:
        """Take a file in, which is gone from `path` afterwards, and return when it is safe: synced, and in the journal.

        Args:
            path: a whole DICOM file, in `incoming`.
            sender: AE title, folder, or name of who hands it in.
            sop_uid: what the sender called it, which it must be then.
            name: what messages call the file.

        Raises:
            Refusal: no DICOM object (code no-dicom), bad UIDs (bad-uid), another object than was said (mismatch), or
                too large (too-large); the file is where it was. Or, and then it is gone, its study is being removed
                at this moment (no-room), and it is to be sent again.
        """
        size = path.stat().st_size
        if size > self.largest:
            raise too_large(name or path.name, size, self.largest)
        found = head.read(path, name)
        if sop_uid and found.sop_uid != sop_uid:
            raise Refusal(
                name or path.name,
                found="another SOP Instance UID in the object than in what announced it",
                needed="the same",
                remedy=head.REMEDY,
                code="mismatch",
            )
        sha256 = head.sha256(path, found)
        with path.open("rb+") as handle:
            os.fsync(handle.fileno())
        whole = path.replace(self.incoming / f"{uuid.uuid4().hex}-{sha256}{WHOLE}")
        uids = (found.study_uid, found.series_uid, found.sop_uid, found.sop_class)
        place = f"{OBJECTS}/{hashlib.sha256(found.study_uid.encode()).hexdigest()[:SHOWN]}/{sha256}{WHOLE}"
        received = Received(*uids, sha256=sha256, bytes=size, path=place, sender=sender, input=found.input)
        state = self._record(received, whole)
        told = {"study": logs.pseudonym(found.study_uid), "object": logs.pseudonym(found.sop_uid)}
        log.debug("object kept", extra={"facts": {**told, "sender": sender, "novelty": state, "bytes": size}})
        return Kept(state, *uids)

    def close(self) -> None:
        """Let go of what is still coming in; nobody hands anything in any more."""
        shutil.rmtree(self.incoming, ignore_errors=True)
        self._alive.release()
        Path(self._alive.lock_file).unlink(missing_ok=True)

    def _record(self, received: Received, whole: Path) -> Novelty:
        """Wait for the transaction before, and commit all that waits by then, unless somebody else did."""
        done = Future[Novelty]()
        with self._queue:
            self._waiting.append((received, whole, done))
        with self._committing:
            if not done.done():
                with self._queue:
                    batch, self._waiting = self._waiting, []
                self._commit(batch)
        return done.result()

    def _commit(self, batch: Sequence[tuple[Received, Path, Future[Novelty]]]) -> None:
        try:
            with unchanged(self._data):
                self._place([(whole, self._data / received.path) for received, whole, _ in batch])
                states = self._arrivals.add([received for received, _, _ in batch])
                for (received, _, _), state in zip(batch, states, strict=True):
                    if state == "leaving":
                        (self._data / received.path).unlink(missing_ok=True)
        except BaseException as error:
            for _, whole, done in batch:
                whole.unlink(missing_ok=True)
                done.set_exception(error)
            return
        for (_, whole, done), state in zip(batch, states, strict=True):
            whole.unlink(missing_ok=True)
            if state == "leaving":
                done.set_exception(_leaving())
            else:
                done.set_result(state)

    def _place(self, files: Sequence[tuple[Path, Path]]) -> None:
        """Link files to where they stay, durably."""
        changed: set[Path] = set()
        for whole, place in files:
            if not place.parent.is_dir():
                place.parent.mkdir(exist_ok=True)
                changed.add(place.parent.parent)
            with contextlib.suppress(FileExistsError):  # the same bytes: the name says so
                os.link(whole, place)
            changed.add(place.parent)
        for folder in changed:
            sync(folder)

    def _take_over(self, around: Path) -> None:
        """Look into the folders of processes that are gone: what is whole is kept, as it may have been answered for."""
        for folder in sorted(path for path in around.iterdir() if path.is_dir() and path != self.incoming):
            lock = filelock.FileLock(around / f"{folder.name}.lock", blocking=False)
            with contextlib.suppress(filelock.Timeout, FileNotFoundError), lock:  # it lives, or was just cleared away
                left = list(folder.iterdir())
                whole = [path for path in left if path.suffix == WHOLE and "-" in path.name]
                for path in whole:
                    self._adopt(path)
                if left:
                    told = {"whole": len(whole), "parts": len(left) - len(whole), "process": folder.name[:8]}
                    log.warning("a process ended while objects came in", extra={"facts": told})
                shutil.rmtree(folder)
                Path(lock.lock_file).unlink(missing_ok=True)

    def _adopt(self, path: Path) -> None:
        sha256 = path.stem.rpartition("-")[2]
        with contextlib.suppress(Refusal):  # damaged by what has ended the process: nobody was told that it is here
            if not self._arrivals.knows(head.read(path).sop_uid, sha256):
                self.keep(path, "taken over")


def too_large(name: str, size: int, largest: int) -> Refusal:
    return Refusal(
        name,
        found=f"an object of {size / MIB:.5g} MiB or more",
        needed=f"at most {largest / MIB:g}",
        remedy="if it is no mistake, raise listen.largest_mib",
        code="too-large",
    )


def _leaving() -> Refusal:
    return Refusal(
        "the object",
        found="that its study is just being removed",
        needed="that this has ended",
        remedy="send it again in some minutes",
        code="no-room",
    )


def unchanged(data: Path) -> filelock.FileLock:
    """Within it, nobody else adds received objects to a data folder, or removes any."""
    return filelock.FileLock(data / f"{OBJECTS}.lock", timeout=LOCKED_S, poll_interval=POLL_S)


def sync(folder: Path) -> None:
    """Make names in a folder outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
