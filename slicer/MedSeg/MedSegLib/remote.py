"""`medseg serve` as a backend: what travels are files and JSON, over TLS, with a token."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from MedSegLib import models
from MedSegLib.service.address import door
from MedSegLib.service.call import Caller, Limits
from MedSegLib.service.case import Case
from MedSegLib.service.course import Course
from MedSegLib.service.trouble import strange
from MedSegLib.work import DONE, Order, Outcome, Run

LIMITS = Limits()


class Remote:
    """A service.

    Args:
        address: `https://HOST:PORT`; http only for this machine itself.
        token: what `medseg tokens add` printed, of role submit or admin.
        authority: PEM file of the authorities that are trusted in place of the system's.
        limits: how long to wait for what.
    """

    def __init__(self, address: str, token: str, *, authority: Path | None = None, limits: Limits = LIMITS):
        self._address, self._token, self._authority, self._limits = address, token.strip(), authority, limits

    def start(self, order: Order) -> Run:
        """Have it done, see `work.Backend`; results are in `order.folder / "result"`. A cancel reaches the service as
        well, if the network lets it."""
        case = Case(order)
        return self._course().begin(case.work, case.cancel)

    def models(self) -> Run:
        """`facts["answer"]` of the outcome is the list that `GET models` gives, see `models.of_json`."""
        return self._asked("models", _check_models)

    def me(self) -> Run:
        """`facts["answer"]` of the outcome holds `name` and `role` of the token."""
        return self._asked("me", lambda answer: str(answer["name"]) + str(answer["role"]))

    def _course(self) -> Course:
        return Course(lambda: Caller(door(self._address, self._token, self._authority), self._limits), self._token)

    def _asked(self, path: str, check: Callable[[Any], object]) -> Run:
        def work(course: Course, caller: Caller) -> Outcome:
            answer = caller.json("GET", path)
            try:
                check(answer)
            except (KeyError, TypeError, ValueError) as error:
                raise strange(caller.door.place, str(answer)) from error
            return Outcome(DONE, facts={"answer": answer})

        return self._course().begin(work)


def _check_models(answer: Any) -> None:
    if not isinstance(answer, list):
        raise TypeError(answer)
    for entry in answer:
        models.of_json(entry, entry["name"])
