"""The same on Windows: a job object holds the tree, and the system ends all of it when the job's handle is closed.

That also happens when this program dies.
"""

from __future__ import annotations

import ctypes
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import Any

CREATE_NEW_PROCESS_GROUP, CREATE_NO_WINDOW = 0x200, 0x8000000
EXTENDED_LIMITS, KILL_ON_CLOSE = 9, 0x2000
OF_WINDOWS: Any = ctypes
"""What ctypes has on Windows alone is not known to a type checker elsewhere."""


class Basic(ctypes.Structure):
    """JOBOBJECT_BASIC_LIMIT_INFORMATION."""

    _fields_ = [
        ("process_time", ctypes.c_int64),
        ("job_time", ctypes.c_int64),
        ("flags", ctypes.c_uint32),
        ("smallest_set", ctypes.c_size_t),
        ("largest_set", ctypes.c_size_t),
        ("processes", ctypes.c_uint32),
        ("affinity", ctypes.c_size_t),
        ("priority", ctypes.c_uint32),
        ("scheduling", ctypes.c_uint32),
    ]


class Extended(ctypes.Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION."""

    _fields_ = [
        ("basic", Basic),
        ("counters", ctypes.c_uint64 * 6),
        ("memory", ctypes.c_size_t * 4),
    ]


class Jobbed:
    """A tree within a job. Nothing on Windows asks a program without a window to end, so that it is ended at once."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str]):
        self._lock = threading.Lock()
        self._job: int | None = _new_job()
        try:
            self.process = subprocess.Popen(
                list(words),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                creationflags=CREATE_NEW_PROCESS_GROUP | CREATE_NO_WINDOW,
            )
            _put(self.process, self._job)
        except (OSError, ValueError):
            self.end()
            raise

    def end(self) -> None:
        with self._lock:
            if self._job is not None:
                _close(self._job)
                self._job = None

    def wait(self) -> int:
        code = self.process.wait()
        self.end()
        return code


def _new_job() -> int:
    system = _system()
    job = system.CreateJobObjectW(None, None)
    limits = Extended()
    limits.basic.flags = KILL_ON_CLOSE
    if not job or not system.SetInformationJobObject(job, EXTENDED_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits)):
        raise OF_WINDOWS.WinError(OF_WINDOWS.get_last_error())
    return int(job)


def _put(process: Any, job: int) -> None:
    """Into the job. What a process starts from then on is in it, too; in the moment before, none has started any."""
    if not _system().AssignProcessToJobObject(job, int(process._handle)):
        error = OF_WINDOWS.WinError(OF_WINDOWS.get_last_error())
        if process.poll() is None:  # one that has ended already needs no job
            process.kill()
            raise error


def _close(job: int) -> None:
    _system().CloseHandle(job)


def _system() -> Any:
    """The system's functions, told what they take: a handle is wider than the number that ctypes would take it for."""
    system = OF_WINDOWS.WinDLL("kernel32", use_last_error=True)
    handle, number = ctypes.c_void_p, ctypes.c_uint32
    system.CreateJobObjectW.argtypes, system.CreateJobObjectW.restype = [ctypes.c_void_p, ctypes.c_wchar_p], handle
    system.SetInformationJobObject.argtypes = [handle, ctypes.c_int, ctypes.c_void_p, number]
    system.AssignProcessToJobObject.argtypes = [handle, handle]
    system.CloseHandle.argtypes = [handle]
    return system
