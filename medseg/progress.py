"""Progress that a person can read: a live bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def track(items: Iterable[Item], *, total: int, what: str) -> Iterator[Item]:
    """Yield from `items`, showing how many of `total` are done and how long the rest will take.

    Writes to standard error, so that results on standard output stay clean. On a terminal a live bar (rich);
    elsewhere one line at most every ten seconds.
    """
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            yield from bar.track(items, total=total, description=what)
        return
    started = said = time.monotonic()
    for done, item in enumerate(items):
        yield item
        now = time.monotonic()
        if now - said > 10:
            said = now
            left = (now - started) / (done + 1) * (total - done - 1)
            print(f"{what}: {done + 1}/{total}, about {left:.0f} s left", file=sys.stderr, flush=True)
