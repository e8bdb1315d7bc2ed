"""When a study is whole: as many objects are here as somebody said there would be, or, where nobody said, nothing has
come for a while."""

from __future__ import annotations

import contextlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import filelock

from medseg.refusal import Refusal
from medseg.service import logs
from medseg.service.intake import head
from medseg.service.intake.store import sync
from medseg.service.journal import Journal
from medseg.service.journal.arrivals import Arrival
from medseg.service.journal.job import Asked, Identity, Job
from medseg.service.journal.objects import Received, digest
from medseg.service.reading import Reading
from medseg.service.settings.site import Site

log = logging.getLogger(__name__)

ARRIVALS = "arrivals"
"""Folder in the data folder: of each revision of a study, in folders of series, its objects as hard links."""

LOCKED_S = 300.0
"""Longest wait for another process that closes a study; it takes a second."""
COMPARED_S = 120.0
"""Longest time to compare a study with itself in another transfer syntax, while all others wait; some 5000 slices."""


class Closing:
    """Makes jobs of studies that are whole. What it knows of quiet is its own: after a start, each wait begins anew."""

    def __init__(
        self,
        site: Site,
        journal: Journal,
        *,
        busy: Callable[[], Collection[str]] = tuple,
        clock: Callable[[], float] = time.monotonic,
    ):
        """
        Args:
            busy: studies of which something is coming in at this moment, which are not quiet.
            clock: seconds; never the time of day, which jumps.
        """
        self._site, self._journal, self._busy, self._clock = site, journal, busy, clock
        self._last: dict[int, tuple[tuple[int, int], float]] = {}

    def step(self) -> int:
        """Close what is whole by now; how many studies that were.

        Raises:
            OSError: the files of a study cannot be laid out; all others were closed.
        """
        waiting, busy, closed = self._journal.arrivals.open(), self._busy(), 0
        failed: OSError | None = None
        self._last = {one.id: self._last[one.id] for one in waiting if one.id in self._last}
        for one in waiting:
            now = self._clock()
            mark, since = self._last.get(one.id, (None, now))
            if mark != one.mark or one.study_uid in busy:
                self._last[one.id] = (one.mark, since := now)
            quiet = now - since >= self._site.listen.quiet_s
            if one.expected <= one.objects if one.expected else quiet:
                try:
                    closed += self.close(one) is not None
                except OSError as error:
                    failed = error
        if failed:
            raise failed
        return closed

    def close(self, arrival: Arrival) -> Job | None:
        """Lay the files of a study out, and submit it; None if something came in meanwhile, which is waited for, or if
        all of it was here before in another transfer syntax."""
        around = self._site.at(self._site.data) / ARRIVALS
        around.mkdir(parents=True, exist_ok=True)
        objects = self._journal.arrivals.current(arrival.study_uid)
        known = self._known(arrival)
        with filelock.FileLock(around / ".lock", timeout=LOCKED_S):
            return self._close(arrival, objects, known)

    def _known(self, arrival: Arrival) -> bool:
        """Whether a revision says in other bytes what one before it said, as copies of two devices do."""
        data = self._site.at(self._site.data)
        versions = [
            (data / later, [data / one for one in former]) for later, former in self._journal.arrivals.resent(arrival)
        ]
        if not versions:
            return False
        facts = {"study": logs.pseudonym(arrival.study_uid), "revision": arrival.revision, "objects": len(versions)}
        try:
            with contextlib.closing(Reading(COMPARED_S)) as reading:
                known = reading.alike(data, versions)
        except Refusal as refusal:
            log.warning("versions of a study could not be compared", extra={"facts": facts | {"why": refusal.code}})
            return False
        if known:
            log.info("a study that came again, written in another way, is known", extra={"facts": facts})
        return known

    def _close(self, arrival: Arrival, objects: Sequence[Received], known: bool) -> Job | None:
        folder = self._site.at(self._site.data) / ARRIVALS / str(arrival.id)
        lost = 0 if known else lay(self._site.at(self._site.data), objects, folder)
        asked = Asked(
            source={"all": str(folder)},
            digest=digest(objects),
            case=f"study-{logs.pseudonym(arrival.study_uid)}",
            identity=_identity(folder, arrival.study_uid),
            arrival=arrival.id,
        )
        why = f"{lost} of {len(objects)} objects of earlier revisions are not kept any more" if lost else ""
        job = self._journal.arrivals.close(arrival.id, asked, who="closing", lost=why, known=known)
        if job:
            counts = {"objects": len(objects), "expected": arrival.expected, "lost": lost, "job": job.id}
            facts = {"study": logs.pseudonym(arrival.study_uid), "revision": arrival.revision, **counts}
            log.info("study complete", extra={"facts": facts})
        return job


def lay(data: Path, objects: Sequence[Received], folder: Path) -> int:
    """Make a folder hold links to exactly these objects, whatever a former attempt has left in it.

    Returns:
        How many objects that a model may be given are not there any more.
    """
    wanted = {folder / one.series_uid / f"{one.sop_uid}.dcm": one for one in objects}
    for path in [path for path in folder.rglob("*") if not path.is_dir() and path not in wanted]:
        path.unlink(missing_ok=True)
    lost = 0
    for place, one in wanted.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            _link(data / one.path, place)
        except FileNotFoundError:
            lost += one.input
    for inside in {place.parent for place in wanted} | {folder, folder.parent}:
        if inside.is_dir():
            sync(inside)
    return lost


def _link(source: Path, place: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if place.samefile(source):
            return
    beside = place.with_name(f".{uuid.uuid4().hex}")
    os.link(source, beside)
    beside.replace(place)


def _identity(folder: Path, study_uid: str) -> Identity:
    """By its first object that is there, and is as it was when it came: the clerk says of those that are not."""
    for path in sorted(folder.rglob("*.dcm")):
        with contextlib.suppress(Refusal):
            return head.read(path).identity
    return Identity(study_uid=study_uid)
