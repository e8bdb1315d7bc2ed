"""Progress that a person can read: a live bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

SECONDS_BETWEEN_LINES = 10
SECONDS_BEFORE_BAR = 2
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
def _bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    global _shown
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        _shown = True
        try:
            yield bar
        finally:
            _shown = False
