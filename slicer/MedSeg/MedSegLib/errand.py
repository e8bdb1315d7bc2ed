"""Work of several steps, some of them programs, in the background."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from MedSegLib.background import Background, Talk
from MedSegLib.process import Child
from MedSegLib.trouble import Trouble, failed
from MedSegLib.work import CANCELLED, DONE, Outcome

MOST_KEPT = 2000
"""Lines of a program that are kept for whoever wants to know what it said."""
Heard = Callable[[str], None]
"""Called with each line of a program."""


class Stopped(Exception):
    """The user has cancelled."""


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit code (below 0: a signal), and the last of what it said on each stream."""

    code: int
    out: tuple[str, ...]
    err: tuple[str, ...]


class Errand:
    """What the work is given: to tell of itself, and to run programs."""

    def __init__(self, talk: Talk):
        self._talk = talk

    def at(self, percent: float, stage: str, seconds_left: float | None = None) -> None:
        """Say how far it is."""
        self._talk.progress(percent, stage, seconds_left)

    def say(self, text: str) -> None:
        self._talk.line(text)

    def go_on(self) -> None:
        """Raises `Stopped` once the user has cancelled."""
        if self._talk.stopped.is_set():
            raise Stopped

    def run(
        self,
        words: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        temporary: Path | None = None,
        heard: Heard | None = None,
    ) -> Ended:
        """Run a program to its end; each of its lines goes to `heard`, or to the log.

        Raises:
            Stopped: it was ended, with everything that it had started.
            Trouble: it could not be started.
        """
        self.go_on()
        said: dict[str, deque[str]] = {"out": deque(maxlen=MOST_KEPT), "err": deque(maxlen=MOST_KEPT)}
        with Child(words, environment=environment, temporary=temporary) as child:
            for stream, text in self._talk.hear(child):
                said[stream].append(text)
                (heard or self.say)(text)
        self.go_on()
        if child.trouble:
            what, remedy = (
                f"{Path(words[0]).name} could not be started.",
                "Choose the environment again, or make it anew.",
            )
            raise Trouble(what, remedy, "program", str(child.trouble))
        assert child.code is not None
        return Ended(child.code, tuple(said["out"]), tuple(said["err"]))


def working(work: Callable[[Errand], dict[str, Any]]) -> Background:
    """A run of `work` in a thread; what it gives back are the facts of the outcome."""

    def function(talk: Talk) -> Outcome:
        try:
            return Outcome(DONE, facts=work(Errand(talk)))
        except Stopped:
            return Outcome(CANCELLED)
        except Trouble as trouble:
            return failed(trouble)

    return Background(function)


def clear(path: Path, errand: Errand) -> None:
    """Remove a file or a folder with all that is in it, and stop in between if asked to: large ones take a while."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    for entry in list(path.iterdir()):
        errand.go_on()
        clear(entry, errand)
    path.rmdir()
