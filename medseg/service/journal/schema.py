"""The version of a journal's tables: made, upgraded by Alembic, or refused if it is of a later medseg."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from medseg.refusal import Refusal

FOLDER = Path(__file__).parent / "migrations"


def upgrade(engine: Engine, name: str) -> None:
    """Bring the tables to this version of medseg, all steps in one transaction.

    Raises:
        Refusal: it cannot be opened, is no journal, or one that a later version has changed.
    """
    try:
        with engine.begin() as connection:
            at = version(connection)
            if at != newest():
                settings = _settings()
                _refuse_later(settings, at, name)
                settings.attributes["connection"] = connection
                command.upgrade(settings, "head")
    except DBAPIError as error:
        raise Refusal(
            f"journal {name}",
            found=f"a database that cannot be used ({error.orig})",
            needed="a journal of medseg, or an empty database",
            remedy="check the address, the password and the file",
        ) from error


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
