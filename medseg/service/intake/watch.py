"""Watched folders: what other programs put there is taken once it does not change any more."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from medseg.atomic import DISK_FULL
from medseg.dicom.signature import is_dicom
from medseg.refusal import Refusal
from medseg.service import logs
from medseg.service.intake import head
from medseg.service.intake.room import Room
from medseg.service.intake.store import PART, Store
from medseg.service.journal import Journal
from medseg.service.settings.site import Site
from medseg.service.settings.watch import Watch

log = logging.getLogger(__name__)

EVERY_S = 1.0
"""Between two looks at a folder."""
Mark = tuple[int, int, int]
"""Inode, size and moment of change of a file."""


class Watching:
    """All watched folders of a site.

    Files are told to be DICOM by their signature; others, zips too, are left alone and never opened, which is said
    once. Links are not followed: they could lead anywhere.
    """

    def __init__(self, site: Site, store: Store, journal: Journal, *, clock: Callable[[], float] = time.monotonic):
        """
        Args:
            clock: seconds; never the time of day, which jumps.
        """
        self._site, self._store, self._arrivals, self._clock = site, store, journal.arrivals, clock
        self._room = Room(site) if site.watch else None
        self._seen: dict[Path, tuple[Mark, float]] = {}
        self._ended: dict[Path, Mark] = {}
        self._looked = -EVERY_S
        self._full = False

    def step(self) -> int:
        """Take what is ready; how many files that were."""
        now = self._clock()
        if not self._site.watch or now - self._looked < EVERY_S or self._no_room():
            return 0
        self._looked = now
        taken, there = 0, set[Path]()
        for watch in self._site.watch:
            for path, mark in _files(self._site.at(watch.folder)):
                there.add(path)
                if self._ended.get(path) == mark:
                    continue
                known, since = self._seen.get(path, (None, now))
                if known != mark:
                    self._seen[path] = (mark, now)
                elif now - since >= watch.quiet_s:
                    self._seen[path] = (mark, now)
                    try:
                        taken += self._take(path, mark, watch)
                    except Refusal as refusal:
                        log.info("a file cannot be taken yet", extra={"facts": {"why": refusal.found}})
                        continue
                    except OSError as error:  # tried again; others are not kept waiting
                        if error.errno in DISK_FULL:
                            raise
                        log.warning("a file cannot be taken; tried again", extra={"facts": {"why": error.strerror}})
                        continue
                    self._ended[path] = mark
                    del self._seen[path]
        self._seen = {path: value for path, value in self._seen.items() if path in there}
        self._ended = {path: value for path, value in self._ended.items() if path in there}
        return taken

    def _take(self, path: Path, mark: Mark, watch: Watch) -> bool:
        """
        Raises:
            Refusal: it can be taken later.
            OSError: and so perhaps this.
        """
        facts = {"folder": str(watch.folder), "file": logs.pseudonym(path.name)}
        part = self._store.incoming / f"{uuid.uuid4().hex}{PART}"
        try:
            if not is_dicom(path):
                log.info("left alone: no DICOM file", extra={"facts": facts})
                return False
            shutil.copyfile(path, part)
            found = head.read(part, path.name)
            if watch.remove or not self._arrivals.knows(found.sop_uid, head.sha256(part, found)):
                self._store.keep(part, f"folder {watch.folder}", name=path.name)
            if watch.remove and _mark(path) == mark:
                path.unlink()
            return True
        except Refusal as refusal:
            if refusal.code == "no-room":
                raise
            log.warning("left alone: refused", extra={"facts": {**facts, "why": refusal.code}})
        except (FileNotFoundError, PermissionError) as error:
            log.warning("left alone: it cannot be read", extra={"facts": {**facts, "why": error.strerror}})
        finally:
            part.unlink(missing_ok=True)
        return False

    def _no_room(self) -> bool:
        why = self._room.full() if self._room else ""
        if why and not self._full:
            log.warning("watched folders wait: no room", extra={"facts": {"why": why}})
        self._full = bool(why)
        return self._full


def _files(folder: Path) -> Iterator[tuple[Path, Mark]]:
    """Files below a folder, those whose names begin with a point left out: many programs write under such a name."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in sorted(names):
            path = Path(place, name)
            if not name.startswith(".") and (mark := _mark(path)):
                yield path, mark


def _mark(path: Path) -> Mark | None:
    """None for what is no file, or is gone."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None
