"""Who gets the results of a job, and who has them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, func, insert, select, update

from medseg.service.journal.database import Database
from medseg.service.journal.states import ENDS, GOOD
from medseg.service.journal.tables import deliveries, jobs

DeliveryState = Literal["waiting", "sent", "confirmed", "refused"]
"""waiting: to be sent, or sent again; sent: taken; confirmed: the receiver says that it keeps it, or cannot say;
refused: it will never take it, and somebody must look."""


@dataclass(frozen=True)
class Delivery:
    """A result on its way to one receiver.

    Attributes:
        tries: how often it was sent.
        problem: why the last try failed, in words; empty after a success.
    """

    id: int
    job: int
    receiver: str
    state: DeliveryState
    tries: int
    problem: str
    changed_at: float


def promise(connection: Connection, job: int, receivers: Iterable[str]) -> None:
    """Put on record that results are to go to each of `receivers`, once."""
    known = set(connection.execute(select(deliveries.c.receiver).where(deliveries.c.job == job)).scalars())
    for receiver in dict.fromkeys(receivers):
        if receiver not in known:
            values = {"job": job, "receiver": receiver, "state": "waiting", "tries": 0, "problem": ""}
            connection.execute(insert(deliveries).values(**values, changed_at=time.time()))


class Deliveries:
    """The deliveries of a journal."""

    def __init__(self, database: Database):
        self.database = database

    def of(self, job: int) -> list[Delivery]:
        """In the order in which they were promised."""
        with self.database.read() as connection:
            found = connection.execute(select(deliveries).where(deliveries.c.job == job).order_by(deliveries.c.id))
            return [Delivery(**row._mapping) for row in found]

    def tell(
        self,
        delivery: int,
        state: DeliveryState,
        problem: str = "",
        *,
        was: DeliveryState | None = None,
        tried: bool = False,
    ) -> bool:
        """Put on record how a try ended, or what the receiver says of what it has.

        Args:
            was: state in which it was tried; in another one by now, it stays as it is: somebody else has seen to it.

        Returns:
            Whether it was put on record.
        """
        meant = deliveries.c.id == delivery
        if was is not None:
            meant &= deliveries.c.state == was
        with self.database.write() as connection:
            changes = {"state": state, "problem": problem, "changed_at": time.time()}
            if tried:
                changes["tries"] = deliveries.c.tries + 1
            return connection.execute(update(deliveries).where(meant).values(**changes)).rowcount == 1

    def counts(self) -> dict[str, dict[str, int]]:
        """Of each receiver: state -> how many; what has no results to send any more is not waited for."""
        found: dict[str, dict[str, int]] = {}
        with self.database.read() as connection:
            columns = (deliveries.c.receiver, deliveries.c.state)
            gone = (deliveries.c.state == "waiting") & jobs.c.state.in_(ENDS - GOOD)
            query = select(*columns, func.count()).join(jobs, jobs.c.id == deliveries.c.job).where(~gone)
            for receiver, state, count in connection.execute(query.group_by(*columns)):
                found.setdefault(receiver, {})[state] = count
        return found
