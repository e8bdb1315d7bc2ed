"""`Case`: one thing to learn from or to predict; the patient it belongs to is never left out."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from medseg.labels import LabelTable
from medseg.refusal import Refusal


@dataclass(frozen=True)
class Case:
    """One case of a data set; it holds paths, not voxels.

    Attributes:
        id: unique in the data set; the name of its results.
        patient: who it belongs to. Splits never put one patient on two sides.
        images: path by channel name, in channel order.
        target: label map, or None when there is none.
        valid: mask of the pixels that count (a fundus camera's field of view); None: all of them.
        classes: numbers of the classes of the whole image, where the label table names such; None: not known.
        group: eye, time point or whatever else tells a patient's cases apart.
        fold: the fold that the data set itself prescribes, if it does.
        unit: what one prediction is for.
        attributes: further columns (scanner, age, ...), for stratified results.
    """

    id: str
    patient: str
    images: Mapping[str, Path]
    target: Path | None = None
    valid: Path | None = None
    classes: tuple[int, ...] | None = None
    group: str = ""
    centre: str = ""
    fold: int | None = None
    unit: Literal["volume", "slice", "image"] = "volume"
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CaseSet:
    """What a data set adapter yields: its cases, the names of their channels and their label table.

    Raises:
        Refusal: two patients that differ only in how they are written, or that share their images: that would be one
            patient on two sides of a split.
    """

    cases: tuple[Case, ...]
    channels: tuple[str, ...]
    labels: LabelTable

    def __post_init__(self) -> None:
        first: dict[str | tuple[Path, ...], Case] = {}
        for case in self.cases:
            # all images together: a single one may be an atlas, or zeros for what was not taken
            keys: list[str | tuple[Path, ...]] = [person(case.patient), tuple(case.images.values())]
            for other in (first.setdefault(key, case) for key in keys if key):
                if other.patient != case.patient:
                    raise _of_two(case, other)


def _of_two(case: Case, other: Case) -> Refusal:
    same = case.images == other.images
    return Refusal(
        next(iter(case.images.values())) if same and case.images else f"case '{case.id}'",
        found=f"patient {case.patient!a} for case '{case.id}', and {other.patient!a} for case '{other.id}'",
        needed="one patient for an image, and one way of writing each patient",
        remedy="write both alike if they are one, else give them ids that differ in more than small and capital "
        "letters, spaces or accents, and images of their own",
    )


def person(patient: str) -> str:
    """Whom a patient id means, however it is written: in small or capital letters, accents in one sign or in two, with
    whatever spaces.

    Example:
        >>> person(" P01 ") == person("p01")
        True
    """
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", patient).casefold()).split())
