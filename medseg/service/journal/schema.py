"""The version of a journal's tables: made, upgraded by Alembic, or refused if it is of a later medseg."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from medseg import atomic
from medseg.refusal import Refusal

log = logging.getLogger(__name__)
FOLDER = Path(__file__).parent / "migrations"
LOCK = 0x6D656473
"""Of PostgreSQL's advisory locks, the one for whoever upgrades a journal."""


def upgrade(engine: Engine, name: str) -> None:
    """Bring the tables to this version of medseg, all steps in one transaction, by one process while others wait. A
    copy of a journal in a file is kept as it was before: <journal>.before-<version>.

    Raises:
        Refusal: it cannot be opened, is no journal, or one that a later version has changed.
    """
    with _usable(name), engine.begin() as connection:
        if version(connection) != newest() and engine.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))  # SQLite has locked already
        at = version(connection)
        if at != newest():
            settings = _settings()
            _refuse_later(settings, at, name)
            if at and engine.url.database and engine.dialect.name == "sqlite":
                _copy(Path(engine.url.database), newest())
            settings.attributes["connection"] = connection
            command.upgrade(settings, "head")


class Earlier(Refusal):
    """A journal that this medseg could use, had it upgraded it."""


def refuse_other(engine: Engine, name: str) -> None:
    """Look at the version, and change nothing.

    Raises:
        Earlier: the next program that works with the journal upgrades it.
        Refusal: as `upgrade`.
    """
    with _usable(name), engine.connect().execution_options(medseg_reading=True) as connection:
        at = version(connection)
        if at != newest():
            _refuse_later(_settings(), at, name)
            raise Earlier(
                f"journal {name}",
                found=f"version {at}" if at else "no tables yet",
                needed=f"version {newest()}",
                remedy="nothing: the next program of the installation that starts brings it to that version",
            )


@contextmanager
def _usable(name: str) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise Refusal(
            f"journal {name}",
            found=f"a database that cannot be used ({error.orig})",
            needed="a journal of medseg, or an empty database",
            remedy="check the address, the password and the file",
        ) from error


def _copy(path: Path, before: str) -> None:
    """What the file holds, seen from beside the transaction that is about to change it."""
    with atomic.replacing(path.with_name(f"{path.name}.before-{before}")) as partial:
        source, target = sqlite3.connect(path), sqlite3.connect(partial)
        try:
            source.backup(target)
        finally:
            source.close()
            target.close()
    log.info("the journal is upgraded; a copy is kept", extra={"facts": {"to": before}})


def version(connection: Connection) -> str | None:
    """Of the tables; None where there are none."""
    return MigrationContext.configure(connection).get_current_revision()


def newest() -> str:
    """The version that this medseg works with."""
    head = ScriptDirectory(str(FOLDER)).get_current_head()
    assert head  # the folder holds at least one step
    return head


def _settings() -> Config:
    settings = Config()
    settings.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    return settings


def _refuse_later(settings: Config, at: str | None, name: str) -> None:
    try:
        if at:
            ScriptDirectory.from_config(settings).get_revision(at)
    except CommandError as error:
        raise Refusal(
            f"journal {name}",
            found=f"version {at}, which this medseg does not know",
            needed=f"version {newest()} or an earlier one",
            remedy="use the newer medseg that has changed it, or restore the journal from before",
        ) from error
