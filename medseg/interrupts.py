"""Asked to end: a service manager's SIGTERM is taken as Ctrl-C is, and leaves things as tidy.

Training goes further: what it is asked by any of `SIGNALS` waits until the step is done and the state is saved.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN = 75
"""Exit code of what a cluster stopped and should start again: EX_TEMPFAIL of sysexits.h, "try again later"."""
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""Windows has no SIGUSR1."""


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived."""


class Interrupted(KeyboardInterrupt):
    """Asked to stop by the signal `number`, and the state is saved."""

    def __init__(self, number: int = signal.SIGINT):
        super().__init__(number)
        self.number = number


def exit_code(stop: Interrupted) -> int:
    """Of a training that was stopped and can go on."""
    return 130 if stop.number == signal.SIGINT else AGAIN


@contextmanager
def by_sigterm() -> Iterator[None]:
    """Within it, SIGTERM raises `Terminated`. Signals belong to the main thread; in others nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated

    former = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


@contextmanager
def requests(pass_on: Callable[[int], None] | None = None) -> Iterator[Callable[[], int]]:
    """Turn the first of `SIGNALS` into a question to be asked between steps: its number, or 0.

    A second Ctrl-C stops at once. The others may come twice without harm, because a cluster sends them to every process
    and its launcher passes them on. Signals belong to the main thread; elsewhere the answer is always 0.

    Args:
        pass_on: is called with every signal, and then nothing stops here at once: another process does the work.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if pass_on:
            pass_on(number)
        elif asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)

    former = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield lambda: asked[0] if asked else 0
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def sheltered() -> Iterator[None]:
    """Processes that are started within it never see `SIGNALS`, which terminals and clusters send to whole groups: the
    parent, which is one step from stopping, still needs them. What arrives meanwhile waits."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    former = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        resource_tracker.ensure_running()  # a helper of workers, whose start lets SIGINT and SIGTERM through again
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
