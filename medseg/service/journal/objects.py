"""What is on record of received objects, within a transaction; `Arrivals` opens it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, select

from medseg.service.journal.tables import arrivals, objects


@dataclass(frozen=True)
class Received:
    """An object that lies safely on the disk.

    Attributes:
        sha256: of its transfer syntax and its data set.
        bytes: size of its file.
        path: of its file, in the data folder.
        sender: AE title, folder or name of who handed it in.
        input: whether a model may be given it, see `tables.objects`.
    """

    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class: str
    sha256: str
    bytes: int
    path: str
    sender: str
    input: bool = True


def digest(received: Iterable[Received]) -> str:
    """sha256 of the inputs among objects: of their UIDs and sha256."""
    lines = sorted(f"{one.sop_uid} {one.sha256}\n" for one in received if one.input)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class Version:
    """Of an object; `kept`: it was not removed."""

    study_uid: str
    kept: bool


def versions_of(connection: Connection, received: Sequence[Received]) -> dict[str, dict[str, Version]]:
    """SOP Instance UID -> sha256 of each version that is on record -> what is known of it."""
    columns = (objects.c.sop_uid, objects.c.sha256, objects.c.study_uid, arrivals.c.kept)
    found: dict[str, dict[str, Version]] = {}
    query = select(*columns).join(arrivals).where(objects.c.sop_uid.in_({one.sop_uid for one in received}))
    for row in connection.execute(query):
        found.setdefault(row.sop_uid, {})[row.sha256] = Version(row.study_uid, kept=row.kept == "yes")
    return found


def newest(columns: Any, among: ColumnElement[bool]) -> Select[Any]:
    """A question for the newest versions of objects that were not removed."""
    return (
        select(columns)
        .join(arrivals, arrivals.c.id == objects.c.arrival)
        .where(among & objects.c.current & (arrivals.c.kept == "yes"))
    )


def objects_of(connection: Connection, study_uid: str) -> list[Received]:
    """The objects of a study, of each the newest version, by series and UID."""
    query = select(objects).where((objects.c.study_uid == study_uid) & objects.c.current)
    return [received_of(row) for row in connection.execute(query.order_by(objects.c.series_uid, objects.c.sop_uid))]


def resent_of(connection: Connection, arrival: int) -> list[tuple[str, str]]:
    """Of each input that came in an arrival: the path of the version before it, and its own; none at all, if there is
    one that was not here in any version."""
    row = select(objects).join(arrivals).where(arrivals.c.kept == "yes").subquery()
    mine = (objects.c.arrival == arrival) & objects.c.current & objects.c.input
    same = (row.c.sop_uid == objects.c.sop_uid) & (row.c.study_uid == objects.c.study_uid)
    before = same & ~row.c.current & (row.c.arrival < arrival)
    query = select(objects.c.id, objects.c.path, row.c.path).select_from(objects).outerjoin(row, before).where(mine)
    found = {id: (former, later) for id, later, former in connection.execute(query.order_by(row.c.arrival, row.c.id))}
    return list(found.values()) if all(former for former, _ in found.values()) else []


def received_of(row: Any) -> Received:
    return Received(**{name: getattr(row, name) for name in Received.__dataclass_fields__})
