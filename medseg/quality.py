"""Whether a segmentation is plausible, told without the truth: what is unlike the training cases, and how much.

Each trait (`traits.measure`) of each label has a range, learned from training cases. What lies outside of it is counted
in robust standard deviations; the sum of the squares of a label's worst traits, one of each kind, is its oddity S, and
the chance of a poor segmentation is told as 1 - exp(-S / 2), of the oddest label of the case. It is a score between 0
and 1 that orders cases, not a probability that was fitted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from medseg.prediction import Quality
from medseg.settings import Settings
from medseg.traits import SCAN, Traits
from medseg.usual import CERTAINTY, DISAGREEMENT, FEW, Range, digits, ranges, spans, training, words

LOOK, FAIL = 0.5, 0.95
ALWAYS = 0.9
"""Share of the training cases from which a label should be there, and 1 less it, up to which it may touch an edge."""
MISSING, TOUCHING = 2.0, 1.5
"""What counts as that many standard deviations."""
MOST_REASONS = 5
KINDS = {
    "volume": "volume", "length": "length", "pieces": "shape", "largest": "shape", "part": "place", "place": "place",
    "low": "values", "median": "values", "high": "values", CERTAINTY: CERTAINTY,
    DISAGREEMENT: DISAGREEMENT,
}  # fmt: skip
"""Of traits by the first word of their names: one of each kind counts, the oddest."""


class OfLabel(Settings):
    """What is usual of a label."""

    cases: int
    """That have it."""
    edges: Mapping[str, int] = {}
    """How many of them touch which face of the scan."""
    place: tuple[float, float, float] | None = None
    """Its centre among those of the other labels, in mm."""
    ranges: Mapping[str, Range] = {}


class Reference(Settings):
    """What quality.json holds. No case is named in it."""

    cases: int
    """Training cases."""
    unit: str
    labels: Mapping[str, OfLabel]
    scan: Mapping[str, Range]
    validated: int = 0
    """Validation cases by which ranges were widened and `look` was set."""
    look: float = LOOK
    fail: float = FAIL


class _Odd(NamedTuple):
    """Something that is unlike the training cases."""

    label: str
    kind: str
    beyond: float
    words: str


def learn(cases: Sequence[Traits], unit: str, names: Sequence[str]) -> Reference:
    """What is usual, from the traits of training cases."""
    places = _places(cases, names) if unit == "mm" else {}
    moved = [_with_places(case, places) for case in cases]
    widths = spans(cases)
    labels = {}
    for name in names:
        own = [case[name] for case in moved if name in case]
        faces = [trait for traits in own for trait in traits if trait.startswith("edge ")]
        labels[name] = OfLabel(
            cases=len(own),
            edges={face.removeprefix("edge "): faces.count(face) for face in sorted(set(faces))},
            place=places.get(name),
            ranges=ranges(own, widths),
        )
    scans = [case[SCAN] for case in cases]
    return Reference(cases=len(cases), unit=unit, labels=labels, scan=ranges(scans, widths))


def widened(reference: Reference, good: Mapping[str, Sequence[Mapping[str, float]]]) -> Reference:
    """The same with ranges that hold what networks make of labels: their borders are smoother or rougher than people's.

    Args:
        good: by label, its traits in the predictions of validation cases where its Dice was fine; `certainty` and
            `disagreement`, if they have them, get ranges of their own.
    """
    labels = dict(reference.labels)
    for name, cases in good.items():
        own = dict(labels[name].ranges)
        for trait, usual in own.items():
            values = [case[trait] for case in cases if trait in case]
            bounds = {"low": min([usual.low, *values]), "high": max([usual.high, *values])}
            own[trait] = usual.model_copy(update=bounds)
        certain = [{key: case[key] for key in (CERTAINTY, DISAGREEMENT) if key in case} for case in cases]
        labels[name] = labels[name].model_copy(update={"ranges": {**own, **ranges(certain, {})}})
    return reference.model_copy(update={"labels": labels})


def placed(traits: Traits, reference: Reference) -> dict[str, dict[str, float]]:
    """The traits of a case, with how far each label lies from its place among the others."""
    known = {name: one.place for name, one in reference.labels.items() if one.place is not None}
    return _with_places(traits, known)


def judge(traits: Traits, reference: Reference, names: Sequence[str]) -> Quality:
    """What is to be thought of a case.

    Args:
        names: of the labels that were asked for.
    """
    if reference.cases < FEW:
        return Quality("look", None, (f"too few training cases to judge by: {reference.cases}",))
    found = placed(traits, reference)
    odd = [one for name in names for one in _of_label(name, found.get(name), reference)]
    odd = _worst([*odd, *_of_scan(traits[SCAN], reference)])
    oddity = {name: sum(one.beyond**2 for one in odd if one.label == name) for name in (SCAN, *names)}
    whole = oddity.pop(SCAN) + max(oddity.values())
    score = 1 - math.exp(-whole / 2)
    verdict = "fail" if score >= reference.fail else "look" if score >= reference.look else "pass"
    reasons = [one.words for one in sorted(odd, key=lambda one: -one.beyond)]
    more = len(reasons) - MOST_REASONS
    said = (*reasons[:MOST_REASONS], *([f"and {more} more"] if more > 0 else []))
    few = [name for name in names if reference.labels[name].cases < FEW]
    unsaid = (f"not judged, for too few training cases have it: {', '.join(few)}",) if few else ()
    return Quality(verdict, score, (*said, *unsaid))


def _worst(odd: Sequence[_Odd]) -> list[_Odd]:
    """Of each kind of each label; several edges are one thing to look at."""
    worst: dict[tuple[str, str], _Odd] = {}
    for one in odd:
        key = (one.label, one.kind)
        if key not in worst or one.beyond > worst[key].beyond:
            worst[key] = one
    return list(worst.values())


def _of_label(name: str, traits: Mapping[str, float] | None, reference: Reference) -> Iterator[_Odd]:
    usual = reference.labels[name]
    if usual.cases < FEW:
        return
    of = f"{usual.cases} of {reference.cases} training cases"
    if traits is None:
        if usual.cases >= ALWAYS * reference.cases:
            yield _Odd(name, "missing", MISSING, f"no {name} found, which {of} have")
        return
    for trait, value in traits.items():
        if trait in usual.ranges:
            beyond = usual.ranges[trait].beyond(trait, value)
            if beyond > 0:
                said = words(name, trait, value, usual.ranges[trait], reference.unit)
                yield _Odd(name, KINDS[trait.split()[0]], beyond, said)
        elif trait.startswith("edge "):
            face = trait.removeprefix("edge ")
            if usual.edges.get(face, 0) <= (1 - ALWAYS) * usual.cases:
                yield _Odd(name, "edge", TOUCHING, f"{name} touches the {face} edge of the field of view")


def _of_scan(traits: Mapping[str, float], reference: Reference) -> Iterator[_Odd]:
    for trait, usual in reference.scan.items():
        beyond = usual.beyond(trait, traits[trait]) if trait in traits else 0.0
        if beyond > 0:
            name = trait.split()[0].replace("low", "5th percentile").replace("high", "95th percentile")
            said = f"intensities unlike the training scans: {name} {digits(traits[trait])}, {training(usual)}"
            yield _Odd(SCAN, "values", beyond, said)


def _places(cases: Sequence[Traits], names: Sequence[str]) -> dict[str, tuple[float, float, float]]:
    """Where labels lie among each other: means over cases, each of which is moved so that its labels lie, in the
    median, where they should. Empty where there are not two."""
    centres = [{name: _centre(case[name]) for name in names if name in case} for case in cases]
    found = {name: np.zeros(3) for name in names if sum(name in case for case in centres) >= FEW}
    if len(found) < 2:
        return {}
    for _ in range(10):
        moved = [_moved(case, found) for case in centres]
        found = {name: np.median([case[name] for case in moved if name in case], axis=0) for name in found}
    return {name: (float(place[0]), float(place[1]), float(place[2])) for name, place in found.items()}


def _moved(case: Mapping[str, np.ndarray], places: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    known = [name for name in case if name in places]
    shift = np.median([case[name] - places[name] for name in known], axis=0) if known else np.zeros(3)
    return {name: case[name] - shift for name in known}


def _centre(traits: Mapping[str, float]) -> np.ndarray:
    return np.array([traits["x"], traits["y"], traits["z"]])


def _with_places(case: Traits, places: Mapping[str, tuple[float, float, float]]) -> dict[str, dict[str, float]]:
    """The traits with `place x`, ...: how far each label lies from where it should among the others."""
    arrays = {name: np.array(place) for name, place in places.items()}
    centres = {name: _centre(traits) for name, traits in case.items() if name in arrays}
    found = {name: dict(traits) for name, traits in case.items()}
    if len(centres) < 2:
        return found
    for name, place in _moved(centres, arrays).items():
        for axis, off in zip("xyz", place - arrays[name], strict=True):
            found[name][f"place {axis}"] = float(off)
    return found
