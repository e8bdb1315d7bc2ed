"""Files that nobody has looked at yet, read by a process of its own: one that hangs or kills a parser or a decoder must
not take the one with it that routes all studies, or takes them in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from medseg.dicom.sweep import Outcome
from medseg.refusal import Refusal

LIMIT_S = 300.0
"""Longest time for the headers of one study; ten thousand files take a tenth of it."""
LIMIT_BYTES = 4 * 2**30
"""Most address space of the process."""
END_S, GLANCE_S = 5.0, 1.0
Versions = Sequence[tuple[Path, Sequence[Path]]]


class Reading:
    """A process that reads files; started when it is first needed, and again when one was lost. It ends with this
    one, however that ends, because its connection does."""

    def __init__(self, limit_s: float = LIMIT_S):
        self._limit_s = limit_s
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def look(self, folder: Path) -> list[Outcome]:
        """The header of each DICOM file in a folder, or why there is none.

        Raises:
            Refusal: there is no DICOM file; with code timeout or crashed: reading took too long, or too much memory.
        """
        found: list[Outcome] = self._answer(folder, folder)
        return found

    def alike(self, folder: Path, versions: Versions) -> bool:
        """Whether each file is one object with any of its former versions, however it is written, see `dicom.alike`.

        Args:
            folder: what messages name.
            versions: each file, and its former versions.

        Raises:
            Refusal: with code timeout or crashed, as `look`.
        """
        return bool(self._answer(folder, list(versions)))

    def _answer(self, folder: Path, question: Path | Versions) -> Any:
        found, code = f"files that took longer than {self._limit_s:g} s", "timeout"
        try:
            connection = self._connected()
            connection.send(question)
            if connection.poll(self._limit_s):
                answer = connection.recv()
                if isinstance(answer, Refusal):
                    raise answer
                return answer
        except (EOFError, OSError):
            found, code = "the end of the program that read its files", "crashed"
        self.close()
        raise Refusal(
            folder,
            found=found,
            needed="DICOM files of an ordinary size",
            remedy="look at the files with `medseg dicom check`, and send the study again",
            code=code,
        )

    def close(self) -> None:
        """End the process."""
        if self._connection:
            self._connection.close()
        if self._process:
            self._process.kill()
            self._process.wait(END_S)
        self._process = self._connection = None

    def _connected(self) -> Connection:
        if self._connection is None or self._process is None or self._process.poll() is not None:
            self.close()
            self._connection, theirs = Pipe()
            with theirs:
                number = theirs.fileno()
                words = [sys.executable, "-m", __name__, str(number)]
                self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=2, pass_fds=[number])
        return self._connection


def main(number: int) -> None:
    """Answer to the process behind a connection, until that ends."""
    for one in (signal.SIGINT, signal.SIGTERM):  # sent to all of a group; what is being read is waited for
        signal.signal(one, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    _limit_memory()
    with Connection(number) as connection:
        while True:
            try:
                question = connection.recv()
            except EOFError:
                return
            try:
                connection.send(_alike(question) if isinstance(question, list) else _look(question))
            except Refusal as refusal:
                connection.send(refusal)
            except BrokenPipeError:
                return


def _look(folder: Path) -> list[Outcome]:
    from medseg.dicom import archive, sweep

    return sweep.look(archive.gather([folder]), workers=0)


def _alike(versions: Versions) -> bool:
    from medseg.dicom import alike

    try:
        return all(any(alike.alike(former, later) for former in formers) for later, formers in versions)
    except Exception:  # whatever parsers and decoders make of a file: then nobody knows that it says the same
        return False


def _end_with_parent(parent: int) -> None:
    """Also in the middle of a file that a parser does not get away from."""
    while os.getppid() == parent:
        time.sleep(GLANCE_S)
    os._exit(1)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not on every system
        return
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))


if __name__ == "__main__":
    main(int(sys.argv[1]))
