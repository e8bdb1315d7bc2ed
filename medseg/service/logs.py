"""Logs for machines: a JSON object a line, and nothing in them that a patient is known by."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

SHOWN = 12
"""Characters of a hash: enough to tell studies apart."""

QUOTING = ("pydicom", "pynetdicom", "highdicom", "medseg")
"""Whose own words quote what they read, which may be a name: libraries, and all of medseg that is not the service. What
they say of a study is in the journal, as notes of its result or as the reason why there is none."""


def pseudonym(identifier: str) -> str:
    """What stands in a log for an identifier: the same for the same one, without a way back for who does not have it.

    UIDs and patient numbers could be found by trying all; the log is to be kept like the journal all the same.
    """
    return hashlib.sha256(identifier.encode()).hexdigest()[:SHOWN] if identifier else ""


def place(error: BaseException) -> str:
    """What kind of error it was, and where it arose, innermost first; without its words, which may be a patient's."""
    frames = traceback.extract_tb(error.__traceback__)
    places = (f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    return " < ".join([type(error).__name__, *places])


def why(error: BaseException) -> str:
    """What a database or the system says is wrong; not the statement, the file, or what it was about, which may be a
    patient."""
    cause = getattr(error, "orig", None) or error
    told = cause.args[0] if cause.args else ""
    if isinstance(told, dict):  # of PostgreSQL, whose message (M) names things, where detail and place (D, W) quote
        return f"{told.get('M', '')} ({told.get('C', '')})"
    return getattr(cause, "strerror", None) or (str(told) if cause is not error else type(error).__name__)


class Lines(logging.Formatter):
    """A record as one line of JSON; what was given as `extra={"facts": {...}}` is in it."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "room": record.name,
            "what": record.getMessage(),
        }
        told |= getattr(record, "facts", {})
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False)


class Words(logging.Formatter):
    """The same as a line of words."""

    def format(self, record: logging.LogRecord) -> str:
        told = [time.strftime("%H:%M:%S", time.localtime(record.created)), record.getMessage()]
        told += [f"{name}={value}" for name, value in getattr(record, "facts", {}).items() if value != ""]
        return " ".join(told) + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")


def begin(level: int = logging.INFO, *, lines: bool = True) -> None:
    """Let everything that this process logs go to standard error: in lines of JSON, or for people to read."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines() if lines else Words())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in QUOTING:
        logging.getLogger(name).setLevel(logging.CRITICAL)
        warnings.filterwarnings("ignore", module=rf"{name}\.")
    logging.getLogger("medseg.service").setLevel(level)
