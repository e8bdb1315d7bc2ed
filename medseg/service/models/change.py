"""Changes to what is installed: each is there wholly or not at all, and made by one process at a time."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from medseg import atomic
from medseg.boundary import parsing
from medseg.refusal import Refusal
from medseg.service.models.shelf import (
    FOLDS,
    IN_USE,
    NAME,
    RECORD,
    Installed,
    damaged,
    in_use,
    read,
    sha256_of,
    version_of,
    versions,
)

COMPONENTS = ("model", "loss", "dataset", "postprocess", "metrics")
"""Of a recipe: a name with a dot among them is a module outside of medseg, which is run."""
WAIT_S = 60.0
"""How long a change of a model waits for another one to end."""
SHOWN = 12
"""Characters of the checksum that name a version if nobody does."""


def install(folder: Path, run: Path, name: str, version: str = "", *, code: bool = False) -> Installed:
    """Copy what prediction needs of a run, once its checksums are found to be right. It appears complete or not at all.
    The first version of a model is in use at once; later ones when `use` says so.

    Args:
        run: run folder, zipped run, or folder of folds.
        version: empty: the beginning of its weights' checksum.
        code: let in a recipe that names modules outside of medseg: such a model is a program.

    Raises:
        Refusal: no such run, a damaged one, one that is a program, one that needs another run, or this version is there
            with other content.
    """
    _refuse_name("model", name)
    from medseg.engine import checkpoint
    from medseg.engine.folds import run_folders
    from medseg.engine.run import EXTRAS, PARTS, Run

    members = [Run.open(path) for path in run_folders([run])]
    for member in members:
        recipe = _recipe(member.path("recipe.yaml"))
        _refuse_part(member.path("recipe.yaml"), recipe)
        if not code:
            _refuse_program(member.path("recipe.yaml"), recipe)
    weights = []
    for member in members:  # all that is read when it is used, so that a run that is no model is found here
        member.recipe, member.plan, member.table  # noqa: B018
        weights.append(checkpoint.load(member.path("weights.safetensors"))[2])
    whole = weights[0] if len(weights) == 1 else hashlib.sha256("".join(weights).encode()).hexdigest()
    version = version or whole[:SHOWN]
    _refuse_name("version", version)
    several = (run / FOLDS).is_file()
    wanted = {f"{m.folder.name}/{part}" if several else part: m.path(part) for m in members for part in PARTS + EXTRAS}
    if several:
        wanted[FOLDS] = run / FOLDS
    with _changing(folder / name):
        files = _copied({to: path for to, path in wanted.items() if path.is_file()}, folder / name, version, whole)
        if not in_use(folder, name):
            _use(folder / name, version)
    installed = read(folder, name, version)
    if dict(installed.files) != files:
        raise Refusal(
            installed.folder,
            found="another model under this name and version",
            needed="a version of its own for each",
            remedy="install it under another version; routes name either",
        )
    return installed


def use(folder: Path, name: str, version: str) -> str:
    """Let the bare name stand for a version from now on; jobs that have been routed keep theirs.

    Returns:
        The version before it.

    Raises:
        Refusal: it is not installed, or not as it was installed.
    """
    damage = damaged(read(folder, name, version))
    if damage:
        raise _unlike(folder / name / version, damage)
    with _changing(folder / name):
        version_of(folder, name, version)
        before = in_use(folder, name)
        _use(folder / name, version)
    return before


def remove(folder: Path, name: str, version: str, *, dry: bool = False) -> None:
    """Remove a version that is not in use. Whoever calls sees to it that no job needs it.

    Args:
        dry: only find out whether it may be.

    Raises:
        Refusal: it is not installed, or it is in use and others are there.
    """
    with _changing(folder / name):
        path = version_of(folder, name, version)
        others = [one for one in versions(folder / name) if one != version]
        if others and in_use(folder, name) == version:
            raise Refusal(
                path,
                found="the version in use",
                needed="one that is not",
                remedy=f"`medseg models use` another first: {', '.join(others)}",
            )
        if dry:
            return
        if not others:
            (folder / name / IN_USE).unlink(missing_ok=True)
        gone = path.with_name(f".partial-{version}")
        path.replace(gone)
        shutil.rmtree(gone)


def _copied(wanted: Mapping[str, Path], folder: Path, version: str, weights: str) -> dict[str, str]:
    """Copy into `folder`/`version`, unless it is there; and the checksums of what was to be copied."""
    files = {name: sha256_of(path) for name, path in wanted.items()}
    if (folder / version).exists():
        return files
    with atomic.replacing_folder(folder / version) as partial:
        for name, path in wanted.items():
            target = partial / name
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)
            if sha256_of(target) != files[name]:
                raise Refusal(target, found="another content than its source's", needed="a copy", remedy="try again")
            _sync(target)
        record = partial / RECORD
        record.write_text(json.dumps({"weights": weights, "files": files}, indent=1) + "\n", encoding="utf-8")
        _sync(record)
    return files


def _use(folder: Path, version: str) -> None:
    with atomic.replacing(folder / IN_USE) as partial:
        partial.write_text(version + "\n", encoding="utf-8")


@contextmanager
def _changing(folder: Path) -> Iterator[None]:
    """Alone in changing a model; what a killed process has left of a change is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=WAIT_S)
    try:
        lock.acquire()
    except Timeout as error:
        raise Refusal(
            folder, found="another process that changes this model", needed="one at a time", remedy="try again later"
        ) from error
    try:
        atomic.remove_partial(folder)
        yield
    finally:
        lock.release()


def _refuse_name(what: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise Refusal(
            f"{what} '{name}'",
            found="a name with other characters, or a long one",
            needed="up to 64 letters, digits, '.', '_' and '-', the first one a letter or digit",
            remedy="choose another name",
        )


def _recipe(path: Path) -> dict[str, Any]:
    with parsing(path, needed="a recipe", remedy="copy the run again"):
        return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def _refuse_part(path: Path, recipe: Mapping[str, Any]) -> None:
    """Another run is neither copied nor verified, may change, and may be a program."""
    settings = recipe.get("predict")
    coarse = settings.get("coarse") if isinstance(settings, dict) else None
    if coarse is not None:
        raise Refusal(
            path,
            found=f"predict.coarse: {coarse}, another run that it needs",
            needed="a model that is whole in itself",
            remedy="set predict.coarse to null in this recipe; a route may name a coarse run by set: [coarse=RUN]",
        )


def _refuse_program(path: Path, recipe: Mapping[str, Any]) -> None:
    """A recipe that names a module outside of medseg is a program."""
    chosen = [one for key in COMPONENTS for one in _listed(recipe.get(key))]
    outside = [one for one in (_chosen_name(one) for one in chosen) if "." in one]
    if outside:
        raise Refusal(
            path,
            found=f"the names of modules outside of medseg: {', '.join(outside)}",
            needed="a model that is data; this one is a program, which would run here",
            remedy="read that program, then install the model with --code",
        )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _chosen_name(value: Any) -> str:
    return str(value.get("name", "") if isinstance(value, dict) else value or "")


def _unlike(folder: Path, damage: list[str]) -> Refusal:
    return Refusal(
        folder,
        found="; ".join(damage),
        needed="the model as it was installed",
        remedy="install it again under another version, and use that",
        code="model",
    )


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
