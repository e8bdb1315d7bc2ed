"""An environment with medseg in a folder of the user's choice: made, recognised, removed. The Python that this runs in
gets nothing installed, and neither does the one that the environment is made of.

```
FOLDER/medseg-environment.json     what was made here, and whether it is complete
FOLDER/environment/                the virtual environment
FOLDER/python/                     only where uv fetched a Python
FOLDER/temporary/                  what pip unpacks, while it works
```
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from MedSegLib import packages
from MedSegLib import pythons as interpreters
from MedSegLib.background import Background
from MedSegLib.errand import Errand, clear, working
from MedSegLib.packages import must, silent
from MedSegLib.pythons import Python
from MedSegLib.trouble import Trouble

STAMP = "medseg-environment.json"
MAKER = "MedSeg extension for 3D Slicer"
INSIDE, FETCHED, TEMPORARY = "environment", "python", "temporary"
OLDEST = (0, 1)
FETCHED_VERSION = "3.12"
GB = 1e9
UV_ADDRESS = "https://github.com/astral-sh/python-build-standalone"


def pythons() -> list[Python]:
    """Interpreters that an environment can be made of, the best first. It takes seconds; see `find_pythons`."""
    return interpreters.found()


def find_pythons() -> Background:
    """The same in the background: `facts["pythons"]`."""
    return working(lambda errand: {"pythons": pythons()})


def python_address() -> str:
    """Where uv would fetch a Python from, for the question whether it may."""
    return os.environ.get("UV_PYTHON_INSTALL_MIRROR") or UV_ADDRESS


def install(
    folder: Path,
    *,
    python: Path | None,
    source: str,
    torch: str = packages.USUAL,
    wheels: Path | None = None,
    uv: Path | None = None,
) -> Background:
    """Make an environment. A folder that was left unfinished is made anew; one that is not ours is not touched.

    Args:
        folder: empty, not there yet, or left unfinished.
        python: what it is made of; None: uv fetches one, which the user must have agreed to.
        source: a wheel, a folder with medseg's source, or `medseg` with a version from the index. A `constraints.txt`
            beside the wheel, or in the folder, decides the versions of the other packages.
        torch: `usual`, or the name of one of PyTorch's own indexes: `cpu`, `cu128`, ...
        wheels: a folder of wheels that everything is taken from, without a network.
        uv: where it is not on PATH.

    The outcome's facts: `program` (words that start medseg), `version`, `folder`.
    """
    wish = _Wish(folder.expanduser().absolute(), python, source, torch, wheels, uv)
    return working(lambda errand: _made(errand, wish))


def existing(place: Path) -> Background:
    """Look at an environment that exists: a folder made here, a virtual or conda environment, or the program itself.

    The outcome's facts: as of `install`.
    """
    return working(lambda errand: _facts(errand, place.expanduser().absolute()))


def remove(folder: Path) -> Background:
    """Remove what `install` made in a folder, and the folder if nothing else is in it."""
    return working(lambda errand: _removed(errand, folder.expanduser().absolute()))


def stamp_of(folder: Path) -> dict[str, Any]:
    """What a folder says of itself: `state` (unfinished, complete), `source`, `version`; empty: it is not ours."""
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) and stamp.get("made_by") == MAKER else {}


@dataclass(frozen=True)
class _Wish:
    """See `install`."""

    folder: Path
    python: Path | None
    source: str
    torch: str
    wheels: Path | None
    uv: Path | None


def _made(errand: Errand, wish: _Wish) -> dict[str, Any]:
    folder, inner = wish.folder, wish.folder / INSIDE
    errand.at(0, "looking at the folder")
    _ours_or_empty(folder)
    packages.wanted(wish.source)
    _room(folder, packages.space_gb(wish.torch))
    why = interpreters.amiss(wish.python) if wish.python else ""
    if why:
        raise Trouble(why, "Choose another Python, or let uv fetch one.", "python")
    folder.mkdir(parents=True, exist_ok=True)
    _stamp(folder, {"state": "unfinished", "source": wish.source})
    for name in (INSIDE, FETCHED, TEMPORARY):
        clear(folder / name, errand)
    errand.at(2, "making an environment")
    base = wish.python or _fetched(errand, wish)
    must(errand, [str(base), "-I", "-m", "venv", str(inner)], "The environment could not be made.")
    temporary = folder / TEMPORARY
    temporary.mkdir()
    python = inner / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    packages.install(errand, python, wish.source, torch=wish.torch, wheels=wish.wheels, temporary=temporary)
    clear(temporary, errand)
    errand.at(90, "trying what was made")
    facts = _answered(errand, _program(inner), inner)
    must(errand, [*facts["program"], "--help"], "medseg was installed, but does not start.", heard=silent)
    errand.at(93, "trying PyTorch")
    must(
        errand,
        [*facts["program"], "info", "unet"],
        "medseg was installed, but its PyTorch does not start.",
        heard=silent,
    )
    _stamp(folder, {"state": "complete", "source": wish.source, "version": facts["version"]})
    return {**facts, "folder": folder}


def _fetched(errand: Errand, wish: _Wish) -> Path:
    """A Python that uv brings, within the folder: nothing is linked or registered anywhere else."""
    program = str(wish.uv) if wish.uv else shutil.which("uv")
    if not program:
        what = "No Python was chosen, and uv, which could fetch one, was not found."
        raise Trouble(what, "Install Python 3.12 from python.org, or uv from docs.astral.sh/uv.", "python")
    errand.say(f"uv fetches a Python from {python_address()}")
    place = wish.folder / FETCHED
    own = {"UV_PYTHON_INSTALL_DIR": str(place), "UV_PYTHON_INSTALL_BIN": "0", "UV_PYTHON_INSTALL_REGISTRY": "0"}
    words = [program, "python", "install", FETCHED_VERSION]
    must(errand, words, "uv could not fetch a Python.", environment={**interpreters.environment(), **own})
    found = next((one for one in interpreters.homes(place, "*") if not interpreters.amiss(one)), None)
    if found is None:
        raise Trouble("uv brought no Python that can be used.", "Install Python 3.12 from python.org.", "python")
    return found


def _room(folder: Path, needed_gb: float) -> None:
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free_gb = shutil.disk_usage(there).free / GB
    if free_gb < needed_gb:
        what = f"The disk has {free_gb:.1f} GB free; an environment needs {needed_gb:.0f} GB while it is made."
        raise Trouble(what, "Free some room, or choose a folder on another disk.", "disk-full")


def _ours_or_empty(folder: Path) -> None:
    stamp = stamp_of(folder)
    if folder.is_file():
        what, remedy = "This is a file, not a folder.", "Choose a folder that is empty, or a new one."
    elif stamp.get("state") == "complete":
        what = f"The folder has a finished environment already (medseg {stamp.get('version', '')})."
        remedy = "Use it as it is, or remove it first."
    elif not stamp and folder.is_dir() and any(folder.iterdir()):
        what = "The folder holds files that were not made here, and nothing is written over them."
        remedy = "Choose an empty folder, or a new one."
    else:
        return
    raise Trouble(what, remedy, "folder")


def _stamp(folder: Path, facts: Mapping[str, str]) -> None:
    partial = folder / f".{STAMP}.part"
    partial.write_text(json.dumps({"made_by": MAKER, **facts}, indent=2) + "\n", encoding="utf-8")
    partial.replace(folder / STAMP)


def _removed(errand: Errand, folder: Path) -> dict[str, Any]:
    stamp = stamp_of(folder)
    if not stamp:
        what = "The folder was not made here, so nothing in it is removed."
        raise Trouble(what, "Remove it by hand if you are sure.", "folder")
    errand.at(0, "removing the environment")
    _stamp(folder, {**stamp, "state": "unfinished"})  # from here on it is none
    for name in (INSIDE, FETCHED, TEMPORARY):
        clear(folder / name, errand)
    (folder / STAMP).unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
    return {}


def _facts(errand: Errand, place: Path) -> dict[str, Any]:
    stamp = _stamp_over(place)
    if stamp.get("state") == "unfinished":
        what = "The environment in this folder is unfinished: making it was cancelled or failed."
        raise Trouble(what, "Make it anew; the same folder may be used.", "unfinished")
    return _answered(errand, _program(place / INSIDE if stamp_of(place) else place), place)


def _stamp_over(place: Path) -> dict[str, Any]:
    """The stamp of a folder that was made here, or of the one whose environment this is or lies in."""
    real = place.resolve()
    made = (folder for folder in real.parents if folder / INSIDE in (real, *real.parents))
    return next(filter(None, map(stamp_of, (real, *made))), {})


def _answered(errand: Errand, program: Path, place: Path) -> dict[str, Any]:
    said = must(errand, [str(program), "--version"], "This program does not answer as medseg does.", heard=silent)
    version = re.search(r"medseg ((\d+)\.(\d+)\S*)", said)
    if not version:
        what = "This program is not medseg."
        raise Trouble(what, "Choose the program medseg, or the folder of its environment.", "program")
    if (int(version[2]), int(version[3])) < OLDEST:
        needed = ".".join(map(str, OLDEST))
        what = f"{version[0]} is too old for this module, which needs {needed} or newer."
        raise Trouble(what, "Bring it up to date with pip, or make a new environment.", "version")
    return {"program": [str(program)], "version": version[1], "folder": place}


def _program(place: Path) -> Path:
    """The program medseg: the file itself, or that of an environment."""
    if place.is_file():
        return place
    name = "Scripts/medseg.exe" if os.name == "nt" else "bin/medseg"
    if (place / name).is_file():
        return place / name
    what = "No medseg was found in this folder." if place.exists() else "There is no such folder."
    remedy = "Choose an environment's folder, or the program medseg itself, or make an environment."
    raise Trouble(what, remedy, "program")
