"""What can be asked for: a model that is offered, outputs and settings that neither name files nor run anything."""

from __future__ import annotations

import re
from collections.abc import Sequence

from medseg import plugins
from medseg.service.settings.site import Site
from medseg.service.web import offered
from medseg.service.web.parts import Part
from medseg.service.web.problem import Problem
from medseg.service.web.shapes import Ask, Model

ASK = "ask"
"""The part that says what is asked."""
CHANGES = (
    "overlap",
    "blend",
    "mirror",
    "batch",
    "precision",
    "skip_air",
    "fit_body",
    "dicom.repair",
    "dicom.tolerance_mm",
    "dicom.gap_mm",
    "dicom.suv",
)
"""Inference settings that may be asked for; those that name files (coarse) or what is run (backend) may not."""
OUTPUT = re.compile(r"([a-z_]+)(:[a-z_]+=[\w .,=-]*)?")


def checked(ask: Ask, site: Site) -> Model | None:
    """What is asked for, if it can be; None: by the site's routes.

    Raises:
        Problem: 400, an output, a change or a label that cannot be asked for; 404, no such model.
    """
    for text in ask.outputs:
        fits = OUTPUT.fullmatch(text)
        if not fits or fits[1] not in plugins.names("outputs"):
            raise unfit("outputs", text, f"one of: {', '.join(plugins.names('outputs'))}")
    for text in ask.changes:
        if text.partition("=")[0] not in CHANGES:
            raise unfit("changes", text, f"key=value of one of: {', '.join(CHANGES)}")
    if not ask.model:
        if ask.outputs or ask.changes or ask.labels or ask.series or ask.quality != "standard":
            raise unfit("ask", "parameters without a model", "a model; without one, the site's routes say how")
        return None
    model = offered.described(site, ask.model)
    known = [label.name for label in model.labels]
    for name in ask.labels:
        if name not in known:
            raise unfit("labels", name, f"of: {', '.join(known)}")
    return model


def files(parts: Sequence[Part]) -> dict[str, Part]:
    """Name -> file, of a form.

    Raises:
        Problem: 400, two of one name, or none.
    """
    found: dict[str, Part] = {}
    for part in parts:
        if part.name != ASK and found.setdefault(part.name, part) is not part:
            raise unfit("upload", "two files of one name", "a name for each; several DICOM files come in a zip")
    if not found:
        raise unfit("upload", "no file", "the scan, or ask.study")
    return found


def unfit(where: str, found: str, needed: str) -> Problem:
    """What is answered to who asks for it."""
    return Problem(400, where, found=f"'{found}'", needed=needed, remedy="see docs/service-api.md")
