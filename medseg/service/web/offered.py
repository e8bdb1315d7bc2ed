"""The models that jobs can ask for: those that are installed, and those of the site's routes; no others, by no path."""

from __future__ import annotations

import logging
from pathlib import Path

from medseg.described import label, spacing
from medseg.described import model as whole_model
from medseg.refusal import Refusal
from medseg.service import models
from medseg.service.settings.site import Site
from medseg.service.web.problem import Problem
from medseg.service.web.shapes import Label, Model

log = logging.getLogger(__name__)

BROKEN = "a model that is whole"
REMEDY = "ask who runs this service to install it again"


def offered(site: Site) -> list[Model]:
    """All that are whole; an installed one under its name, and each of its versions under NAME@VERSION. The log names
    those that are damaged.
    """
    for lost in models.broken(models.at(site)):
        _say(f"{lost.name}@{lost.version}", lost.found)
    found = []
    for one in models.listed(models.at(site)):
        named = f"{one.name}@{one.version}"
        names = (one.name, named) if one.used else (named,)
        found += [_whole(name, one.version, one.used, one.folder, one.weights, site) for name in names]
    known = {model.name for model in found if model}
    for name in dict.fromkeys(route.model for route in site.routes):
        folder = _found(site, name) if name not in known else None
        if folder:
            found.append(_whole(name, "", True, folder, "", site))
    return [model for model in found if model]


def folder(site: Site, name: str) -> Path:
    """Of the model that a job asks for.

    Raises:
        Problem: 404, none of this name is offered; a path is no name. 503, it is gone or damaged; the log says why.
    """
    names = {route.model for route in site.routes}
    names |= {name for one in models.listed(models.at(site)) for name in (one.name, f"{one.name}@{one.version}")}
    if name not in names:
        raise Problem(
            404,
            "model",
            found="a name that no model here has",
            needed="one that GET /api/v1/models names",
            remedy="choose one of those",
        )
    try:
        return models.find(models.at(site), name, beside=site.folder)
    except Refusal as refusal:
        raise _damaged(name, refusal) from refusal


def described(site: Site, name: str) -> Model:
    """One that is offered.

    Raises:
        Problem: as `folder`.
    """
    try:
        return _described(name, "", True, folder(site, name), "", site)
    except Problem:
        raise
    except Refusal as refusal:
        raise _damaged(name, refusal) from refusal


def _whole(name: str, version: str, used: bool, path: Path, sha256: str, site: Site) -> Model | None:
    try:
        return _described(name, version, used, path, sha256, site)
    except Refusal as refusal:
        _say(name, refusal.found)
        return None


def _damaged(name: str, refusal: Refusal) -> Problem:
    """What a parser says of a file names it, and who asks is not to know where it lies."""
    _say(name, refusal.found)
    return Problem(503, "model", found="one that is damaged or gone", needed=BROKEN, remedy=REMEDY)


def _say(name: str, found: str) -> None:
    log.error("a model cannot be used", extra={"facts": {"model": name, "found": found}})


def _found(site: Site, name: str) -> Path | None:
    """A route's model that is not there is the route's trouble: its jobs will say so."""
    try:
        return models.find(models.at(site), name, beside=site.folder)
    except Refusal:
        return None


def _described(name: str, version: str, used: bool, path: Path, sha256: str, site: Site) -> Model:
    one = whole_model(path, where=name, needed=BROKEN, remedy=REMEDY)
    if one.plan is None or one.table is None:
        raise Refusal(name, found="a part of a network, to be trained on", needed=BROKEN, remedy=REMEDY)
    return Model(
        name=name,
        version=version,
        in_use=used,
        channels=one.plan.channels,
        modalities=one.plan.modalities,
        labels=tuple(Label.model_validate(label(each)) for each in one.table.labels),
        kind=one.table.unit,
        spacing_mm=spacing(one.plan),
        licence=one.licence,
        intended_use=one.intended_use,
        weights_bytes=one.weights_bytes,
        sha256=sha256,
        routes=tuple(route.name for route in site.routes if route.model == name),
    )
