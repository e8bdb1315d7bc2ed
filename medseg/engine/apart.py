"""A training in a process of its own: it ends with all its memory, and several devices can be set up anew after it."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from medseg import interrupts
from medseg.interrupts import AGAIN, Interrupted

DEATH = 1
"""prctl's number for the signal that Linux sends to a process whose parent ended."""
_libc = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
Train = Callable[[Path], int]
"""Trains a claimed run folder; the exit code of `medseg train`."""


def train(folder: Path, words: list[str] | None = None) -> int:
    """Run `medseg train` for a run folder that has its recipe.

    The process is in a session of its own, so that Ctrl-C reaches it once, by way of this one; every signal is passed
    on. Where this process is killed, Linux asks it to save and stop.

    Args:
        words: of another command, for tests.

    Returns:
        Its exit code; negative where a signal killed it.

    Raises:
        Interrupted: it was asked to stop, and did, or was done just then.
    """
    command = words or [sys.executable, "-m", "medseg", "train", str(folder / "recipe.yaml"), "--out", str(folder)]
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def pass_on(number: int) -> None:
        if child is None:
            early.append(number)
        else:
            child.send_signal(number)

    with interrupts.requests(pass_on) as asked:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=2,  # the folder's name, which is not what the command that waits here prints
            start_new_session=True,
            preexec_fn=partial(end_with_parent, signal.SIGTERM) if _libc else None,
        )
        for number in early:
            child.send_signal(number)
        code = child.wait()
        if asked():
            raise Interrupted(asked())
    if code in (130, AGAIN):
        raise Interrupted(signal.SIGINT if code == 130 else signal.SIGTERM)
    return code


def ending(code: int) -> str:
    """How a process came to its end, for people."""
    if code >= 0:
        return "was refused" if code == 2 else f"ended with exit code {code}"
    return f"was killed by a signal: {signal.strsignal(-code) or -code}"


def end_with_parent(how: signal.Signals) -> None:
    """Let Linux send this process a signal when the thread that started it ends. Elsewhere nothing is done."""
    if _libc:
        _libc.prctl(DEATH, how)
