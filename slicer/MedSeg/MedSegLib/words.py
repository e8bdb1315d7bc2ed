"""What went wrong, in plain words, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Failure:
    """Why something did not come about.

    Attributes:
        what: a sentence for the user, without a traceback.
        remedy: what the user can do; empty where nothing is known.
        code: for programs, as medseg names it (`memory`, `channels`, ...) or one of ours (`no-server`, ...).
        detail: what the program itself said, for the log and for whoever helps; it may name files.
    """

    what: str
    remedy: str = ""
    code: str = "error"
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.what} {self.remedy}".strip()
