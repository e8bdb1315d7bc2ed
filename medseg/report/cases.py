"""Cases to look at, drawn: what is left of a scan and its labels once a report has its pictures."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from medseg.report import slices
from medseg.report.slices import Overlay, Plane


@dataclass(frozen=True)
class Panel:
    """One picture: its caption, its words for those who do not see it, and WebP in base64."""

    caption: str
    words: str
    picture: str


@dataclass(frozen=True)
class Drawn:
    """One case as a page shows it; some 0.2 MB, whatever the size of the scan.

    Attributes:
        case: its id.
        labels: (name, colour as #rrggbb) of those that are in the pictures.
        panels: a slice along each plane, with outlines.
        errors: the same slices with their errors; empty where there is no truth.
        directions: whether the pictures have the patient's directions, which photographs do not.
    """

    case: str
    labels: tuple[tuple[str, str], ...]
    panels: tuple[Panel, ...]
    errors: tuple[Panel, ...]
    directions: bool


def drawn(overlay: Overlay) -> Drawn:
    """Draw a case: along each plane the slice with the most errors, or with the most foreground where there are none.

    Takes about two seconds.
    """
    from medseg.report import pictures

    errors = overlay.errors
    chosen = [(plane, slices.telling(overlay, plane, errors)) for plane in slices.planes(overlay.shape)]
    seen = [any(there) for there in zip(*(slices.visible(overlay, *choice) for choice in chosen), strict=True)]
    labels = [label for label, there in zip(overlay.table.labels, seen, strict=True) if there]
    names = ", ".join(label.name for label in labels) or "no label present"
    outlines = "prediction" if overlay.truth is None else "reference (dashed) and prediction"
    panels, wrong = [], []
    for plane, index in chosen:
        caption = _caption(overlay, plane, index)
        words = f"{caption} of case {overlay.case}: outlines of {outlines}; {names}"
        panels.append(Panel(caption, words, _text(pictures.panel(overlay, plane, index))))
        if errors is not None:
            words = f"{caption} of case {overlay.case}: voxels that are missed, and false alarms"
            picture = _text(pictures.error_panel(overlay, plane, index, errors))
            wrong.append(Panel(f"{caption}: errors", words, picture))
    keys = tuple((label.name, "#{:02x}{:02x}{:02x}".format(*label.colour)) for label in labels)
    return Drawn(overlay.case, keys, tuple(panels), tuple(wrong), overlay.unit == "mm")


def _caption(overlay: Overlay, plane: Plane, index: int) -> str:
    if overlay.unit == "px":
        return "Picture"
    return f"{plane.name.capitalize()}, slice {index + 1} of {overlay.shape[plane.normal]}"


def _text(picture: bytes) -> str:
    return base64.b64encode(picture).decode("ascii")
