"""A process and everything that it starts: it ends as a whole, on request, or when this program is gone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import uuid
from collections.abc import Mapping, Sequence
from typing import Protocol

MARK = "MEDSEG_RUN"
"""A variable whose value all processes of one tree inherit, wherever they move: this is how they are found again."""
GUARD = r"""
group=$1
read -r mark
read -r word
marked() {
    [ ${#mark} -eq 32 ] || return 0
    if [ -r /proc/self/environ ]; then
        grep -ls "$mark" /proc/[0-9]*/environ | cut -d/ -f3
    else
        ps -axEww -o pid=,command= | while read -r pid rest; do
            case $rest in *"$mark"*) echo "$pid" ;; esac
        done
    fi
}
group_of() {
    if [ -r /proc/self/stat ]; then
        sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f3
    else
        ps -o pgid= -p "$1" | tr -d ' '
    fi
}
elsewhere() {
    for pid in $(marked); do
        [ "$(group_of "$pid")" = "$group" ] || echo "$pid"
    done
}
if [ "$word" != ended ]; then
    kill -s TERM -- "-$group" $(elsewhere) 2>/dev/null
fi
turn=0
while [ $turn -lt 8 ] && [ -n "$(marked)" ]; do
    sleep 0.1
    turn=$((turn + 1))
done
if [ "$word" != ended ]; then
    kill -s KILL -- "-$group" 2>/dev/null
fi
turn=0
while [ $turn -lt 20 ] && [ -n "$(marked)" ]; do
    kill -s KILL -- $(marked) 2>/dev/null
    sleep 0.02
    turn=$((turn + 1))
done
"""
"""What watches over a tree on Linux and macOS. It reads a pipe that this program holds. The line `ended` means that the
first process has ended by itself: what is left of the tree gets a moment, and is killed. The end of the pipe means that
the tree is not wanted any more, or that this program is gone, however it went: the tree is asked to end, each process
once, as a second signal would cut short one that tidies up; and it is killed after about a second. The mark comes
through the pipe, because what is in the guard's own words would be found, too; where it never came, nobody is looked
for, as every process has an empty one."""


class Tree(Protocol):
    """One process and its descendants."""

    process: subprocess.Popen[bytes]

    def end(self) -> None:
        """Have all of it end: first asked, where the system can ask, then killed. Comes back at once."""
        ...

    def wait(self) -> int:
        """Wait until all of it is gone. Of what the first process leaves behind nothing stays. Returns its exit code:
        -9 where signal 9 ended it."""
        ...


def start(words: Sequence[str], environment: Mapping[str, str]) -> Tree:
    """Start a program whose output is read from `process.stdout` and `process.stderr`; it has no input.

    Raises:
        OSError, ValueError: it cannot be started.
    """
    if os.name == "nt":
        from MedSegLib import tree_windows

        return tree_windows.Jobbed(words, environment)
    return _Guarded(words, environment)


class _Guarded:
    def __init__(self, words: Sequence[str], environment: Mapping[str, str]):
        self._mark, self._path = uuid.uuid4().hex, environment.get("PATH", os.defpath)
        self.process = subprocess.Popen(
            list(words),
            env={**environment, MARK: self._mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._lock = threading.Lock()
        try:
            self._guard = self._new_guard()
        except OSError:
            self.process.kill()
            self.process.wait()
            raise

    def end(self) -> None:
        with self._lock:
            if self.process.poll() is None:
                self._see_to_guard()
            self._close()

    def wait(self) -> int:
        code = self.process.wait()
        with self._lock:
            if not self._pipe.closed:
                self._see_to_guard()
                _tell(self._guard, "ended\n")
        self._guard.wait()
        with self._lock:
            self._close()
        return code

    def _new_guard(self) -> subprocess.Popen[bytes]:
        guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "medseg-guard", str(self.process.pid)],
            env={"PATH": self._path},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        _tell(guard, f"{self._mark}\n")
        return guard

    def _see_to_guard(self) -> None:
        """Another one takes the place of one that somebody killed; where there can be none, the group is killed."""
        if self._guard.poll() is None:
            return
        self._close()
        try:
            self._guard = self._new_guard()
        except OSError:
            if self.process.poll() is None:
                with contextlib.suppress(OSError):
                    os.killpg(self.process.pid, signal.SIGKILL)

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            self._pipe.close()

    @property
    def _pipe(self):  # type: ignore[no-untyped-def]
        return self._guard.stdin


def _tell(guard: subprocess.Popen[bytes], line: str) -> None:
    assert guard.stdin
    with contextlib.suppress(OSError):  # a guard that somebody killed
        guard.stdin.write(line.encode())
        guard.stdin.flush()
