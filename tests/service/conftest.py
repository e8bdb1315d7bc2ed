"""Journals to test with, in both kinds of database."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from medseg.service.journal import Journal
from tests import tiny
from tests.service import postgres

NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    with postgres.server() as address:
        yield address


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=postgres.MARKS)])
def where(request, tmp_path) -> str:
    """Where an empty journal is."""
    if request.param == "sqlite":
        return str(tmp_path / "journal.sqlite")
    address, name = request.getfixturevalue("postgres_server"), f"journal{next(NUMBERS)}"
    engine = create_engine(f"{address.replace('://', '+pg8000://')}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return f"{address}/{name}"


@pytest.fixture
def journal(where) -> Iterator[Journal]:
    opened = Journal(where)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """An untrained run."""
    folder = tmp_path_factory.mktemp("model") / "run"
    tiny.untrained_run(folder)
    return folder
