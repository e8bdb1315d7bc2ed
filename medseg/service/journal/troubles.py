"""Of which troubles somebody was told, so that a restart does not tell of all of them again."""

from __future__ import annotations

import time

from sqlalchemy import func, insert, select, update

from medseg.service.journal.database import Database
from medseg.service.journal.states import State
from medseg.service.journal.tables import age, deliveries, events, jobs, troubles

BAD: tuple[State, ...] = ("failed", "quarantined")
OWING: tuple[State, ...] = ("proven", "sent")
"""States of jobs whose results are on their way."""
WAITING: tuple[State, ...] = ("received", "checked", "queued")
WORKED_ON: tuple[State, ...] = ("running", "written")
MOVED: tuple[State, ...] = ("checked", "unmatched", "running", "written", "proven", "failed", "quarantined")
"""Where the clerk and workers bring jobs, and nobody else."""


class Troubles:
    """The troubles of a journal, and what they can be seen by. Moments are ages, see `journal.keeping`."""

    def __init__(self, database: Database):
        self.database = database

    def claim(self, key: str, *, at: float, every_s: float, upto: int = 0) -> bool:
        """Whether it is to be told now, by whoever asks and nobody else: it was not, or `every_s` seconds ago."""
        with self.database.write() as connection:
            connection.execute(select(age).with_for_update())  # one process after another
            row = connection.execute(select(troubles).where(troubles.c.key == key)).one_or_none()
            if row is None:
                connection.execute(insert(troubles).values(key=key, told=at, upto=upto))
                return True
            if at - row.told < every_s:
                return False
            connection.execute(update(troubles).where(troubles.c.key == key).values(told=at, upto=upto))
            return True

    def put_off(self, key: str, *, told: float, upto: int = 0) -> None:
        """It could not be told: as if it had last been at `told`, and of events up to `upto`."""
        with self.database.write() as connection:
            connection.execute(update(troubles).where(troubles.c.key == key).values(told=told, upto=upto))

    def upto(self, key: str) -> int:
        """The last event that was told of."""
        with self.database.read() as connection:
            return connection.execute(select(troubles.c.upto).where(troubles.c.key == key)).scalar_one_or_none() or 0

    def ended_badly(self, after: int, upto: int, limit: int) -> list[tuple[int, int, State, str]]:
        """Jobs that failed or were put aside and still are, by events from one on up to another: event, job, state,
        reason code."""
        query = (
            select(events.c.id, jobs.c.id.label("job"), jobs.c.state, jobs.c.reason_code)
            .join(jobs, jobs.c.id == events.c.job)
            .where((events.c.id > after) & (events.c.id <= upto))
            .where(events.c.state.in_(BAD) & (jobs.c.state == events.c.state))
            .order_by(events.c.id)
            .limit(limit)
        )
        with self.database.read() as connection:
            return [(row.id, row.job, row.state, row.reason_code) for row in connection.execute(query)]

    def work(self) -> tuple[int, tuple[int, int]]:
        """How many jobs somebody should be working on whom nobody has, and what changes while anybody works on any."""
        due = jobs.c.state.in_(WAITING) & jobs.c.owner.is_(None) & (jobs.c.not_before <= time.time())
        moved = select(events.c.id).where(events.c.state.in_(MOVED)).order_by(events.c.id.desc()).limit(1)
        beats = select(func.coalesce(func.sum(jobs.c.beat), 0)).where(jobs.c.state.in_(WORKED_ON))
        with self.database.read() as connection:
            waiting = connection.execute(select(func.count()).select_from(jobs).where(due)).scalar_one()
            last = connection.execute(moved).scalar_one_or_none() or 0
            return waiting, (last, int(connection.execute(beats).scalar_one()))

    def owed(self, tries: int) -> dict[str, tuple[int, int]]:
        """Receivers that refuse results, or did not take one in so many tries: how many, and the most tries."""
        query = (
            select(deliveries.c.receiver, deliveries.c.tries)
            .join(jobs, jobs.c.id == deliveries.c.job)
            .where(jobs.c.state.in_(OWING) & deliveries.c.state.in_(("waiting", "refused")))
            .where((deliveries.c.tries >= tries) | (deliveries.c.state == "refused"))
        )
        found: dict[str, tuple[int, int]] = {}
        with self.database.read() as connection:
            for receiver, count in connection.execute(query):
                number, most = found.get(receiver, (0, 0))
                found[receiver] = (number + 1, max(most, count))
        return found
