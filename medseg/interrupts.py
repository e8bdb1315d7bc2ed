"""Asked to end: a service manager's SIGTERM is taken as Ctrl-C is, and leaves things as tidy."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived."""


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
