"""A run at a service. What asks is a thread of its own; a cancel leaves it behind where the network has it wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from MedSegLib import words
from MedSegLib.background import Background, Talk
from MedSegLib.service.call import Caller
from MedSegLib.service.trouble import Stopped, Trouble
from MedSegLib.words import Failure
from MedSegLib.work import CANCELLED, FAILED, Outcome

GLANCE_S = 0.05
"""Between two looks whether it was cancelled."""
PATIENCE_S = 1.0
"""After a cancel, for what asks to put its files away. One that waits for the network has none open and is not waited
for."""
LONGEST = 600
"""Characters of a text with words of a service that are shown."""
HIDDEN = "***"
"""Stands for the token where what a service says holds it."""


class Course:
    """One run.

    Args:
        connect: makes what asks; raises Trouble.
        secret: the token, which is shown nowhere.
    """

    def __init__(self, connect: Callable[[], Caller], secret: str):
        self._connect, self._secret = connect, secret
        self._talk = Talk()
        self._place: tuple[str, float] = ("", -1.0)

    def begin(
        self, work: Callable[[Course, Caller], Outcome], afterwards: Callable[[Caller], None] = lambda caller: None
    ) -> Background:
        """
        Args:
            work: what is done; raises Trouble, or Stopped.
            afterwards: what is left to do after a cancel, with a caller of its own; nobody waits for it.
        """
        return Background(lambda talk: self._watched(talk, work, afterwards))

    def say(self, text: str) -> None:
        """A line for the log."""
        self._talk.line(self._clean(text))

    def stage(self, stage: str, percent: float = 0.0) -> None:
        """Where it is, and the share of the network's tiles that are done."""
        if self._place != (stage, percent):
            self._place = (stage, percent)
            self._talk.progress(percent, self._clean(stage))

    def check(self) -> None:
        """
        Raises:
            Stopped: it was cancelled.
        """
        if self._talk.stopped.is_set():
            raise Stopped

    def _watched(
        self, talk: Talk, work: Callable[[Course, Caller], Outcome], afterwards: Callable[[Caller], None]
    ) -> Outcome:
        self._talk = talk
        try:
            caller = self._connect()
        except Trouble as trouble:
            return self._failed(trouble.failure)
        found: list[Outcome] = []
        ended = threading.Event()

        def ask() -> None:
            found.append(self._outcome(work, caller))
            ended.set()
            if talk.stopped.is_set():
                afterwards(self._connect())

        threading.Thread(target=ask, name="medseg-service", daemon=True).start()
        while not ended.wait(GLANCE_S):
            if talk.stopped.is_set():
                caller.stop()
                ended.wait(PATIENCE_S)
                break
        return found[0] if found else Outcome(CANCELLED)

    def _outcome(self, work: Callable[[Course, Caller], Outcome], caller: Caller) -> Outcome:
        try:
            return work(self, caller)
        except Stopped:
            return Outcome(CANCELLED)
        except Trouble as trouble:
            return self._failed(trouble.failure)
        except Exception as error:  # the border of the thread: nobody else would hear of it
            return self._failed(words.of_exception(error))

    def _failed(self, failure: Failure) -> Outcome:
        shown = {name: self._clean(getattr(failure, name)) for name in ("what", "remedy", "code", "detail")}
        return Outcome(FAILED, failure=replace(failure, **shown))

    def _clean(self, text: str) -> str:
        shown = text.replace(self._secret, HIDDEN) if self._secret else text
        return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}…"
