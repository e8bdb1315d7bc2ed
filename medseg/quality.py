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
from medseg.traits import AXES, SCAN, Traits

FEW = 5
"""Cases with a label below which nothing is said of it."""
WIDTH = 3.0
"""A range reaches so many standard deviations from the middle, or to the lowest and highest training case."""
LOOK, FAIL = 0.5, 0.95
ALWAYS = 0.9
"""Share of the training cases from which a label should be there, and 1 less it, up to which it may touch an edge."""
MISSING, TOUCHING = 2.0, 1.5
"""What counts as that many standard deviations."""
MOST_REASONS = 5
LOGARITHMS = {"volume": 0.1, "pieces": 0.2, "length x": 0.06, "length y": 0.06, "length z": 0.06}
"""Traits whose ratios count, and the least standard deviation of their logarithms."""
LEAST = {"largest": 0.03, "part x": 0.03, "part y": 0.03, "part z": 0.03, "place x": 5, "place y": 5, "place z": 5}
"""The least standard deviation of others."""
CERTAINTY = "certainty"
"""Trait that the engine adds: the Dice that probabilities promise."""
LEAST_SHARE = 0.05
"""The least standard deviation of intensities, as a share of the training scans' own span."""
KINDS = {
    "volume": "size", "length": "size", "pieces": "shape", "largest": "shape", "part": "place", "place": "place",
    "low": "values", "median": "values", "high": "values", CERTAINTY: CERTAINTY,
}  # fmt: skip
"""Of traits by the first word of their names: one of each kind counts, the oddest."""
ONE_SIDED = ("largest", CERTAINTY)
"""Traits of which high values are good."""


class Range(Settings):
    """What is usual of a trait."""

    low: float
    high: float
    """Of the training cases; what is said to people."""
    middle: float
    spread: float
    """Robust standard deviation; both after the logarithm, of traits that have one."""

    def beyond(self, trait: str, value: float) -> float:
        """How many standard deviations outside."""
        taken = [_scaled(trait, one) for one in (value, self.low, self.high)]
        bottom = min(taken[1], self.middle - WIDTH * self.spread) - taken[0]
        top = 0.0 if trait in ONE_SIDED else taken[0] - max(taken[2], self.middle + WIDTH * self.spread)
        return max(bottom, top, 0.0) / self.spread


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
    """Validation cases that set `certainty` and the thresholds; 0: the thresholds are the usual ones."""
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
    placed = [_with_places(case, places) for case in cases]
    spans = _spans(cases)
    labels = {}
    for name in names:
        own = [case[name] for case in placed if name in case]
        faces = [trait for traits in own for trait in traits if trait.startswith("edge ")]
        labels[name] = OfLabel(
            cases=len(own),
            edges={face.removeprefix("edge "): faces.count(face) for face in sorted(set(faces))},
            place=places.get(name),
            ranges=_ranges(own, spans),
        )
    scans = [case[SCAN] for case in cases]
    return Reference(cases=len(cases), unit=unit, labels=labels, scan=_ranges(scans, spans))


def with_certainty(reference: Reference, good: Mapping[str, Sequence[float]], validated: int) -> Reference:
    """The same with the range of `certainty` of each label.

    Args:
        good: by label, its certainty in the validation cases where its Dice was fine.
        validated: how many cases were looked at.
    """
    labels = dict(reference.labels)
    for name, values in good.items():
        found = _ranges([{CERTAINTY: value} for value in values], {})
        labels[name] = labels[name].model_copy(update={"ranges": {**labels[name].ranges, **found}})
    return reference.model_copy(update={"labels": labels, "validated": validated})


def judge(traits: Traits, reference: Reference, names: Sequence[str]) -> Quality:
    """What is to be thought of a case.

    Args:
        names: of the labels that were asked for.
    """
    if reference.cases < FEW:
        return Quality("look", None, (f"too few training cases to judge by: {reference.cases}",))
    known = {name: one.place for name, one in reference.labels.items() if one.place is not None}
    placed = _with_places(traits, known)
    odd = [one for name in names for one in _of_label(name, placed.get(name), reference)]
    odd += list(_of_scan(traits[SCAN], reference))
    oddity = {name: _sum(one for one in odd if one.label == name) for name in {one.label for one in odd}}
    whole = oddity.pop(SCAN, 0.0) + max(oddity.values(), default=0.0)
    score = 1 - math.exp(-whole / 2)
    verdict = "fail" if score >= reference.fail else "look" if score >= reference.look else "pass"
    reasons = [one.words for one in sorted(odd, key=lambda one: -one.beyond) if one.beyond > 0]
    more = len(reasons) - MOST_REASONS
    said = (*reasons[:MOST_REASONS], *([f"and {more} more"] if more > 0 else []))
    few = [name for name in names if reference.labels[name].cases < FEW]
    unsaid = (f"not judged, for too few training cases have it: {', '.join(few)}",) if few else ()
    return Quality(verdict, score, (*said, *unsaid))


def _sum(odd: Iterator[_Odd]) -> float:
    """Squares of the worst of each kind."""
    worst: dict[str, float] = {}
    for one in odd:
        worst[one.kind] = max(worst.get(one.kind, 0.0), one.beyond)
    return sum(beyond**2 for beyond in worst.values())


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
                words = _words(name, trait, value, usual.ranges[trait], reference.unit)
                yield _Odd(name, KINDS[trait.split()[0]], beyond, words)
        elif trait.startswith("edge "):
            face = trait.removeprefix("edge ")
            if usual.edges.get(face, 0) <= (1 - ALWAYS) * usual.cases:
                words = f"{name} touches the {face} edge of the field of view"
                yield _Odd(name, "edge", TOUCHING, words)


def _of_scan(traits: Mapping[str, float], reference: Reference) -> Iterator[_Odd]:
    for trait, usual in reference.scan.items():
        beyond = usual.beyond(trait, traits[trait]) if trait in traits else 0.0
        if beyond > 0:
            name = trait.split()[0].replace("low", "5th percentile").replace("high", "95th percentile")
            words = f"intensities unlike the training scans: {name} {_span(traits[trait])}, {_usual(usual)}"
            yield _Odd(SCAN, "values", beyond, words)


def _ranges(cases: Sequence[Mapping[str, float]], spans: Mapping[str, float]) -> dict[str, Range]:
    """Of all traits with a kind that enough cases have."""
    found = {}
    for trait in sorted({trait for case in cases for trait in case}):
        values = [case[trait] for case in cases if trait in case]
        if trait.split()[0] not in KINDS or len(values) < FEW:
            continue
        taken = np.array([_scaled(trait, value) for value in values])
        first, third = np.percentile(taken, (25, 75))
        channel = trait.split()[-1]
        least = LOGARITHMS.get(trait, LEAST.get(trait, LEAST_SHARE * spans.get(channel, 1.0)))
        few = 1 + WIDTH / len(values)  # what few cases say of the width is not to be relied on
        spread = max(few * (third - first) / 1.349, few * 0.7 * float(taken.std()), least)
        found[trait] = Range(low=min(values), high=max(values), middle=float(np.median(taken)), spread=float(spread))
    return found


def _spans(cases: Sequence[Traits]) -> dict[str, float]:
    """By channel, from the 5th to the 95th percentile of a usual scan."""
    channels = {trait.split()[1] for case in cases for trait in case[SCAN]}
    spans = {one: float(np.median([case[SCAN][f"high {one}"] - case[SCAN][f"low {one}"] for case in cases]))
             for one in channels}  # fmt: skip
    return {one: span or 1.0 for one, span in spans.items()}


def _scaled(trait: str, value: float) -> float:
    return math.log(max(value, 1e-6)) if trait in LOGARITHMS else value


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


def _words(name: str, trait: str, value: float, usual: Range, unit: str) -> str:
    """What is odd, and what would be usual."""
    kind, _, which = trait.partition(" ")
    length = "mm" if unit == "mm" else "px"
    axis = AXES["xyz".index(which)] if which in ("x", "y", "z") else ""
    if kind == "place":
        return f"{name} lies {abs(value):.0f} {length} off its place among the labels ({axis})"
    if kind in ("largest", "part"):
        low, high, value = 100 * usual.low, 100 * usual.high, 100 * value
        share = Range(low=low, high=high, middle=0, spread=1)
        what = "in its largest piece" if kind == "largest" else f"along the scan, {axis}"
        return f"{name}: {_span(value)} % {what}, {_usual(share)}"
    said = {
        "volume": "ml" if unit == "mm" else "% of the image",
        "length": f"{length} long, {axis}",
        "pieces": "pieces",
        "median": f"median intensity{f' of channel {int(which) + 1}' if which not in ('', '0') else ''}",
        CERTAINTY: "is the Dice that its probabilities promise",
    }[kind]
    cases = _usual(usual).replace("training", "validation") if kind == CERTAINTY else _usual(usual)
    return f"{name}: {_span(value)} {said}, {cases}"


def _usual(usual: Range) -> str:
    low, high = _span(usual.low), _span(usual.high)
    return f"training cases {low}" + ("" if low == high else f" to {high}")


def _span(value: float) -> str:
    """Two or three digits."""
    if value and abs(value) < 10:
        return f"{value:.2g}"
    return f"{float(f'{value:.3g}'):,.0f}"
