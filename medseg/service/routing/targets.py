"""Routes with what their models say of themselves; read from the models' files, without loading one."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from medseg import config
from medseg.boundary import parsing
from medseg.dicom.settings import DicomSettings, SeriesRules
from medseg.refusal import Refusal
from medseg.service import models
from medseg.service.settings.routes import Route
from medseg.service.settings.site import Site

ONE = ""
"""In place of the name of a channel, where one series is all that a model sees."""
LARGEST = 2**24
"""Characters that are read of a zipped recipe or plan."""
DICOM = "dicom."
"""What changes of how DICOM is read begin with."""


@dataclass(frozen=True)
class Target:
    """A route, and where it leads.

    Attributes:
        model: run folder, zipped run or folder of folds; None where there is none.
        rules: channel, or `ONE`, -> which series is meant.
        dicom: what may be done to a series.
        problem: why the model cannot be used; then only the route's own rules are known.
    """

    route: Route
    model: Path | None = None
    rules: Mapping[str, SeriesRules] = field(default_factory=dict)
    dicom: DicomSettings = field(default_factory=DicomSettings)
    problem: Refusal | None = None


def of(site: Site) -> list[Target]:
    """The routes of a site, in the order of its file. What is wrong with one is its `problem`, and stops no other."""
    return [_target(site, route) for route in site.routes]


def _target(site: Site, route: Route) -> Target:
    own = dict(route.channels) or ({ONE: route.series} if route.series else {})
    try:
        model = models.find(models.at(site), route.model, beside=site.folder)
        changes = [text.removeprefix(DICOM) for text in route.set if text.startswith(DICOM)]
        settings = config.changed(_settings(model), changes, key=DICOM, where=f"route {route.name}, set")
        _refuse_other_channels(route, model)
    except Refusal as refusal:
        return Target(route, rules=own, problem=refusal)
    usual = dict(settings.channels) or {ONE: settings.select or SeriesRules()}
    return Target(route, model, own or usual, settings)


def _settings(model: Path) -> DicomSettings:
    """How a model's recipe reads DICOM. Only that part is looked at: whoever loads the model checks the rest."""
    path, text = _file(model, "recipe.yaml")
    with parsing(path, needed="the recipe of a run", remedy="install the model again", code="model"):
        return DicomSettings.model_validate(yaml.safe_load(text).get("dicom") or {})


def _refuse_other_channels(route: Route, model: Path) -> None:
    path, text = _file(model, "plan.json")
    with parsing(path, needed="the plan of a run", remedy="install the model again", code="model"):
        channels: Any = json.loads(text)["channels"]
    if route.channels and set(route.channels) != set(channels):
        raise Refusal(
            f"route {route.name}",
            found=f"rules for {', '.join(route.channels)}",
            needed=f"rules for each channel of the model: {', '.join(channels)}",
            remedy="correct the names in site.yaml",
            code="model",
        )


def _file(model: Path, name: str) -> tuple[Path, str]:
    """A file of a run, of a zipped one, or of the first of several folds, which share what is asked for here."""
    try:
        if model.suffix == ".zip":
            return _zipped(model, name)
        found = next(
            (path for path in (model / name, *sorted(model.glob(f"*/{name}"))) if path.is_file()), model / name
        )
        return found, found.read_text(encoding="utf-8")
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise Refusal(
            model,
            found=f"no {name} that can be read ({error})",
            needed="a complete run folder",
            remedy="install the model again, or correct the path in site.yaml",
            code="model",
        ) from error


def _zipped(model: Path, name: str) -> tuple[Path, str]:
    with zipfile.ZipFile(model) as packed:
        inside = sorted((one for one in packed.namelist() if Path(one).name == name), key=lambda one: one.count("/"))
        if not inside:
            raise FileNotFoundError(f"none in the zip with {len(packed.namelist())} files")
        with io.TextIOWrapper(packed.open(inside[0]), encoding="utf-8") as handle:
            return model / inside[0], handle.read(LARGEST)
