"""What the service's programs log: lines of JSON, and nothing that a patient is known by."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from sqlalchemy.exc import OperationalError, ProgrammingError

from medseg.service.logs import pseudonym, why
from tests.tiny import ENVIRONMENT

SCRIPT = """
import logging, warnings
from medseg.service import logs
logs.begin(lines={lines})
logging.getLogger("medseg.dicom.series").warning("Mueller^Anna 1.2.3.4")
logging.getLogger("pydicom").error("Mueller^Anna")
logging.getLogger("sqlalchemy").warning("a library's word")
try:
    raise ValueError("cause")
except ValueError:
    logging.getLogger("medseg.service.x").exception("failed", extra={{"facts": {{"job": 3}}}})
logging.getLogger("medseg.service.x").info("begun", extra={{"facts": {{"study": logs.pseudonym("1.2.3.4")}}}})
"""


def said(lines: bool) -> str:
    script = SCRIPT.format(lines=lines)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    return done.stderr


def test_lines_are_json_without_patients():
    records = [json.loads(line) for line in said(True).splitlines()]
    assert [record["what"] for record in records] == ["a library's word", "failed", "begun"]
    assert records[1]["job"] == 3 and "ValueError: cause" in records[1]["error"] and records[1]["level"] == "error"
    assert records[2]["study"] == pseudonym("1.2.3.4") and records[2]["room"] == "medseg.service.x"


def test_words_are_for_people():
    text = said(False)
    assert "begun study=" in text and "failed job=3" in text and "Mueller" not in text and "1.2.3.4" not in text


def test_a_pseudonym_is_the_same_for_the_same_and_short():
    assert pseudonym("a") == pseudonym("a") != pseudonym("b") and pseudonym("") == "" and len(pseudonym("a")) == 12


OF_POSTGRES = {
    "C": "22P05",
    "M": "unsupported Unicode escape",
    "D": "Mueller^Anna",
    "W": "JSON data, line 1: Mueller^Anna",
}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ProgrammingError("insert", {}, Exception(OF_POSTGRES)), "unsupported Unicode escape (22P05)"),
        (OperationalError("insert", {}, Exception("database is locked")), "database is locked"),
        (OSError(28, "No space left on device", "/in/Mueller^Anna.dcm"), "No space left on device"),
        (RuntimeError("Mueller^Anna"), "RuntimeError"),
    ],
)
def test_why_something_cannot_be_used_is_said_without_what_it_was_about(error, said):
    assert why(error) == said
