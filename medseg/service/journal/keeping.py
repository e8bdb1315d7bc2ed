"""What the journal knows of what may be removed: received studies and results that nobody needs any more, and since
when; and how old the installation is.

Ages are not read from a clock, which may be years off for an hour and then empty a disk. They are counted: an
installation has an age, which grows while something of it runs, and what may leave is marked with the age at which
that was first seen.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import PurePath
from typing import Any, Literal

from sqlalchemy import Connection, delete, func, insert, select, update

from medseg.service.journal.database import Database
from medseg.service.journal.states import ENDS, State
from medseg.service.journal.tables import age, arrivals, deliveries, events, jobs, leaving, objects

Kind = Literal["study", "results"]
WELL: frozenset[State] = frozenset({"done", "cancelled", "superseded"})
"""Ends after which nobody needs to look into what happened: it was delivered, or somebody did not want it."""
DAY_S = 86400.0
UNSEEN_S = DAY_S
"""Most that the age grows by the clock alone, over the time in which nothing of the installation ran."""
ELAPSED_SLACK_S = 1.0


@dataclass(frozen=True)
class Leaving:
    """What may be removed, once it is old enough.

    Attributes:
        kind: study: the received objects of all its revisions; results: the files of one job.
        name: Study Instance UID, or number of the job.
        well: whether all that hangs on it ended well.
        signature: another one as soon as anything of it changes.
        jobs: whose input or results it is.
        arrivals: revisions of the study.
        folder: of the results, as the job has it.
        bytes: of the received objects; of results, which the journal does not know, 0.
        since: age at which it was first seen so, in seconds; None: it was not yet.
    """

    kind: Kind
    name: str
    well: bool
    signature: str
    jobs: tuple[int, ...]
    arrivals: tuple[int, ...] = ()
    folder: str = ""
    bytes: int = 0
    since: float | None = None


class Keeping:
    """Of a journal: its age, what may leave, and what is leaving."""

    def __init__(self, database: Database):
        self.database = database

    # age

    def grow(self, elapsed_s: float | None) -> float:
        """Let the installation's age grow by the time since somebody let it grow, and say how old it is, in seconds.

        Args:
            elapsed_s: since this process did so, by a clock that never jumps, which is the most that it grows; None:
                it is the first time, and the age grows by what the clock says, but not by more than a day.
        """
        now, most = time.time(), UNSEEN_S if elapsed_s is None else elapsed_s + ELAPSED_SLACK_S
        with self.database.write() as connection:
            found = connection.execute(select(age).with_for_update()).one()
            seconds = found.seconds + min(max(now - found.at, 0.0), most)
            connection.execute(update(age).values(seconds=seconds, at=now))
            return float(seconds)

    @property
    def age(self) -> float:
        """In seconds, as it was last told."""
        with self.database.read() as connection:
            return float(connection.execute(select(age.c.seconds)).scalar_one())

    def newest(self) -> float:
        """Moment of the latest change that is on record; 0: there is none."""
        with self.database.read() as connection:
            return float(connection.execute(select(func.max(events.c.at))).scalar_one() or 0.0)

    # what may leave

    def leaving(self) -> list[Leaving]:
        """Everything that nobody needs, the one seen first at the beginning. Nothing is written."""
        with self.database.read() as connection:
            found = [*_studies(connection), *_results(connection)]
            seen = {(row.kind, row.name): row for row in connection.execute(select(leaving))}
        told = []
        for one in found:
            row = seen.get((one.kind, one.name))
            since = row.since if row is not None and row.signature == one.signature else None
            told.append(replace(one, since=since))
        return sorted(told, key=lambda one: (one.since is None, one.since, one.kind, one.jobs))

    def saw(self, found: Iterable[Leaving], at_age: float) -> None:
        """Mark what was not seen before, or has changed since."""
        fresh = [one for one in found if one.since is None]
        if not fresh:
            return
        with self.database.write() as connection:
            connection.execute(select(age).with_for_update())  # one process after another
            for one in fresh:
                connection.execute(delete(leaving).where((leaving.c.kind == one.kind) & (leaving.c.name == one.name)))
                values = {"kind": one.kind, "name": one.name, "signature": one.signature, "since": at_age}
                connection.execute(insert(leaving).values(**values))

    # what is leaving

    def let_go(self, one: Leaving, who: str) -> bool:
        """Put on record that it is being removed, if it still may be; from then on nothing relies on it."""
        with self.database.write() as connection:
            again = _studies(connection, one.name) if one.kind == "study" else _results(connection, int(one.name))
            if [found.signature for found in again] != [one.signature]:
                return False
            _mark(connection, one, "going")
            state = dict(
                connection.execute(select(jobs.c.id, jobs.c.state).where(jobs.c.id.in_(one.jobs))).tuples().all()
            )
            what = "its received objects are removed" if one.kind == "study" else "its results are removed"
            for job in one.jobs:
                connection.execute(insert(events).values(job=job, at=time.time(), state=state[job], who=who, what=what))
            return True

    def going(self) -> list[Leaving]:
        """What was let go, and is not known to be gone: a process was stopped while it removed it."""
        with self.database.read() as connection:
            studies: dict[str, list[int]] = {}
            for row in connection.execute(select(arrivals).where(arrivals.c.kept == "going").order_by(arrivals.c.id)):
                studies.setdefault(row.study_uid, []).append(row.id)
            results = connection.execute(select(jobs).where(jobs.c.kept == "going").order_by(jobs.c.id)).all()
        return [
            *(Leaving("study", uid, True, "", (), tuple(ids)) for uid, ids in studies.items()),
            *(Leaving("results", str(row.id), True, "", (row.id,), folder=row.out) for row in results),
        ]

    def paths(self, one: Leaving) -> list[str]:
        """The files of a study's objects, as they are on record."""
        query = select(objects.c.path).where(objects.c.arrival.in_(one.arrivals))
        with self.database.read() as connection:
            return list(connection.execute(query).scalars())

    def gone(self, one: Leaving) -> None:
        """Put on record that it is removed."""
        with self.database.write() as connection:
            _mark(connection, one, "no")
            connection.execute(delete(leaving).where((leaving.c.kind == one.kind) & (leaving.c.name == one.name)))


def _mark(connection: Connection, one: Leaving, kept: str) -> None:
    if one.kind == "study":
        connection.execute(update(arrivals).where(arrivals.c.id.in_(one.arrivals)).values(kept=kept))
    else:
        connection.execute(update(jobs).where(jobs.c.id == int(one.name)).values(kept=kept))


def _studies(connection: Connection, study_uid: str = "") -> list[Leaving]:
    """Studies of which no revision is open and every job has ended (or is held), and whose files no job reads that has
    not. Of one study: locked against changes."""
    revisions = select(arrivals.c.id, arrivals.c.study_uid, arrivals.c.state).where(arrivals.c.kept == "yes")
    of_them = select(jobs.c.id, jobs.c.arrival, jobs.c.state, jobs.c.changed_at).where(jobs.c.arrival.is_not(None))
    if study_uid:
        revisions = revisions.where(arrivals.c.study_uid == study_uid).with_for_update()
        among = select(arrivals.c.id).where(arrivals.c.study_uid == study_uid)
        of_them = of_them.where(jobs.c.arrival.in_(among)).with_for_update()
    grouped: dict[str, list[Any]] = {}
    for row in connection.execute(revisions.order_by(arrivals.c.id)):
        grouped.setdefault(row.study_uid, []).append(row)
    made: dict[int, list[Any]] = {}
    for job in connection.execute(of_them.order_by(jobs.c.id)):
        made.setdefault(job.arrival, []).append(job)
    read = {pair for path in _sources(connection) for pair in pairwise(path.parts)}
    size = select(objects.c.arrival, func.sum(objects.c.bytes)).group_by(objects.c.arrival)
    if study_uid:
        size = size.where(objects.c.study_uid == study_uid)
    sizes = {row[0]: int(row[1]) for row in connection.execute(size)}
    found = []
    for uid, rows in grouped.items():
        ids = tuple(row.id for row in rows)
        belong = [job for number in ids for job in made.get(number, ())]
        whole = all(row.state == "closed" for row in rows)
        ended = all(job.state in ENDS or job.state == "held" for job in belong)
        if whole and ended and not any(("arrivals", str(number)) in read for number in ids):
            well = all(job.state in WELL for job in belong)
            signature = _signature([(job.id, job.state, job.changed_at) for job in belong], ids)
            bytes_ = sum(sizes.get(number, 0) for number in ids)
            found.append(Leaving("study", uid, well, signature, tuple(job.id for job in belong), ids, bytes=bytes_))
    return found


def _sources(connection: Connection) -> list[PurePath]:
    """What jobs read that have not ended."""
    query = select(jobs.c.source).where(jobs.c.state.not_in([*ENDS, "held"]))
    return [PurePath(path) for source in connection.execute(query).scalars() for path in source.values()]


def _results(connection: Connection, job: int = 0) -> list[Leaving]:
    """Results of jobs that have ended, and that every receiver has confirmed to whom they were promised; where nobody
    is to have them any more, as of cancelled jobs, no receiver need."""
    columns = (jobs.c.id, jobs.c.state, jobs.c.changed_at, jobs.c.out, jobs.c.files)
    query = select(*columns).where((jobs.c.kept == "yes") & jobs.c.state.in_(ENDS) & (jobs.c.out != ""))
    owed = select(deliveries.c.job).where(deliveries.c.state != "confirmed")
    if job:
        query, owed = query.where(jobs.c.id == job).with_for_update(), owed.where(deliveries.c.job == job)
    waiting, read = set(connection.execute(owed).scalars()), _sources(connection)
    several = select(jobs.c.out).where(jobs.c.kept == "yes").group_by(jobs.c.out).having(func.count() > 1)
    shared = set(connection.execute(several).scalars())
    found = []
    for row in connection.execute(query.order_by(jobs.c.id)):
        unwanted = row.state in ("cancelled", "superseded") or not row.files
        needed = row.out in shared or any(path.is_relative_to(row.out) for path in read)
        if not needed and (row.id not in waiting or unwanted):
            signature = _signature([(row.id, row.state, row.changed_at)], ())
            found.append(Leaving("results", str(row.id), row.state in WELL, signature, (row.id,), folder=row.out))
    return found


def _signature(rows: Iterable[tuple[int, str, float]], ids: tuple[int, ...]) -> str:
    return hashlib.sha256(repr([*rows, ids]).encode()).hexdigest()
