"""What is on record of received objects, within a transaction; `Arrivals` opens it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, select, update

from medseg.service.journal.tables import arrivals, jobs, objects

AT_ONCE = 500
"""Most values in a question to the database."""


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


def resent_of(connection: Connection, study_uid: str, arrival: int) -> list[tuple[str, list[str]]]:
    """Of each input that came in an arrival: its path, and those of its versions before, the newest first; none at all,
    if there is one that was not here in any version."""
    found: dict[str, list[str]] = {}
    for row in _before(connection, study_uid, arrival):
        found.setdefault(row.path, []).extend([row.former_path] if row.former else [])
    return list(found.items()) if all(found.values()) else []


def withdraw(connection: Connection, study_uid: str, arrival: int) -> None:
    """Of the inputs that came in an arrival, the versions before them are the newest again."""
    newest = {row.id: row.former for row in reversed(_before(connection, study_uid, arrival))}
    for now, ids in ((False, list(newest)), (True, list(newest.values()))):
        for start in range(0, len(ids), AT_ONCE):
            among = objects.c.id.in_(ids[start : start + AT_ONCE])
            connection.execute(update(objects).where(among).values(current=now))


def _before(connection: Connection, study_uid: str, arrival: int) -> Sequence[Any]:
    """Of each input that came in an arrival: one row for each version before it that is here, the newest first, or one
    without any. Last are those of arrivals that led to no job: they were withdrawn."""
    taken = select(jobs.c.id).where(jobs.c.arrival == objects.c.arrival).exists()
    of_study = (objects.c.study_uid == study_uid) & (arrivals.c.kept == "yes")
    here = select(objects, taken.label("taken")).join(arrivals).where(of_study).subquery()
    mine = (objects.c.arrival == arrival) & objects.c.current & objects.c.input
    same = (here.c.sop_uid == objects.c.sop_uid) & (here.c.arrival < arrival)
    columns = (objects.c.id, objects.c.path, here.c.id.label("former"), here.c.path.label("former_path"))
    query = select(*columns).select_from(objects).outerjoin(here, same).where(mine)
    return connection.execute(
        query.order_by(objects.c.id, *(one.desc() for one in (here.c.taken, here.c.arrival, here.c.id)))
    ).all()


def received_of(row: Any) -> Received:
    return Received(**{name: getattr(row, name) for name in Received.__dataclass_fields__})
