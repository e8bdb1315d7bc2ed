"""Which Python interpreters this machine has that an environment for medseg could be made of."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from MedSegLib import process

OLDEST = (3, 11)
PATIENCE_S = 10.0
"""For the answer of one interpreter: on a network drive, or the first start of the day, it takes its time."""
MAKERS = (r"Software\Python\PythonCore", r"Software\Python\ContinuumAnalytics")
MOST_INSTALLED = 50
"""Entries of one maker in a registry."""
NAME = re.compile(r"python(3(\.\d+)?)?(\.exe)?", re.IGNORECASE)
QUESTION = """
import json, sys, sysconfig
try:
    import ensurepip, ssl, venv
    lacks = ""
except ImportError as error:
    lacks = error.name or "a part of itself"
print(json.dumps({
    "version": sys.version_info[:3], "bits": 64 if sys.maxsize > 2**32 else 32, "kind": sys.implementation.name,
    "base": getattr(sys, "_base_executable", "") or sys.executable, "lacks": lacks,
    "free": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
}))
"""
HOMES = (
    *(".pyenv/versions/*", ".local/share/uv/python/*", ".local/share/mise/installs/python/*"),
    *("miniconda3", "anaconda3", "miniforge3", "mambaforge", "micromamba"),
    *("miniconda3/envs/*", "anaconda3/envs/*", "miniforge3/envs/*", "mambaforge/envs/*", "micromamba/envs/*"),
    *("AppData/Roaming/uv/python/*", "AppData/Local/Programs/Python/*", ".pyenv/pyenv-win/versions/*"),
)
"""In a user's folder: what version managers and installers put there."""
SYSTEM = (
    *("/usr", "/usr/local", "/opt/homebrew", "/opt/local", "/opt/conda", "/opt/python/*"),
    "/Library/Frameworks/Python.framework/Versions/*",
)


@dataclass(frozen=True)
class Python:
    """An interpreter that answered.

    Attributes:
        path: what to start.
        version: of three numbers.
        slicers: it is the one that this program runs in. Nothing is ever installed into it.
    """

    path: Path
    version: tuple[int, int, int]
    slicers: bool = False

    def __str__(self) -> str:
        return f"Python {'.'.join(map(str, self.version))}, {self.path}" + (" (Slicer's own)" if self.slicers else "")


def found() -> list[Python]:
    """All that are new enough and can make environments, each once; Slicer's own last, before it the others with the
    newest of 3.11 to 3.13 first, because packages come late for the very newest. It takes seconds.
    """
    own = Path(sys.executable).resolve() if sys.executable else None
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(_asked, dict.fromkeys(_candidates())))
    best: dict[Path, Python] = {}
    for path, answer in answers:
        if answer is None or _amiss(path, answer):
            continue
        base = Path(str(answer["base"])).resolve()
        slicers = own in (base, path.resolve())  # a stand-in such as pyenv's may mean another one tomorrow: the base
        best.setdefault(base, Python(path if slicers else base, _three(answer["version"]), slicers))
    return sorted(best.values(), key=_rank)


def amiss(path: Path) -> str:
    """Why no environment can be made of an interpreter, in words; empty if one can."""
    answer = _asked(path)[1]
    return f"{path} does not answer as Python does." if answer is None else _amiss(path, answer)


def homes(root: Path, pattern: str) -> Iterator[Path]:
    """Interpreters of installations whose folders fit a pattern, the last by name first."""
    for home in sorted(root.glob(pattern), reverse=True):
        yield from _in(home if os.name == "nt" else home / "bin")


def environment() -> dict[str, str]:
    """This process's variables without what steers Python elsewhere, and of pip's those in `PIP_KEPT`."""
    kept = {}
    for name, value in os.environ.items():
        upper = name.upper()
        steers = upper.startswith("CONDA_") or upper in ("VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
        if not steers and (upper in PIP_KEPT or not upper.startswith("PIP_")):
            kept[name] = value
    return process.clean(kept)


PIP_KEPT = frozenset(
    f"PIP_{name}"
    for name in (
        *("INDEX_URL", "EXTRA_INDEX_URL", "FIND_LINKS", "NO_INDEX", "TRUSTED_HOST", "CERT", "CLIENT_CERT", "PROXY"),
        *("CONFIG_FILE", "CONSTRAINT", "CACHE_DIR", "NO_CACHE_DIR", "KEYRING_PROVIDER", "DEFAULT_TIMEOUT", "TIMEOUT"),
        *("RETRIES", "NO_INPUT", "DISABLE_PIP_VERSION_CHECK"),
    )
)
"""What says where packages come from, with proxies and certificates: hospitals have mirrors. What would put packages
elsewhere, or change which are chosen, is not among them."""


def _rank(one: Python) -> tuple[bool, bool, tuple[int, ...]]:
    return one.slicers, one.version >= (3, 14), tuple(-number for number in one.version)


def _three(numbers: Iterable[Any]) -> tuple[int, int, int]:
    major, minor, micro = (int(number) for number in numbers)
    return major, minor, micro


def _amiss(path: Path, answer: dict[str, Any]) -> str:
    version = _three(answer["version"])
    said = ".".join(map(str, version))
    if version[:2] < OLDEST:
        return f"{path} is Python {said}; medseg needs 3.11 or newer."
    if answer["kind"] != "cpython" or answer["free"]:
        return f"{path} is {'a free-threaded Python' if answer['free'] else answer['kind']}; PyTorch needs CPython."
    if answer["bits"] != 64:
        return f"{path} is a 32-bit Python; PyTorch needs one of 64 bits."
    if answer["lacks"]:
        return (
            f"{path} cannot make environments: it lacks {answer['lacks']} (Debian, Ubuntu: apt install python3-venv)."
        )
    return ""


def _asked(path: Path) -> tuple[Path, dict[str, Any] | None]:
    """What an interpreter says of itself; None: nothing, or not in time."""
    words = [str(path), "-I", "-c", QUESTION]
    try:
        said = subprocess.run(
            words,
            env=environment(),
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
            stdin=subprocess.DEVNULL,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        answer = json.loads(said.stdout.decode("utf-8", "replace"))
        return path, answer if {"version", "bits", "kind", "base", "lacks", "free"} <= set(answer) else None
    except (OSError, subprocess.SubprocessError, ValueError, TypeError):
        return path, None


def _candidates() -> Iterator[Path]:
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        yield from _in(Path(folder)) if folder else ()
    for pattern in SYSTEM if os.name != "nt" else ():
        yield from homes(Path("/"), pattern.lstrip("/"))
    for pattern in HOMES:
        yield from homes(Path.home(), pattern)
    yield from _of_windows() if os.name == "nt" else ()
    if sys.executable:
        yield Path(sys.executable)


def _in(folder: Path) -> list[Path]:
    """Interpreters directly in a folder; of those that are one file under several names, one. The files of no size in
    WindowsApps are doors to a shop."""
    try:
        names = sorted((entry for entry in folder.iterdir() if NAME.fullmatch(entry.name)), key=lambda path: path.name)
        real = {path.resolve(): path for path in reversed(names) if path.is_file() and path.stat().st_size > 0}
    except OSError:  # a folder of PATH that is not there, or that nobody may read
        return []
    return list(real.values())


def _of_windows() -> Iterator[Path]:
    """Those that installers wrote into the registry (PEP 514)."""
    if sys.platform != "win32":
        return
    import winreg

    makers = [(root, maker) for root in (winreg.HKEY_CURRENT_USER, winreg.HKEY_LOCAL_MACHINE) for maker in MAKERS]
    for root, maker in makers:
        for number in range(MOST_INSTALLED):
            # there are no more, or one was left half
            with suppress(OSError), winreg.OpenKey(root, maker) as key:
                yield Path(winreg.QueryValue(key, winreg.EnumKey(key, number) + r"\InstallPath")) / "python.exe"
