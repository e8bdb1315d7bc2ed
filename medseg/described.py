"""What one needs to know of a model before it is run: from the files of its run folder alone, so that it takes no time.

`medseg info --json` and the service's list of models tell it; neither has to import what networks are made of.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medseg.boundary import parsing
from medseg.labels import Label, LabelTable
from medseg.plan import Plan
from medseg.refusal import Refusal

Place = Path | zipfile.Path
RECIPE, FOLDS, WEIGHTS = "recipe.yaml", "folds.json", "weights.safetensors"


@dataclass(frozen=True)
class Described:
    """A run, or the folds of one.

    Attributes:
        name: of its recipe.
        plan, table: None where it is a part of a network, to be trained on, which cannot predict.
        weights_bytes: of all runs together; 0: it is not trained yet.
        runs: how many networks answer.
    """

    name: str
    plan: Plan | None
    table: LabelTable | None
    licence: str
    intended_use: str
    weights_bytes: int
    runs: int


def model(path: Path, *, where: str | Path, needed: str, remedy: str) -> Described:
    """A run folder, the same zipped, or a folder of folds.

    Args:
        where, needed, remedy: said of one that is damaged.

    Raises:
        Refusal: it is damaged, or none.
    """
    with parsing(Path(where), needed=needed, remedy=remedy):
        runs = _runs(path)
        if not runs:
            raise FileNotFoundError(f"no {RECIPE} in it")
        recipe = dict(yaml.safe_load((runs[0] / RECIPE).read_text(encoding="utf-8")))
        sizes = [size for size in map(_weights, runs) if size]
        part = bool(sizes) and not (runs[0] / "plan.json").is_file()
        return Described(
            str(recipe.get("name") or path.name),
            None if part else Plan.model_validate_json((runs[0] / "plan.json").read_text(encoding="utf-8")),
            None if part else LabelTable.from_json(json.loads((runs[0] / "labels.json").read_text(encoding="utf-8"))),
            str(recipe.get("licence") or "not stated"),
            str(recipe.get("intended_use") or "not stated"),
            sum(sizes),
            len(sizes),
        )


def is_model(path: Path) -> bool:
    """Whether it looks like one that `model` describes; it may be damaged."""
    if path.is_dir():
        parts = ("plan.json", WEIGHTS)  # a recipe alone may lie beside the runs that were made from it
        run = (path / RECIPE).is_file() and any((path / part).is_file() for part in parts)
        return run or (path / FOLDS).is_file()
    if path.suffix.lower() != ".zip" or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.split("/")[-1] == RECIPE and name.count("/") < 2 for name in archive.namelist())


def listed(path: Path) -> dict[str, list[dict[str, Any]]]:
    """A model, or all of those in a folder, one level down, in the order of their names.

    Returns:
        "models": an entry each, see `entry`; "broken": path and error of those that cannot be used as they are.
    """
    folders = [path] if is_model(path) else sorted(filter(is_model, path.iterdir()))
    found: dict[str, list[dict[str, Any]]] = {"models": [], "broken": []}
    for folder in folders:
        try:
            found["models"].append(entry(folder))
        except Refusal as refusal:
            found["broken"].append({"path": str(folder), "error": refusal.to_json()})
    return found


def entry(path: Path) -> dict[str, Any]:
    """One model as `medseg info --json` tells it.

    Raises:
        Refusal: it is damaged, or not trained yet.
    """
    one = model(path, where=path, needed="a run folder as `medseg train` makes it", remedy="restore it, or train again")
    if not one.weights_bytes:
        raise Refusal(path, found="no weights in it", needed="a trained run", remedy="run `medseg train` to the end")
    plan, table = one.plan, one.table
    return {
        "name": one.name,
        "path": str(path),
        "partial": plan is None,
        "channels": list(plan.channels) if plan else [],
        "modalities": list(plan.modalities) if plan else [],
        "labels": [label(each) | {"numbers": list(each.members)} for each in table.labels] if table else [],
        "paint": None if table is None or table.exclusive else [each.index for each in table.labels],
        "exclusive": table is None or table.exclusive,
        "ignore": table.ignore if table else None,
        "kind": table.unit if table else "voxel",
        "spacing_mm": spacing(plan),
        "unit": plan.unit or None if plan else None,
        "licence": one.licence,
        "intended_use": one.intended_use,
        "weights_bytes": one.weights_bytes,
        "runs": one.runs,
    }


def label(one: Label) -> dict[str, Any]:
    """A structure or class: its number in label maps, red, green and blue from 0 to 255, and its code."""
    return {
        "number": one.index,
        "name": one.name,
        "colour": list(one.colour),
        "code": f"{one.code.scheme}:{one.code.value}" if one.code else "",
        "meaning": one.code.meaning if one.code else "",
    }


def spacing(plan: Plan | None) -> tuple[float, float, float] | None:
    """Voxel size that scans are resampled to; None: each keeps its own."""
    return None if plan is None or plan.spacing_mm == "native" else plan.spacing_mm


def _runs(path: Path) -> list[Place]:
    """The run folders that it stands for, the first of which has the plan of all."""
    place: Place = zipfile.Path(path) if path.is_file() else path
    if (place / RECIPE).is_file():
        return [place]
    inside: list[Place] = [*place.iterdir()]
    return [one for one in sorted(inside, key=lambda one: one.name) if (one / RECIPE).is_file()]


def _weights(run: Place) -> int:
    """Bytes of its weights; 0 where there are none."""
    file = run / WEIGHTS
    if not file.is_file():
        return 0
    return file.stat().st_size if isinstance(file, Path) else file.root.getinfo(file.at).file_size
