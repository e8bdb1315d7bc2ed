"""Routes: which series goes to which model, what is made of it, and who gets it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medseg.dicom.settings import SeriesRules
from medseg.settings import Settings

Verdict = Literal["look", "fail"]


class Route(Settings):
    """One row of the table. A study may match several; each makes a job of its own."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    series: SeriesRules | None = None
    """Which series of a study is meant, as in a recipe's dicom.select."""
    channels: dict[str, SeriesRules] = Field(default_factory=dict)
    """For models with several channels: the series for each, as in a recipe's dicom.channels."""
    model: str
    """NAME or NAME@VERSION of an installed model (`medseg models`), or the path of a run folder."""
    outputs: tuple[str, ...] = ("dicom_seg", "dicom_sr")
    """As `medseg predict --output` takes them."""
    set: tuple[str, ...] = ()
    """As `medseg predict --set` takes them."""
    quality: Literal["fast", "standard", "best"] = "standard"
    labels: tuple[str, ...] = ()
    """Only these; none: all."""
    send_to: tuple[str, ...] = ()
    """Receivers, by name; none: results stay in the data folder."""
    hold: tuple[Verdict, ...] = ()
    """Results with these verdicts of the quality control are kept until a person releases them."""
