"""Whether what a rule asks for holds for a series, by what its headers say, and how that is said in words."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from medseg.dicom import vocabulary
from medseg.dicom.facts import Facts
from medseg.dicom.geometry import SAME_PLACE_MM
from medseg.dicom.settings import Conditions


class Told(NamedTuple):
    """Whether a condition holds, what the series has, and whether its header says nothing of it."""

    holds: bool
    what: str
    silent: bool = False


def _modality(wanted: tuple[str, ...], facts: Facts) -> Told:
    return Told(facts.modality.upper() in [word.upper() for word in wanted], facts.modality)


def _text(attribute: str, wanted: str, facts: Facts) -> Told:
    text = getattr(facts, attribute)
    return Told(re.search(wanted, text, re.IGNORECASE) is not None, f"'{text}'" if text else "")


def _body_part(wanted: str, facts: Facts) -> Told:
    """By what is said of the series; where that names no body part, by its protocol; then by its study."""
    seen: list[str] = []
    named = False
    for texts in ((facts.body_part, facts.description), (facts.protocol,), (facts.study,)):
        seen += [text for text in texts if text]
        for text in texts:
            if wanted.lower() in vocabulary.BODY_PARTS:
                holds = wanted.lower() in vocabulary.body_parts(vocabulary.plain(text))
            else:
                holds = re.search(wanted, text, re.IGNORECASE) is not None
            if holds:
                return Told(True, f"'{text}'")
        named = any(vocabulary.body_parts(vocabulary.plain(text)) for text in texts)
        if named:
            break
    listed = ", ".join(f"'{text}'" for text in dict.fromkeys(seen))
    return Told(False, listed, silent=not named and wanted.lower() in vocabulary.BODY_PARTS)


def _plane(wanted: str, facts: Facts) -> Told:
    return Told(facts.plane == wanted, facts.plane)


def _slices(wanted: tuple[float | None, float | None], facts: Facts) -> Told:
    return Told(_within(facts.slices, wanted), str(facts.slices))


def _spacing(wanted: tuple[float | None, float | None], facts: Facts) -> Told:
    if facts.spacing_mm is None:
        return Told(False, "")
    # positions are decimal text, by which steps of 0.7 mm are not exactly 0.7
    return Told(_within(facts.spacing_mm, wanted, SAME_PLACE_MM), f"{facts.spacing_mm:.3g}")


def _within(value: float, wanted: tuple[float | None, float | None], slack: float = 0) -> bool:
    smallest, largest = wanted
    return (smallest is None or value >= smallest - slack) and (largest is None or value <= largest + slack)


def _contrast(wanted: bool, facts: Facts) -> Told:
    given, how = vocabulary.contrast(vocabulary.plain(facts.name), facts.agent, facts.delay_s)
    return Told(bool(given) == wanted, f"{'yes' if given else 'no'}, {how}", silent=given is None)


def _phase(wanted: str, facts: Facts) -> Told:
    name, how = vocabulary.phase(vocabulary.plain(facts.name), facts.delay_s)
    return Told(name == wanted, f"{name}, by {how}" if name else "")


def _image_type(wanted: tuple[str, ...], facts: Facts) -> Told:
    there = {value.upper() for value in facts.image_type}
    return Told(all(word.upper() in there for word in wanted), "\\".join(facts.image_type))


CHECKS: dict[str, Callable[[Any, Facts], Told]] = {
    "modality": _modality,
    "description": partial(_text, "name"),
    "protocol": partial(_text, "protocol"),
    "study": partial(_text, "study"),
    "volume": partial(_text, "volume"),
    "body_part": _body_part,
    "plane": _plane,
    "slices": _slices,
    "spacing_mm": _spacing,
    "contrast": _contrast,
    "phase": _phase,
    "image_type": _image_type,
    "kernel": partial(_text, "kernel"),
}
"""How each of the `Conditions` is looked up in the facts."""


def check(conditions: Conditions, facts: Facts) -> list[Told]:
    """Of each condition that is given, in words, whether it holds."""
    told = []
    for name, look in CHECKS.items():
        wanted = getattr(conditions, name)
        if wanted is not None:
            holds, what, silent = look(wanted, facts)
            label = (
                name.removesuffix("_mm").replace("_", " ")
                + f" {what or 'not stated'}"
                + " mm" * (name.endswith("_mm") and bool(what))
            )
            told.append(Told(holds, label if holds else f"{label} (needed {_said(wanted)})", silent or not what))
    return told


def _said(wanted: Any) -> str:
    if isinstance(wanted, bool):
        return "yes" if wanted else "no"
    if isinstance(wanted, tuple) and all(isinstance(value, str) for value in wanted):
        return ", ".join(wanted)
    if isinstance(wanted, tuple):
        return " to ".join("any" if value is None else f"{value:g}" for value in wanted)
    return f"'{wanted}'"
