"""How DICOM series are chosen and what may be done to those whose slices lie unevenly."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from medseg.settings import Settings

Kind = Literal["localiser", "reformatted", "projection", "subtraction", "capture"]
Phase = Literal["native", "arterial", "portal venous", "delayed"]
Tie = Literal["more slices", "thinner", "earlier", "later"]


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"a regular expression is needed; {error}") from error
    return text


def _ordered(limits: tuple[float | None, float | None]) -> tuple[float | None, float | None]:
    smallest, largest = limits
    if smallest is not None and largest is not None and smallest > largest:
        raise ValueError("the smallest comes first, then the largest")
    return limits


Pattern = Annotated[
    str, BeforeValidator(lambda value: str(value) if type(value) is int else value), AfterValidator(_pattern)
]
"""A regular expression, found anywhere in the text, in capitals or not."""
Words = Annotated[
    tuple[str, ...], Field(min_length=1), BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)
]
Range = Annotated[tuple[FiniteFloat | None, FiniteFloat | None], AfterValidator(_ordered)]
"""Smallest, largest; both count as within, and null is no limit."""


class Conditions(Settings):
    """What a series may be asked for; all that are given must hold. What a header does not say does not hold."""

    modality: Words | None = None
    """CT, MR, PT, ...; one of these."""
    description: Pattern | None = None
    """In SeriesDescription; in ProtocolName where that is empty."""
    protocol: Pattern | None = None
    """In ProtocolName."""
    study: Pattern | None = None
    """In StudyDescription."""
    volume: Pattern | None = None
    """In the name that tells the volumes of one series apart: b = 800; echo 2, 4.6 ms; time point 3."""
    body_part: Pattern | None = None
    """abdomen, chest, head, heart, neck, pelvis, spine, breast or limb, which are known in English, German and French;
    or an expression. Looked for in BodyPartExamined and the descriptions of the series, then in that of the study."""
    plane: Literal["axial", "coronal", "sagittal"] | None = None
    """To which the slices are nearest, by their orientation."""
    slices: Range | None = None
    """Number of places that have a slice."""
    spacing_mm: Range | None = None
    """Distance of neighbouring slices, by their positions."""
    contrast: bool | None = None
    """yes: the header says so. no: it does not."""
    phase: Phase | None = None
    """By the description, else by the time since the injection."""
    image_type: Words | None = None
    """Values that ImageType has; all of these."""
    kernel: Pattern | None = None
    """In ConvolutionKernel."""

    @model_serializer(mode="wrap")
    def _given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A dozen of nulls for each condition would hide it."""
        return {name: value for name, value in handler(self).items() if value is not None}


class Entry(Conditions):
    """Conditions of a list; one without any would hold for every series."""

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if all(getattr(self, name) is None for name in Conditions.model_fields):
            raise ValueError(f"at least one condition is needed: {', '.join(Conditions.model_fields)}")
        return self


class Preference(Entry):
    """Conditions that add to the score of a series if all of them hold."""

    score: FiniteFloat = 1
    """May be negative."""


class SeriesRules(Settings):
    """Which series of a study is meant: of those that fit, the one with the highest score."""

    must: Conditions = Conditions()
    """What the series has to be."""
    must_not: tuple[Entry, ...] = ()
    """A series of which all conditions of an entry hold is not taken."""
    prefer: tuple[Preference, ...] = ()
    ties: tuple[Tie, ...] = ()
    """What decides, one after another, between series of the same score; where nothing does, none is taken."""
    allow: tuple[Kind, ...] = ()
    """Kinds that may be taken too: localiser; reformatted (MPR); projection (MIP, volume rendering); subtraction;
    capture (of a screen, a dose report). Told by ImageType, SOP class and description."""


class DicomSettings(Settings):
    """Of a recipe, and of the reader."""

    select: SeriesRules | None = None
    """Which series of a folder is taken where none is named."""
    channels: dict[str, SeriesRules] = Field(default_factory=dict)
    """For models that see several series of a study: the rules for each channel, in place of `select`."""
    repair: Literal["refuse", "report", "fix"] = "fix"
    """What becomes of a series that one affine cannot place: refused; refused, with what `fix` would do; or repaired,
    where the repaired voxels lie right to within tolerance_mm and nothing is interpolated over more than gap_mm."""
    tolerance_mm: float = Field(default=0.01, gt=0)
    """How far one affine may put any voxel from where its own slice's header puts it."""
    gap_mm: float = Field(default=10.0, ge=0)
    """Widest distance between neighbouring slices over which values are interpolated."""
    suv: Literal["bw", "lbm", "bsa", "none"] = "bw"
    """What PET is read as: uptake by body weight, lean body mass (Janmahasatian) or body surface (Du Bois); or as it is
    stored."""

    def of_channel(self, name: str) -> Self:
        """The settings for reading one channel."""
        return self.model_copy(update={"select": self.channels.get(name, self.select), "channels": {}})
