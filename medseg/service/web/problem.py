"""What is answered where something cannot be done: a status of HTTP, and the words of a refusal."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Any

from medseg.refusal import Refusal

CODES = {
    400: "refused",
    401: "no-token",
    403: "not-allowed",
    404: "not-found",
    405: "not-found",
    406: "not-acceptable",
    408: "too-slow",
    409: "conflict",
    411: "no-length",
    413: "too-large",
    415: "not-supported",
    421: "wrong-host",
    422: "refused",
    429: "too-many",
    431: "too-large",
    500: "error",
    503: "busy",
    507: "room",
}
"""For programs; a refusal that has a code of its own keeps it."""


class Problem(Refusal):
    """A refusal that knows its status.

    Attributes:
        status: of HTTP.
        headers: that the answer has besides.
    """

    def __init__(self, status: int, where: str | Path, *, headers: dict[str, str] | None = None, **words: str):
        super().__init__(where, **{"code": CODES[status], **words})
        self.status, self.headers = status, headers or {}


def status(refusal: Refusal) -> int:
    """400 for one that knows none: what was sent will not do."""
    return refusal.status if isinstance(refusal, Problem) else 400


def shown(refusal: Refusal) -> dict[str, Any]:
    """As JSON; `text` is all of it in a sentence."""
    return {
        "error": {
            "code": refusal.code,
            "where": refusal.where,
            "found": refusal.found,
            "needed": refusal.needed,
            "remedy": refusal.remedy,
            "text": str(refusal),
        }
    }


def plain(number: int) -> dict[str, Any]:
    """Without details: for strangers, and for errors that are ours."""
    return {"error": {"code": CODES.get(number, "refused"), "text": HTTPStatus(number).phrase}}
