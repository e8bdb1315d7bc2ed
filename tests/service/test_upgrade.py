"""Journals of an earlier medseg: upgraded once, whole or not at all, with what is on record; SQLite and PostgreSQL."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from medseg.refusal import Refusal
from medseg.service.journal import Journal, schema
from medseg.service.operations import doctor
from medseg.service.settings.keep import Keep
from medseg.service.settings.site import Site
from tests.service.test_journal import ASKED
from tests.tiny import ENVIRONMENT

STEP = '''"""A step of a later medseg."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("colour", sa.String(length=8), nullable=False, server_default="blue"))
    op.create_table("upgrades", sa.Column("at", sa.Float()))
    op.execute("INSERT INTO upgrades VALUES (1)")
'''
OPEN = """
import sys
from pathlib import Path
from medseg.service.journal import Journal, schema
schema.FOLDER = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
Journal(sys.argv[2]).close()
"""


@pytest.fixture
def steps(tmp_path) -> Path:
    """The steps of a medseg to come."""
    folder = tmp_path / "migrations"
    shutil.copytree(schema.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "0002_later.py").write_text(STEP, encoding="utf-8")
    return folder


def made(where: str) -> int:
    """A job in a journal of today."""
    journal = Journal(where)
    job, _ = journal.jobs.submit(ASKED, who="a")
    journal.close()
    return job.id


def rows(journal: Journal, question: str) -> list[tuple]:
    with journal.database.read() as connection:
        return [tuple(row) for row in connection.execute(text(question))]


def test_what_is_on_record_stays(where, steps, monkeypatch):
    number = made(where)
    monkeypatch.setattr(schema, "FOLDER", steps)
    journal = Journal(where)
    assert rows(journal, "SELECT id, state, colour FROM jobs") == [(number, "queued", "blue")]
    assert rows(journal, "SELECT version_num FROM alembic_version") == [("0002",)]
    assert len(journal.jobs.events(number)) == 2
    journal.close()


def test_a_doctor_looks_at_an_earlier_one_and_upgrades_nothing(where, steps, monkeypatch, tmp_path):
    made(where)
    monkeypatch.setenv("MEDSEG_TESTED", where)
    site = Site(folder=tmp_path, journal="${MEDSEG_TESTED}", keep=Keep(free_gib=0))
    monkeypatch.setattr(schema, "FOLDER", steps)
    (found,) = [one for one in doctor.examine(site) if one.what == "journal"]
    assert found.verdict == "look" and "version 0001" in found.found and "nothing" in found.remedy
    monkeypatch.undo()
    journal = Journal(where)
    assert rows(journal, "SELECT version_num FROM alembic_version") == [("0001",)]
    journal.close()


def test_a_copy_of_a_file_is_kept_as_it_was(tmp_path, steps, monkeypatch):
    path = tmp_path / "journal.sqlite"
    number = made(str(path))
    copy = tmp_path / "journal.sqlite.before-0002"
    monkeypatch.setattr(schema, "FOLDER", steps)
    Journal(path).close()
    with sqlite3.connect(copy) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
        assert connection.execute("SELECT id FROM jobs").fetchall() == [(number,)]
    connection.close()
    before = copy.read_bytes()
    Journal(path).close()
    assert copy.read_bytes() == before
    monkeypatch.undo()
    with pytest.raises(Refusal, match="version 0002, which this medseg does not know"):
        Journal(path)
    shutil.copy(copy, path)  # the way back
    assert Journal(path).jobs.get(number).id == number


def test_a_new_journal_needs_no_copy(tmp_path):
    Journal(tmp_path / "journal.sqlite").close()
    assert not list(tmp_path.glob("*before*"))


def test_a_step_that_fails_changes_nothing(where, steps, monkeypatch):
    number = made(where)
    broken = steps / "versions" / "0002_later.py"
    broken.write_text(STEP + "    op.execute('SELECT * FROM no_such_table')\n", encoding="utf-8")
    monkeypatch.setattr(schema, "FOLDER", steps)
    with pytest.raises(Refusal, match="no_such_table"):
        Journal(where)
    monkeypatch.undo()
    journal = Journal(where)
    assert journal.jobs.get(number).id == number
    assert rows(journal, "SELECT version_num FROM alembic_version") == [("0001",)]
    journal.close()


@pytest.mark.parametrize("old", [True, False], ids=["upgraded", "new"])
def test_several_processes_at_once_do_it_once(where, steps, old):
    if old:
        made(where)
    words = [sys.executable, "-c", OPEN, str(steps), where]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(words, env=ENVIRONMENT, **pipes) for _ in range(3)]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    ended = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0] * 3, ended
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "FOLDER", steps)
        journal = Journal(where)
    assert rows(journal, "SELECT count(*) FROM upgrades") == [(1,)]
    journal.close()
