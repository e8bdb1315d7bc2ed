"""Studies as they come in: which objects were received, to which revision of their study they belong, when it is whole.

An object is known by its SOP Instance UID and the sha256 of what it says, so that what is sent twice is on record once.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from medseg.service.journal import rows
from medseg.service.journal.database import Database
from medseg.service.journal.job import Asked, Job
from medseg.service.journal.jobs import Jobs
from medseg.service.journal.objects import (
    AT_ONCE,
    Received,
    Version,
    digest,
    newest,
    objects_of,
    received_of,
    resent_of,
    versions_of,
    withdraw,
)
from medseg.service.journal.tables import arrivals, objects

Novelty = Literal["new", "duplicate", "corrected", "leaving"]
"""duplicate: it is here with the same bytes; corrected: another version of a known one, which takes its place; leaving:
its study is just being removed, so that it was not taken."""
Result = TypeVar("Result")
MEETINGS = 5
"""How often two processes may put the same on record at the same moment, before it is an error."""


@dataclass(frozen=True)
class Arrival:
    """A study that is still open.

    Attributes:
        expected: objects that complete it, and before which it is not complete; 0: nobody said.
        objects: objects of the study that are here, those of earlier revisions too unless they were removed.
        mark: changes whenever anything of the study comes in, also what is known.
    """

    id: int
    study_uid: str
    revision: int
    sender: str
    expected: int
    objects: int
    mark: tuple[int, int]


@dataclass(frozen=True)
class Counts:
    """What has come in, for the table at the end.

    Attributes:
        received: objects, as often as they came.
        duplicates: how many of these had the same bytes as one before.
        corrected: versions in whose place another one of their object is used.
        studies: how many have objects here.
        open: how many are not complete yet.
    """

    received: int
    duplicates: int
    corrected: int
    studies: int
    open: int


class Arrivals:
    """The arrivals of a journal."""

    def __init__(self, database: Database, jobs: Jobs):
        self.database, self._jobs = database, jobs

    # coming in

    def add(self, received: Sequence[Received]) -> list[Novelty]:
        """Put objects on record, all in one transaction, and say of each what it is.

        What is new, or corrected, goes into the open arrival of its study, or opens its next revision. What is here
        is counted and opens nothing; nor does what is no input of a model, but as the first of its study. What was
        removed and comes again is new.
        """
        return _again(lambda: self._add(received))

    def expect(self, study_uid: str, sop_uids: Iterable[str], sender: str) -> None:
        """Say which objects a study has beside those that are here: it is complete as soon as they are, and not before.

        A study that is closed is opened again if it lacks any of them.
        """
        _again(lambda: self._expect(study_uid, set(sop_uids), sender))

    def close(self, arrival: int, asked: Asked, *, who: str, lost: str = "", known: bool = False) -> Job | None:
        """End an arrival: its study becomes a job, in the same transaction.

        Args:
            asked: the job; its digest tells of which objects it is.
            lost: why not all of these can be given to a job, which then fails at once.
            known: nothing in it is new: there is no job, those before it say so, and former versions stay the newest.

        Returns:
            The job; None if there is none, if it is closed already, or if something has come in that the digest does
            not know.
        """
        with self.database.write() as connection:
            row = connection.execute(
                select(arrivals).where((arrivals.c.id == arrival) & (arrivals.c.state == "open")).with_for_update()
            ).one_or_none()
            if row is None or digest(objects_of(connection, row.study_uid)) != asked.digest:
                return None
            closed = {"state": "closed", "changed_at": time.time()}
            connection.execute(update(arrivals).where(arrivals.c.id == arrival).values(**closed))
            if known:
                withdraw(connection, row.study_uid, arrival)
                rows.came_again(connection, row.study_uid, who)
                return None
            job, _ = self._jobs.submit(asked, who=who, within=connection)
            if lost:
                self._jobs.fail(connection, job, who, "lost-input", lost)
            return job

    # looking

    def open(self, study_uid: str = "") -> list[Arrival]:
        """Studies that have objects and are not complete yet, or that one, if it is."""
        here = func.coalesce(func.sum(objects.c.times), 0)
        homes = arrivals.alias()
        count = func.count(objects.c.id).filter(objects.c.current & (homes.c.kept == "yes"))
        query = (
            select(arrivals, count.label("objects"), func.max(objects.c.id).label("last"), here.label("here"))
            .join(objects, objects.c.study_uid == arrivals.c.study_uid)
            .join(homes, homes.c.id == objects.c.arrival)
            .where(arrivals.c.state == "open")
            .group_by(arrivals.c.id)
            .order_by(arrivals.c.id)
        )
        if study_uid:
            query = query.where(arrivals.c.study_uid == study_uid)
        with self.database.read() as connection:
            return [
                Arrival(
                    id=row.id,
                    study_uid=row.study_uid,
                    revision=row.revision,
                    sender=row.sender,
                    expected=row.expected,
                    objects=int(row.objects),
                    mark=(int(row.last), int(row.here)),
                )
                for row in connection.execute(query)
            ]

    def current(self, study_uid: str) -> list[Received]:
        """The objects of a study, of each the newest version, by series and UID."""
        with self.database.read() as connection:
            return objects_of(connection, study_uid)

    def resent(self, arrival: Arrival) -> list[tuple[str, list[str]]]:
        """Of each input of a revision that was here before in other versions: its path, and theirs, the newest first;
        none at all, if anything in it is new."""
        if arrival.revision == 1:
            return []
        with self.database.read() as connection:
            return resent_of(connection, arrival.study_uid, arrival.id)

    def knows(self, sop_uid: str, sha256: str) -> bool:
        """Whether an object is on record with these bytes."""
        query = select(objects.c.id).where((objects.c.sop_uid == sop_uid) & (objects.c.sha256 == sha256))
        with self.database.read() as connection:
            return connection.execute(query).first() is not None

    def holds(self, sop_uids: Iterable[str]) -> dict[str, list[Received]]:
        """Of each SOP Instance UID that is here: its current objects."""
        wanted, found = list(dict.fromkeys(sop_uids)), dict[str, list[Received]]()
        with self.database.read() as connection:
            for start in range(0, len(wanted), AT_ONCE):
                some = objects.c.sop_uid.in_(wanted[start : start + AT_ONCE])
                for row in connection.execute(newest(objects, some)):
                    found.setdefault(row.sop_uid, []).append(received_of(row))
        return found

    def counts(self) -> Counts:
        times, versions = func.coalesce(func.sum(objects.c.times), 0), func.count(objects.c.id)
        replaced = func.count(objects.c.id).filter(~objects.c.current)
        studies = func.count(func.distinct(objects.c.study_uid))
        with self.database.read() as connection:
            received, known, corrected, study = connection.execute(select(times, versions, replaced, studies)).one()
            still = select(func.count()).select_from(arrivals).where(arrivals.c.state == "open")
            waiting = connection.execute(still).scalar_one()
        return Counts(int(received), int(received) - known, corrected, study, waiting)

    # inside of a transaction

    def _expect(self, study_uid: str, sop_uids: set[str], sender: str) -> None:
        with self.database.write() as connection:
            revision = _revisions(connection, [study_uid]).get(study_uid, 0)
            found = self._open_ones(connection, [study_uid]).get(study_uid)
            here = set(connection.execute(newest(objects.c.sop_uid, objects.c.study_uid == study_uid)).scalars())
            if found is None and not sop_uids <= here:
                found = _begin(connection, study_uid, revision + 1, sender)
            said = update(arrivals).where(arrivals.c.id == found)
            connection.execute(said.values(expected=len(here | sop_uids)))

    def _add(self, received: Sequence[Received]) -> list[Novelty]:
        found: dict[int, Novelty] = {}
        last: int | None = None
        order = sorted(range(len(received)), key=lambda n: (received[n].study_uid, received[n].sop_uid))
        with self.database.write() as connection:
            studies = {one.study_uid for one in received}
            revisions = _revisions(connection, studies)  # first, so that of two that open the next one, one fails
            opened = self._open_ones(connection, studies)
            known = versions_of(connection, received)
            going = _going(connection, studies)
            for number in order:  # always the same, so that two processes never wait for one another
                one = received[number]
                versions = known.setdefault(one.sop_uid, {})
                same = (objects.c.sop_uid == one.sop_uid) & (objects.c.sha256 == one.sha256)
                before = versions.get(one.sha256)
                if one.study_uid in going:
                    found[number] = "leaving"
                    continue
                if before and before.kept:
                    connection.execute(update(objects).where(same).values(times=objects.c.times + 1))
                    found[number] = "duplicate"
                    continue
                if one.study_uid not in opened:
                    last = None if one.input else _last(connection, one.study_uid)
                    if last is None:
                        revision = revisions.get(one.study_uid, 0) + 1
                        opened[one.study_uid] = _begin(connection, one.study_uid, revision, one.sender)
                others = any(version.study_uid == one.study_uid for version in versions.values())
                found[number] = "corrected" if others and not before else "new"
                if others:
                    former = (objects.c.sop_uid == one.sop_uid) & (objects.c.study_uid == one.study_uid)
                    connection.execute(update(objects).where(former & objects.c.current).values(current=False))
                values = {
                    **one.__dict__,
                    "arrival": opened.get(one.study_uid, last),
                    "current": True,
                    "received_at": time.time(),
                }
                if before:
                    again = update(objects).where(same).values(**values, times=objects.c.times + 1)
                    connection.execute(again)
                else:
                    connection.execute(insert(objects).values(**values, times=1))
                versions[one.sha256] = Version(one.study_uid, kept=True)
        return [found[number] for number in range(len(received))]

    def _open_ones(self, connection: Connection, studies: Iterable[str]) -> dict[str, int]:
        """The open arrivals of studies, which nobody can close before this transaction ends."""
        columns = (arrivals.c.study_uid, arrivals.c.id)
        among = arrivals.c.study_uid.in_(sorted(set(studies))) & (arrivals.c.state == "open")
        query = select(*columns).where(among).order_by(arrivals.c.study_uid).with_for_update()
        return {row.study_uid: row.id for row in connection.execute(query)}


def _last(connection: Connection, study_uid: str) -> int | None:
    """The newest arrival of a study of which something is here; None before the first."""
    ids = select(func.max(arrivals.c.id)).where((arrivals.c.study_uid == study_uid) & (arrivals.c.kept == "yes"))
    return connection.execute(ids).scalar_one()


def _going(connection: Connection, studies: Iterable[str]) -> set[str]:
    """Those of the studies that are just being removed."""
    among = arrivals.c.study_uid.in_(sorted(set(studies))) & (arrivals.c.kept == "going")
    return set(connection.execute(select(arrivals.c.study_uid).where(among)).scalars())


def _again(change: Callable[[], Result]) -> Result:
    """Make a change anew where another process was faster: now its row is seen."""
    for _ in range(MEETINGS - 1):
        with contextlib.suppress(IntegrityError):
            return change()
    return change()


def _revisions(connection: Connection, studies: Iterable[str]) -> dict[str, int]:
    """Of each study that has one: its latest revision."""
    latest = select(arrivals.c.study_uid, func.max(arrivals.c.revision)).group_by(arrivals.c.study_uid)
    among = latest.where(arrivals.c.study_uid.in_(sorted(set(studies))))
    return dict(connection.execute(among).tuples().all())


def _begin(connection: Connection, study_uid: str, revision: int, sender: str) -> int:
    values = {"study_uid": study_uid, "revision": revision, "state": "open", "sender": sender, "expected": 0}
    made = connection.execute(insert(arrivals).values(**values, changed_at=time.time())).inserted_primary_key
    assert made is not None  # an insert of one row has one
    return int(made[0])
