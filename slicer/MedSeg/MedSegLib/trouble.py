"""What a user can cause, as an exception."""

from __future__ import annotations

from MedSegLib import words
from MedSegLib.words import Failure
from MedSegLib.work import FAILED, Outcome


class Trouble(Exception):
    """Something will not do; `failure` has the words for it."""

    def __init__(self, what: str, remedy: str, code: str = "scene", detail: str = ""):
        self.failure = Failure(what, remedy, code, detail)
        super().__init__(str(self.failure))


def failed(error: Exception) -> Outcome:
    """How a run ends that met with it."""
    return Outcome(FAILED, failure=error.failure if isinstance(error, Trouble) else words.of_exception(error))
