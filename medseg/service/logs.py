"""Logs for machines: a JSON object a line, and nothing in them that a patient is known by."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import time
from typing import Any

SHOWN = 12
"""Characters of a hash: enough to tell studies apart."""


def pseudonym(identifier: str) -> str:
    """What stands in a log for an identifier: the same for the same one, without a way back for who does not have it.

    UIDs and patient numbers could be found by trying all; the log is to be kept like the journal all the same.
    """
    return hashlib.sha256(identifier.encode()).hexdigest()[:SHOWN] if identifier else ""


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


def begin(level: int = logging.INFO) -> None:
    """Let everything that this process logs go to standard error in lines of JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("medseg").setLevel(level)
