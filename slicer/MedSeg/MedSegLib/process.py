"""A program that runs in the background, with what it prints."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from MedSegLib import tree

MOST_WAITING = 1 << 22
"""Characters that wait to be fetched; then the program waits until some are."""
BLOCK = 1 << 20
"""Bytes that are read at once, and that the pipe holds where the system lets it. Slicer gives threads of Python their
turn about ten times a second only, and each reading takes one."""
LONGEST_LINE = 1 << 16
"""Characters of what has no line's end; more is cut into several lines."""
MOST_LINES = 1000
"""That are handed out at once."""
NOT_STARTED = 127
"""Exit code in place of one, as a shell has it."""
PIPE_SIZE = 1031
"""Of Linux: F_SETPIPE_SZ, which Python knows from 3.10 on."""
GONE_S = 4.0
"""How long a program that nobody hears any more is waited for."""
LAST_WORDS_S = 1.0
"""How long what a program printed at last is waited for once it is gone."""
OF_SLICER = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""Lists of folders to which Slicer adds its own, whose libraries other programs must not meet."""


class Child:
    """A program, started at once in a thread of its own: nothing here waits for it, and nothing raises.

    Args:
        words: the program and its arguments.
        environment: of variables; None: this process's own. Whatever it is, what Slicer set for its own Python is taken
            out of it.
        temporary: folder for its temporary files; None: where the system keeps them.
    """

    def __init__(
        self, words: Sequence[str], *, environment: Mapping[str, str] | None = None, temporary: Path | None = None
    ):
        self._words = tuple(words)
        self._environment = clean(os.environ if environment is None else environment, temporary)
        self._changed = threading.Condition()
        self._waiting: deque[tuple[str, str]] = deque()
        self._size = 0
        self._tree: tree.Tree | None = None
        self._hurried = False
        self._cancelled = False
        self._code: int | None = None
        self._trouble: Exception | None = None
        threading.Thread(target=self._live, name="medseg-child", daemon=True).start()

    def lines(self) -> list[tuple[str, str]]:
        """What came since the last call, in order: ("out" or "err", text). No more than `MOST_LINES` at once."""
        with self._changed:
            taken = [self._waiting.popleft() for _ in range(min(MOST_LINES, len(self._waiting)))]
            self._size -= sum(len(text) for _, text in taken)
            self._changed.notify_all()
        return taken

    @property
    def code(self) -> int | None:
        """Exit code, once all of the tree is gone and all lines are fetched; None before. -9: signal 9 ended it."""
        with self._changed:
            return None if self._waiting else self._code

    @property
    def trouble(self) -> Exception | None:
        """Why it could not be started at all."""
        return self._trouble

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        """End it, if it has not, and wait until it is gone: whoever hears it goes away, be it by an exception."""
        self.cancel()
        with self._changed:
            self._changed.wait_for(lambda: self._code is not None, timeout=GONE_S)

    def cancel(self) -> None:
        """End it and all that it has started, within two seconds; comes back at once."""
        with self._changed:
            self._cancelled = self._hurried = True
            if self._tree:
                self._tree.end()
            self._changed.notify_all()

    def _live(self) -> None:
        try:
            root = tree.start(self._words, self._environment)
        except (OSError, ValueError) as error:  # ValueError: a NUL within a word
            with self._changed:
                self._trouble, self._code = error, NOT_STARTED
                self._changed.notify_all()
            return
        with self._changed:
            self._tree = root
            if self._cancelled:
                root.end()
        readers = [
            threading.Thread(target=self._read, args=(name, stream), name=f"medseg-{name}", daemon=True)
            for name, stream in (("out", root.process.stdout), ("err", root.process.stderr))
        ]
        for reader in readers:
            reader.start()
        code = root.wait()
        with self._changed:  # what a pipe holds is little: there is no need to wait for whoever fetches lines
            self._hurried = True
            self._changed.notify_all()
        end = time.monotonic() + LAST_WORDS_S
        for reader in readers:  # they go on only where something that was let go on purpose holds the pipe
            reader.join(timeout=max(0.0, end - time.monotonic()))
        with self._changed:
            self._code = code
            self._changed.notify_all()

    def _read(self, name: str, stream: IO[bytes]) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        rest = ""
        with stream, contextlib.suppress(OSError):
            _widen(stream)
            while True:
                data = stream.read1(BLOCK)  # type: ignore[attr-defined]
                *whole, rest = re.split(r"[\r\n]+", rest + decoder.decode(data, not data))
                if len(rest) > LONGEST_LINE or not data:
                    whole, rest = [*whole, rest], ""
                self._keep(name, whole)
                if not data:
                    return

    def _keep(self, name: str, texts: Sequence[str]) -> None:
        parts = (text[at : at + LONGEST_LINE] for text in texts for at in range(0, len(text), LONGEST_LINE))
        with self._changed:
            for part in parts:
                while self._size > MOST_WAITING and not self._hurried:
                    self._changed.wait()
                if self._size > MOST_WAITING and (self._cancelled or self._code is not None):  # nobody wants it
                    return
                self._waiting.append((name, part))
                self._size += len(part)


def _widen(stream: IO[bytes]) -> None:
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(stream.fileno(), PIPE_SIZE, BLOCK)


def clean(environment: Mapping[str, str], temporary: Path | None = None) -> dict[str, str]:
    """The variables for a Python of its own: without Slicer's, which point into Slicer, and with UTF-8 on every system.

    Args:
        temporary: see `Child`.
    """
    kept = {name: value for name, value in environment.items() if not name.upper().startswith("PYTHON")}
    home = kept.get("SLICER_HOME")
    for name in OF_SLICER:
        if home and name in kept:
            folders = [one for one in kept[name].split(os.pathsep) if not _within(one, home)]
            kept[name] = os.pathsep.join(folders)
            if not folders:  # an empty one would mean the current folder
                del kept[name]
    if temporary is not None:
        kept.update(dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary)))
    return {**kept, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}


def _within(path: str, folder: str) -> bool:
    path, folder = (os.path.normcase(os.path.abspath(one)) for one in (path, folder))  # noqa: PTH100 - not resolved
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
