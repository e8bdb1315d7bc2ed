"""`medseg fetch`: studies from an archive into the store, each a job as soon as it is here."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from medseg import optional
from medseg.progress import counting
from medseg.refusal import Refusal
from medseg.service import logs
from medseg.service.intake import dicomweb
from medseg.service.intake.asking import Found
from medseg.service.intake.closing import Closing
from medseg.service.intake.room import Room
from medseg.service.intake.store import Store
from medseg.service.journal import Journal
from medseg.service.journal.job import Job
from medseg.service.settings.site import Site
from medseg.service.settings.sources import WebSource

log = logging.getLogger(__name__)


class Archive(Protocol):
    """What answers for a source: `query.Archive` or `dicomweb.WebArchive`."""

    def find(self, keys: Mapping[str, str]) -> list[Found]: ...

    def fetch(self, study_uid: str, store: Store, journal: Journal) -> int: ...


@dataclass(frozen=True)
class Fetched:
    """What became of a study; `problem` is empty if all of it is here.

    Attributes:
        job: that it became; 0: none, as all of it was here before.
        partly: what is lacking, if it became one in part.
    """

    study: Found
    objects: int
    problem: str = ""
    job: int = 0
    partly: str = ""


def fetch(
    site: Site, name: str, keys: Mapping[str, str], studies: Sequence[Found], who: str, *, partly: bool = False
) -> list[Fetched]:
    """Bring studies here; one that cannot be had does not keep the others away. Each is closed as soon as it is whole:
    nobody waits for more.

    Args:
        partly: close those also of which the archive does not give all.

    Raises:
        Refusal: see `archive`; there is no room.
    """
    ended: list[Fetched] = []
    with ExitStack() as stack:
        journal = Journal(site.journal_at)
        stack.callback(journal.close)
        store = Store(site, journal)
        stack.callback(store.close)
        source, room, closing = archive(site, name), Room(site), Closing(site, journal)
        asked = ", ".join(sorted(keys))  # what they are asked to be is what a patient is known by
        done = stack.enter_context(counting("studies fetched", total=len(studies)))
        for study in studies:
            if why := room.full():
                raise Refusal(site.at(site.data), found=why, needed="room", remedy="make room, then fetch again")
            ended.append(_one(source, study, store, journal, closing, partly))
            done()
        whole = sum(not (one.problem or one.partly) for one in ended)
        journal.audit.add(who, "fetch", f"{len(studies)} studies of {name} by {asked}", f"{whole} came whole")
    return ended


def _one(source: Archive, study: Found, store: Store, journal: Journal, closing: Closing, partly: bool) -> Fetched:
    facts = {"study": logs.pseudonym(study.study_uid)}
    before, lacking = _jobs(journal, study.study_uid), ""
    try:
        objects = source.fetch(study.study_uid, store, journal)
    except Refusal as refusal:
        log.warning("study not fetched", extra={"facts": {**facts, "why": refusal.code}})
        opened = journal.arrivals.open(study.study_uid)
        if not partly or refusal.code != "incomplete" or not opened:
            return Fetched(study, 0, problem=str(refusal))
        lacking, objects = refusal.found, opened[0].objects
    for arrival in journal.arrivals.open(study.study_uid):
        closing.close(arrival)
    log.info("study fetched", extra={"facts": {**facts, "objects": objects}})
    made = [job for job in _jobs(journal, study.study_uid) if job.id > max((one.id for one in before), default=0)]
    first = made[-1] if made else None
    lost = f"job {first.id} failed: {first.reason}" if first and first.reason_code == "lost-input" else ""
    return Fetched(study, objects, lost, first.id if first else 0, lacking)


def _jobs(journal: Journal, study_uid: str) -> list[Job]:
    """Of a study, the newest first."""
    return [job for job in journal.jobs.find(text=study_uid) if job.identity.study_uid == study_uid]


def archive(site: Site, name: str) -> Archive:
    """What answers for a source of the site.

    Raises:
        Refusal: no such source, or what speaks with it is not installed.
    """
    source = site.sources.get(name)
    if source is None:
        raise Refusal(
            f"source {name}",
            found="no such source",
            needed=f"one of the site's: {', '.join(site.sources) or 'there are none'}",
            remedy="add it under sources in site.yaml",
        )
    if isinstance(source, WebSource):
        return dicomweb.of_source(site, name, source)
    optional.need("pynetdicom", extra="service", purpose="ask an archive for studies")
    from medseg.service.intake.query import Archive

    return Archive(site, name, source)
