"""A job of the service as `GET jobs/{id}` says it, and its end in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from MedSegLib import words
from MedSegLib.words import Failure

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
"""Of a file of a result: nothing that means another folder, on any system."""
SHA256 = re.compile(r"[0-9a-f]{64}")
HELD = "held"
ENDS = {
    "failed": "The service could not do it.",
    "quarantined": "The service has put it aside, because it failed as often as is allowed.",
    "cancelled": "It was cancelled at the service.",
    "superseded": "A later revision of the study took its place at the service.",
    "unmatched": "No route of the service wants the study.",
    HELD: "The service holds the result back until a person has looked at it, for its quality control has doubts.",
}
"""Of a job without a result for us."""
REMEDIES = {
    "quarantined": "Ask who runs the service, or run it again to have it tried anew.",
    "cancelled": "Run it again, if it is wanted after all.",
    "superseded": "Load the later revision, and run that.",
    "unmatched": "Ask who runs the service for a route, or choose a model.",
    HELD: "Ask who runs the service to release it, then run it again: the result is fetched then.",
}

ASK = "Show this to whoever runs the service."


@dataclass(frozen=True)
class Job:
    """A job, as far as it matters here.

    Attributes:
        percent: of the network's tiles.
        may: what this token may do with it.
        files: of the result: name -> sha256 and bytes.
        changes: number, state, and what happened; the oldest first.
    """

    id: int
    state: str
    ended: bool
    good: bool
    percent: float
    stage: str
    code: str
    reason: str
    meaning: str
    remedy: str
    may: tuple[str, ...]
    facts: Mapping[str, Any]
    files: Mapping[str, tuple[str, int]]
    changes: tuple[tuple[int, str, str], ...]

    def failure(self) -> Failure:
        """Why there is no result."""
        told = words.of_case(self.reason, self.code) if self.reason else None
        because = told.what if told else f"Reason: {self.meaning}." if self.meaning else ""
        remedy = (told.remedy if told else "") or REMEDIES.get(self.state, "") or _sentence(self.remedy) or ASK
        what = f"{ENDS.get(self.state, f'It ended as {self.state}.')} {because}".strip()
        return Failure(what, remedy, self.code or self.state, f"job {self.id}: {self.reason} ({self.meaning})")


def of_json(told: Any) -> Job:
    """
    Raises:
        KeyError, TypeError, ValueError: it is no job.
    """
    return Job(
        id=int(told["id"]),
        state=str(told["state"]),
        ended=bool(told["ended"]),
        good=bool(told["good"]),
        percent=float(told["percent"]),
        stage=str(told["stage"]),
        code=str(told["code"]),
        reason=str(told["reason"]),
        meaning=str(told["meaning"]),
        remedy=str(told["remedy"]),
        may=tuple(map(str, told["may"])),
        facts=dict(told["facts"]),
        files=dict(_file(one) for one in told["files"]),
        changes=tuple((int(one["id"]), str(one["state"]), str(one["what"])) for one in told["events"]),
    )


def _file(told: Any) -> tuple[str, tuple[str, int]]:
    name, sha256, size = str(told["name"]), str(told["sha256"]), told["bytes"]
    if not (NAME.fullmatch(name) and SHA256.fullmatch(sha256)):
        raise ValueError(name)
    return name, (sha256, -1 if size is None else int(size))


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].rstrip('.')}." if text else ""
