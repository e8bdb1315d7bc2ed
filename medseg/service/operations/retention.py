"""Removes what nobody needs any more: received studies whose jobs have ended, and results that every receiver has.

First it is put on record that something is going, then its files are removed, then that it is gone; whatever was
stopped between is ended by the next call. The journal's rows stay.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock

from medseg.service import logs
from medseg.service.intake.store import unchanged
from medseg.service.journal import Journal
from medseg.service.journal.keeping import DAY_S, Leaving
from medseg.service.settings.keep import Keep
from medseg.service.settings.site import Site

log = logging.getLogger(__name__)
GIB = 2**30
RESULTS, ARRIVALS = "results", "arrivals"
"""Folders in the data folder; nothing outside of it is ever removed."""


@dataclass(frozen=True)
class Judged:
    """What may leave, and whether it does now.

    Attributes:
        days: since it was first seen that nobody needs it.
        limit: how many it is kept.
        why: age; quota, where it goes before its time; empty: it stays.
        bytes: that it takes on the disk.
    """

    leaving: Leaving
    days: float
    limit: float
    why: str
    bytes: int


@dataclass(frozen=True)
class Tidied:
    """What was removed, or would be.

    Attributes:
        used: bytes of the data folder before; 0 where no quota asks for them.
        over: bytes above the quota that are left.
    """

    judged: tuple[Judged, ...]
    used: int = 0
    over: int = 0

    @property
    def going(self) -> tuple[Judged, ...]:
        return tuple(one for one in self.judged if one.why)


def plan(site: Site, journal: Journal, age: float) -> Tidied:
    """What would be removed now. Nothing is changed.

    Args:
        age: of the installation, in seconds, see `journal.keeping`.
    """
    data, keep = site.at(site.data), site.keep
    judged = [_judge(one, keep, age, data) for one in journal.keeping.leaving() if _within(one, data)]
    if not keep.quota_gib:
        return Tidied(tuple(judged))
    used = used_bytes(data)
    over = used - int(keep.quota_gib * GIB) - sum(one.bytes for one in judged if one.why)
    told = []
    for one in judged:  # the oldest first
        early = over > 0 and not one.why and one.leaving.well
        told.append(Judged(one.leaving, one.days, one.limit, "quota", one.bytes) if early else one)
        over -= one.bytes if early else 0
    return Tidied(tuple(told), used, max(over, 0))


def tidy(site: Site, journal: Journal, *, age: float, who: str = "housekeeper") -> Tidied:
    """Mark what may leave, remove what has been marked for long enough, and end what a former call began.

    Args:
        age: of the installation, in seconds, as `journal.keeping.grow` says.
    """
    data = site.at(site.data)
    with _alone(data):
        for one in journal.keeping.going():
            _remove(data, journal, one)
    journal.keeping.saw(journal.keeping.leaving(), age)
    planned = plan(site, journal, age)
    for judged in planned.going:
        with _alone(data):
            if not journal.keeping.let_go(judged.leaving, who):
                continue
            _remove(data, journal, judged.leaving)
        log.info("removed", extra={"facts": _facts(judged)})
    return planned


def used_bytes(folder: Path) -> int:
    """What the files in a folder take, each once, under however many names it is there."""
    seen, total = set(), 0
    for entry in _files(folder):
        with contextlib.suppress(FileNotFoundError):  # gone meanwhile
            facts = entry.stat(follow_symlinks=False)
            if facts.st_nlink == 1 or (facts.st_dev, facts.st_ino) not in seen:
                total += facts.st_size
            if facts.st_nlink > 1:
                seen.add((facts.st_dev, facts.st_ino))
    return total


def _judge(one: Leaving, keep: Keep, age: float, data: Path) -> Judged:
    days = 0.0 if one.since is None else max(age - one.since, 0.0) / DAY_S
    good = keep.studies_days if one.kind == "study" else keep.results_days
    limit = good if one.well else max(good, keep.failed_days)
    size = one.bytes if one.kind == "study" else used_bytes(data / one.folder)
    return Judged(one, days, limit, "age" if days >= limit else "", size)


def _within(one: Leaving, data: Path) -> bool:
    """Results that a person has asked for elsewhere are that person's; and what failed may have none."""
    return one.kind == "study" or (_inside(data / one.folder, data / RESULTS) and (data / one.folder).is_dir())


def _inside(path: Path, folder: Path) -> bool:
    real, above = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    return real != above and real.is_relative_to(above)


def _alone(data: Path) -> filelock.FileLock:
    """Within it nothing comes in, and no other housekeeper removes anything: what was going could have come again."""
    data.mkdir(parents=True, exist_ok=True)
    return unchanged(data)


def _remove(data: Path, journal: Journal, one: Leaving) -> None:
    if one.kind == "results":
        _remove_folder(data / one.folder, data / RESULTS)
    else:
        for number in one.arrivals:
            _remove_folder(data / ARRIVALS / str(number), data / ARRIVALS)
        folders = set()
        for name in journal.keeping.paths(one):
            if _inside(data / name, data):
                (data / name).unlink(missing_ok=True)
                folders.add((data / name).parent)
        for folder in folders - {data}:
            with contextlib.suppress(OSError):  # not empty: something has come in meanwhile
                folder.rmdir()
    journal.keeping.gone(one)


def _remove_folder(folder: Path, above: Path) -> None:
    if folder.is_dir() and _inside(folder, above):
        shutil.rmtree(folder)


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):  # gone meanwhile
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        else:
            yield entry


def _facts(judged: Judged) -> dict[str, object]:
    one = judged.leaving
    named = {"study": logs.pseudonym(one.name)} if one.kind == "study" else {"job": int(one.name)}
    return {"what": one.kind, **named, "bytes": judged.bytes, "days": round(judged.days, 1), "why": judged.why}
