"""Who did what: for those who must answer for an installation."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import insert, select

from medseg.service.journal.database import Database
from medseg.service.journal.tables import audit


@dataclass(frozen=True)
class Entry:
    """
    Attributes:
        who: the name of a token, an AE title with its address, or the user of the command line.
        what: submit, cancel, retry, release, association, ...
        about: job 12, studies of ..., without what a patient is known by.
        outcome: done, or why not.
    """

    at: float
    who: str
    what: str
    about: str
    outcome: str


class Audit:
    """The audit log of a journal; it only grows."""

    def __init__(self, database: Database):
        self.database = database

    def add(self, who: str, what: str, about: str = "", outcome: str = "done") -> None:
        with self.database.write() as connection:
            connection.execute(insert(audit).values(at=time.time(), who=who, what=what, about=about, outcome=outcome))

    def entries(self, *, after: int = 0, limit: int = 1000) -> list[tuple[int, Entry]]:
        """Entries with their numbers, the oldest first, from the one after `after` on."""
        query = select(audit).where(audit.c.id > after).order_by(audit.c.id).limit(limit)
        with self.database.read() as connection:
            rows = connection.execute(query).all()
        return [(row.id, Entry(row.at, row.who, row.what, row.about, row.outcome)) for row in rows]
