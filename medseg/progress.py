"""Progress: a live bar on a terminal, a line now and then in a log file, a JSON object a line for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from medseg.refusal import Refusal

if TYPE_CHECKING:
    from rich.progress import Progress

SECONDS_BETWEEN_LINES = 10
SECONDS_BEFORE_BAR = 2
SECONDS_BETWEEN_OBJECTS = 0.2
TILES = "network"
"""The stage of a case that comes in tiles."""
ENDS = ("done", "refused", "failed", "cancelled")
WORDS = {
    "": "starting",
    "read": "reading",
    "plan": "planning",
    "prepare": "preparing",
    TILES: "segmenting",
    "clean-up": "cleaning up",
    "judge": "judging",
    "write": "writing",
    "measure": "measuring",
}
"""Stages, as people call them."""
_shown = False
"""Whether a bar is on the terminal: work inside of other work shows none of its own."""


@contextmanager
def counting(what: str, *, total: int) -> Iterator[Callable[[], None]]:
    """Yield a function to call after each of `total` things; it shows how many are done and how long the rest takes.

    Writes to standard error, so that results on standard output stay clean: on a terminal a live bar, for what takes
    longer than two seconds; elsewhere one line at most every ten seconds.
    """
    if sys.stderr.isatty():
        with ExitStack() as stack:
            yield _late_bar(what, total, stack)
        return
    started = said = time.monotonic()
    finished = 0

    def done() -> None:
        nonlocal said, finished
        finished += 1
        now = time.monotonic()
        if now - said > SECONDS_BETWEEN_LINES:
            said = now
            left = (now - started) / finished * (total - finished)
            print(f"{what}: {finished}/{total}, about {left:.0f} s left", file=sys.stderr, flush=True)

    yield done


@contextmanager
def share(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function to call with (done, total), for work that begins anew with each case; see `counting`."""
    if sys.stderr.isatty():
        with _bar() as bar:
            task = bar.add_task(what, total=None)

            def show(done: int, total: int) -> None:
                if done <= (bar.tasks[0].completed or 0):  # the next case
                    bar.reset(task)
                bar.update(task, completed=done, total=total)

            yield show
        return
    said = time.monotonic()

    def say(done: int, total: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said > SECONDS_BETWEEN_LINES:
            said = now
            print(f"{what}: {done}/{total}", file=sys.stderr, flush=True)

    yield say


class Cancelled(Exception):
    """Raised by a function that is told of progress, to end the work: nobody wants its result any more."""


@dataclass(frozen=True)
class Step:
    """Where the work on a case stands.

    Attributes:
        case: its id.
        number, cases: first, second ... of how many.
        stage: what is being done (read, plan, prepare, network, clean-up, write ...), or one of `ENDS`.
        done, total: tiles. `done / total` never gets smaller within a case; total is 0 before it is known.
        megabytes: of the scan, as its voxels lie in memory; 0 before it is read.
        seconds_left: of the tiles, from how fast those of this case were; None before that is known.
    """

    case: str
    number: int
    cases: int
    stage: str
    done: int = 0
    total: int = 0
    megabytes: float = 0.0
    seconds_left: float | None = None

    @property
    def share(self) -> float:
        """Of the tiles, 0 to 1."""
        return self.done / self.total if self.total else float(self.stage == "done")

    def __str__(self) -> str:
        text = f"{self.case} ({self.number} of {self.cases}): {WORDS.get(self.stage, self.stage)}"
        if not self.total:
            return text
        text += f", {100 * self.share:.0f} %"
        if not self.megabytes:  # told by another process, which says no more
            return text
        text += f", {self.done}/{self.total} tiles, {self.share * self.megabytes:.0f} of {self.megabytes:.0f} MB"
        return text if self.seconds_left is None else f"{text}, about {self.seconds_left:.0f} s left"

    def to_json(self) -> dict[str, Any]:
        """As `--progress json` prints it; `done_megabytes` are those under the tiles that are done."""
        left = None if self.seconds_left is None else round(self.seconds_left, 1)
        done = round(self.share * self.megabytes, 1)
        return {**asdict(self), "seconds_left": left, "megabytes": round(self.megabytes, 1), "done_megabytes": done}


class Course:
    """Tells of the steps of one case, and sees to it that what is told is true.

    Attributes:
        megabytes: of the scan, once it is known.
        total: tiles.
    """

    def __init__(self, tell: Callable[[Step], None], case: str, number: int, cases: int):
        self.megabytes, self.total = 0.0, 0
        self._tell, self._who = tell, (case, number, cases)
        self._stage, self._done = "", 0
        self._begun: tuple[float, int] | None = None
        self._left: float | None = None

    def stage(self, name: str) -> None:
        """The case begins a stage, or has come to an end."""
        if name == self._stage:
            return
        self._stage = name
        if name == TILES and self._begun is None:
            self._begun = time.monotonic(), 0
        if name == "done":
            self._done = self.total
        self._left = None
        self._say()

    def tiles(self, done: int, total: int) -> None:
        """So many tiles are done. What is planned anew, with other tiles, goes on from the share that was told."""
        self.stage(TILES)
        if not total:  # nothing to do says nothing of what was done
            return
        now = time.monotonic()
        if self._begun and done > self._begun[1]:
            started, skipped = self._begun
            self._left = (now - started) / (done - skipped) * max(0, total - done)
        if not self._done:  # the first ones may be slow, or only left out: the rate is that of those after them
            self._begun = now, done
        told = -(-self._done * total // self.total) if self.total else 0
        self._done, self.total = min(max(done, told), total), total
        self._say()

    def _say(self) -> None:
        self._tell(Step(*self._who, self._stage, self._done, self.total, self.megabytes, self._left))


@contextmanager
def cases(how: str = "people") -> Iterator[Callable[[Step | str], None]]:
    """Yield a function that shows each `Step` of any number of cases, and messages, on standard error.

    Args:
        how: people, see `counting`; or json, for programs: an object a line, `Step.to_json()` or {"message": ...}; not
            more than five a second, but every change of stage.

    Raises:
        Refusal: neither.
    """
    if how not in ("people", "json"):
        raise Refusal("--progress", found=f"'{how}'", needed="people or json", remedy="choose one of them")
    if how == "json":
        yield _objects()
    elif sys.stderr.isatty():
        with _bar(counted=False) as bar:
            task = bar.add_task("", total=None)

            def show(step: Step | str) -> None:
                if isinstance(step, str):
                    print(step, file=sys.stderr, flush=True)
                else:
                    bar.update(task, description=str(step), completed=step.done, total=step.total or None)

            yield show
    else:
        yield _lines()


def _objects() -> Callable[[Step | str], None]:
    said, former = 0.0, ("", "")

    def say(step: Step | str) -> None:
        nonlocal said, former
        now = time.monotonic()
        if isinstance(step, str):
            print(json.dumps({"message": step}), file=sys.stderr, flush=True)
        elif (step.case, step.stage) != former or step.done == step.total or now - said >= SECONDS_BETWEEN_OBJECTS:
            said, former = now, (step.case, step.stage)
            print(json.dumps(step.to_json()), file=sys.stderr, flush=True)

    return say


def _lines() -> Callable[[Step | str], None]:
    said = time.monotonic()

    def say(step: Step | str) -> None:
        nonlocal said
        now = time.monotonic()
        if isinstance(step, str):
            print(step, file=sys.stderr, flush=True)
        elif now - said > SECONDS_BETWEEN_LINES and step.stage not in ENDS:  # what became of a case is a message
            said = now
            print(step, file=sys.stderr, flush=True)

    return say


def _late_bar(what: str, total: int, stack: ExitStack) -> Callable[[], None]:
    """A function to call after each of `total` things; the bar that it opens closes with `stack`."""
    started, finished = time.monotonic(), 0
    update: Callable[[int], None] | None = None

    def done() -> None:
        nonlocal finished, update
        finished += 1
        if update is None and not _shown and time.monotonic() - started > SECONDS_BEFORE_BAR:
            bar = stack.enter_context(_bar())
            task = bar.add_task(what, total=total)
            update = lambda count: bar.update(task, completed=count)  # noqa: E731 - a bar that there may not be
        if update:
            update(finished)

    return done


@contextmanager
def _bar(*, counted: bool = True) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    global _shown
    bar, text = BarColumn(bar_width=20), TextColumn("{task.description}", markup=False)
    columns = (text, bar, MofNCompleteColumn(), TimeRemainingColumn()) if counted else (bar, text)
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        _shown = True
        try:
            yield progress
        finally:
            _shown = False
