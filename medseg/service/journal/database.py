"""The database under the journal: SQLite in a file, or PostgreSQL by URL; every change is one transaction."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from medseg.refusal import Refusal
from medseg.service.journal import schema
from medseg.service.settings.folders import private

BUSY_MS = 60_000
"""How long SQLite waits for another process to end its change; each takes milliseconds."""
DRIVERS = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+pg8000", "postgres": "postgresql+pg8000"}
READING = "medseg_reading"


def _json(value: Any) -> str:
    """Of headers and results as they are: NaN, which JSON does not have, becomes null."""
    return json.dumps(
        _each(value, lambda one: None if isinstance(one, float) and not math.isfinite(one) else _word(one))
    )


COMMON: dict[str, Any] = {"hide_parameters": True, "json_serializer": _json}


class Database:
    """An open journal. Safe to use from several threads; a process that was forked needs its own.

    A change is durable when `write` is left: SQLite syncs its log to the disk (WAL, synchronous=FULL), PostgreSQL does
    by default.
    """

    def __init__(self, where: str | Path, *, upgrade: bool = True):
        """
        Args:
            where: a file, which is made if it is not there, or the URL of a database.
            upgrade: whether tables of an earlier version are brought to this one; else they are refused.

        Raises:
            Refusal: no such kind of database, one that cannot be opened, or one of a later version of medseg.
        """
        self.url = _url(where)
        self._engine = (
            _sqlite(self.url)
            if self.url.drivername.startswith("sqlite")
            else create_engine(self.url, pool_pre_ping=True, isolation_level="READ COMMITTED", **COMMON)
        )
        event.listen(self._engine, "before_cursor_execute", _told, retval=True)
        (schema.upgrade if upgrade else schema.refuse_other)(self._engine, self.name)

    @property
    def name(self) -> str:
        """For people; without a password."""
        return self.url.database or "" if self.is_file else self.url.render_as_string(hide_password=True)

    @property
    def is_file(self) -> bool:
        """Whether only processes of this machine can share it."""
        return self.url.drivername.startswith("sqlite")

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that changes something; it is undone if what is done within raises."""
        with self._engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A look at one moment's state, which keeps nobody from writing."""
        with self._engine.connect().execution_options(**{READING: True}) as connection, connection.begin():
            yield connection

    def close(self) -> None:
        self._engine.dispose()


def _told(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> tuple[str, Any]:
    """What a device has written into a header, or a stranger calls himself, never makes a change impossible."""
    return statement, _each(parameters, lambda one: _encodable(_word(one)))


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, Mapping):
        return {name: _each(one, change) for name, one in value.items()}
    return [_each(one, change) for one in value] if isinstance(value, list | tuple) else change(value)


def _word(value: Any) -> Any:
    """PostgreSQL has no text with NUL."""
    return value.replace("\0", " ") if isinstance(value, str) else value


def _encodable(value: Any) -> Any:
    """Names of files need not be UTF-8."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _url(where: str | Path) -> URL:
    text = str(where)
    if "://" not in text:
        return URL.create(DRIVERS["sqlite"], database=str(Path(text).absolute()))
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise _refused(text.partition("://")[0], str(error)) from error
    kind, _, driver = url.drivername.partition("+")
    if kind not in DRIVERS:
        raise _refused(kind, f"a database of kind '{kind}'")
    return url if driver else url.set(drivername=DRIVERS[kind])


def _refused(where: str, found: str) -> Refusal:
    return Refusal(
        f"journal {where}://",
        found=found,
        needed="a file, or postgresql://user:password@host/database",
        remedy="check the address",
    )


def _sqlite(url: URL) -> Engine:
    assert url.database  # given by `_url`
    private(Path(url.database).parent)
    engine = create_engine(url, connect_args={"timeout": BUSY_MS / 1000}, **COMMON)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself: `begin` below does
        cursor = connection.cursor()
        for setting in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_MS}"):
            cursor.execute(f"PRAGMA {setting}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        """A change takes the lock at its beginning: to take it halfway could fail, if another has changed something."""
        reading = connection.get_execution_options().get(READING, False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine
