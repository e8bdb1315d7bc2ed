"""What is installed, and what a name stands for; without importing what runs models."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medseg.boundary import parsing
from medseg.refusal import Refusal
from medseg.service.settings.site import Site

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
RECORD, IN_USE, FOLDS = "installed.json", "in-use", "folds.json"


@dataclass(frozen=True)
class Installed:
    """A version of a model.

    Attributes:
        used: whether the bare name stands for it.
        weights: sha256 of the weights, as the record of a prediction names them; of several folds, over all of theirs.
        files: file -> sha256, as they were when it was installed.
    """

    name: str
    version: str
    folder: Path
    used: bool
    licence: str
    intended_use: str
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    weights: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class Broken:
    """A version that cannot be read.

    Attributes:
        found: what is wrong with it, with the paths of files.
    """

    name: str
    version: str
    found: str


def at(site: Site) -> Path:
    """The folder of a site's models."""
    return site.at(site.data) / "models"


def find(folder: Path, name: str, *, beside: Path = Path()) -> Path:
    """The folder of a model: of the version in use ("liver"), of one ("liver@1.2"), or a run folder by its path.

    Args:
        folder: of the models, see `at`.
        beside: where relative paths begin, for a site the folder of its file.

    Returns:
        An absolute path, which goes on meaning the same version whatever is in use later.

    Raises:
        Refusal: nothing of this name.
    """
    known, _, version = name.partition("@")
    if NAME.fullmatch(known) and (folder / known).is_dir():
        return version_of(folder, known, version or in_use(folder, known)).absolute()
    path = (beside / name).absolute()
    if (path / "recipe.yaml").is_file() or (path / FOLDS).is_file() or (path.suffix == ".zip" and path.is_file()):
        return path
    raise Refusal(
        f"model {name}",
        found=f"none of this name in {folder}, and no run at {path}",
        needed=f"one of: {', '.join(_names(folder)) or 'there are none'}; or the path of a run",
        remedy="see `medseg models list`, or install it by `medseg models install`",
        code="model",
    )


def in_use(folder: Path, name: str) -> str:
    """The version that a bare name stands for; empty where none does."""
    path = folder / name / IN_USE
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def listed(folder: Path) -> list[Installed]:
    """Every version of every model that can be read, in the order of their names; see `broken` for the others."""
    return [one for one in _each(folder) if isinstance(one, Installed)]


def broken(folder: Path) -> list[Broken]:
    """Those versions that cannot be read, in the order of their names."""
    return [one for one in _each(folder) if isinstance(one, Broken)]


def called(folder: Path, path: str) -> str:
    """What people call a model by the path that `find` has given, in this program or in one that came to the folder
    another way: NAME@VERSION, or the name of a run folder."""
    version = Path(path)
    inside = version.parent.parent.resolve() == folder.resolve()
    return f"{version.parent.name}@{version.name}" if inside else version.name


def damaged(model: Installed) -> list[str]:
    """Files that are not as they were installed, with what is wrong with each."""
    wrong = []
    for name, sha256 in model.files.items():
        path = model.folder / name
        if not path.is_file():
            wrong.append(f"{name} is gone")
        elif sha256_of(path) != sha256:
            wrong.append(f"{name} has changed")
    return wrong


def _each(folder: Path) -> Iterator[Installed | Broken]:
    for name in _names(folder):
        for version in versions(folder / name):
            try:
                yield read(folder, name, version)
            except Refusal as refusal:
                yield Broken(name, version, f"{refusal.where}: {refusal.found}")


def _names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.glob("*") if NAME.fullmatch(one.name) and versions(one))


def versions(folder: Path) -> list[str]:
    """Of one model, by its folder."""
    return sorted(one.parent.name for one in folder.glob(f"*/{RECORD}") if NAME.fullmatch(one.parent.name))


def version_of(folder: Path, name: str, version: str) -> Path:
    """The folder of a version.

    Raises:
        Refusal: it is not installed.
    """
    path = folder / name / version
    if NAME.fullmatch(name) and NAME.fullmatch(version) and (path / RECORD).is_file():
        return path
    there = ", ".join(f"{name}@{one}" for one in versions(folder / name)) if NAME.fullmatch(name) else ""
    raise Refusal(
        f"model {name}@{version}" if version else f"model {name}",
        found="no such version" if version else "no version of it in use",
        needed=f"one of: {there or 'there are none'}",
        remedy="see `medseg models list`; install it by `medseg models install`, or choose by `medseg models use`",
        code="model",
    )


def read(folder: Path, name: str, version: str) -> Installed:
    """What is said of a version where it lies.

    Raises:
        Refusal: it is not installed, or not whole.
    """
    path = version_of(folder, name, version)
    record = _json(path / RECORD)
    parts = path if (path / "recipe.yaml").is_file() else next((one.parent for one in path.glob("*/recipe.yaml")), path)
    with parsing(parts, needed="a model as it was installed", remedy="install it again under another version"):
        recipe = yaml.safe_load((parts / "recipe.yaml").read_text(encoding="utf-8"))
        channels = _json(parts / "plan.json")["channels"]
        labels = tuple(one["name"] for one in _json(parts / "labels.json")["labels"])
        return Installed(
            name,
            version,
            path,
            in_use(folder, name) == version,
            str(recipe.get("licence", "not stated")),
            str(recipe.get("intended_use", "not stated")),
            tuple(channels),
            labels,
            str(record["weights"]),
            {str(file): str(sha256) for file, sha256 in record["files"].items()},
        )


def _json(path: Path) -> Any:
    with parsing(path, needed="the file as it was installed", remedy="install the model again under another version"):
        return json.loads(path.read_text(encoding="utf-8"))


def sha256_of(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
