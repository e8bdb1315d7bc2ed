"""Evaluations as their metrics.json tell of them, brought together over the cases, labels and numbers they share."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medseg import clustered
from medseg.boundary import parsing
from medseg.metrics import Number
from medseg.refusal import Refusal

WORDS = {"undefined": math.nan, "infinite": math.inf}
NAMED = 5
KEYS = ("cases", "units", "better", "truths", "stamp", "chosen by these cases", "metrics")


@dataclass(frozen=True)
class Told:
    """One evaluation.

    Attributes:
        values: numbers by name, of each (case, label).
        patients: of each case.
        truths: fingerprint of each case's truth.
        metrics: with which options each number was made.
        warnings: why its numbers may lie on the high side.
    """

    name: str
    values: Mapping[tuple[str, str], Mapping[str, float]]
    numbers: Mapping[str, Number]
    patients: Mapping[str, str]
    truths: Mapping[str, str]
    metrics: Mapping[str, Mapping[str, Any]]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Shared:
    """What several evaluations have in common.

    Attributes:
        names: of the evaluations, each once.
        patients: (cases,) of each case, numbered.
        values: (evaluations, cases, labels, numbers).
        notes: what was left out, and why; why numbers may lie on the high side.
    """

    names: tuple[str, ...]
    cases: tuple[str, ...]
    labels: tuple[str, ...]
    numbers: Mapping[str, Number]
    patients: np.ndarray
    values: np.ndarray
    notes: tuple[str, ...]


def load(path: Path) -> Told:
    """From a metrics.json, or the folder that holds one.

    Raises:
        Refusal: there is none, it is none, or it holds no numbers by case.
    """
    file = path / "metrics.json" if path.is_dir() else path
    if not file.is_file():
        raise Refusal(path, found="no metrics.json", needed="what `medseg evaluate` wrote", remedy="evaluate first")
    with parsing(file, needed="what `medseg evaluate` writes", remedy="evaluate again"):
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        lacking = [key for key in KEYS if key not in content]
    if lacking or not content["cases"]:
        raise Refusal(
            file,
            found=f"no '{lacking[0]}'" if lacking else "no numbers by case: those over whole sets are not compared",
            needed="scores of label maps as `medseg evaluate` writes them",
            remedy="evaluate again with this version" if lacking else "compare evaluations of label maps",
        )
    with parsing(file, needed="what `medseg evaluate` writes", remedy="evaluate again"):
        numbers = {name: Number(unit, content["better"][name]) for name, unit in content["units"].items()}
        values = {
            (row["case"], row["label"]): {name: float(WORDS.get(row[name], row[name])) for name in numbers}
            for row in content["cases"]
        }
        patients = {row["case"]: row["patient"] for row in content["cases"]}
    warnings = [content["stamp"]] if content["stamp"] else []
    if content["chosen by these cases"]:
        warnings.append("its weights were chosen by these same cases, so that its numbers lie on the high side")
    return Told(str(path), values, numbers, patients, content["truths"], content["metrics"], tuple(warnings))


def shared(told: Sequence[Told]) -> Shared:
    """Cases, labels and numbers that all have; the rest is named in `notes`.

    Raises:
        Refusal: fewer than two, one twice; nothing in common; another truth or patient of the same case; a number
            made in two ways.
    """
    names = tuple(one.name for one in told)
    if len(told) < 2 or len(set(names)) < len(names):
        raise Refusal(
            "compare", found=", ".join(names), needed="two evaluations or more, each once", remedy="name others"
        )
    notes = [f"{one.name}: {warning}" for one in told for warning in one.warnings]
    cases = _common("case", names, [list(one.patients) for one in told], notes)
    labels = _common("label", names, [list(dict.fromkeys(label for _, label in one.values)) for one in told], notes)
    numbers = _common("number", names, [list(one.numbers) for one in told], notes)
    for what, facts in (("truth", [one.truths for one in told]), ("patient", [one.patients for one in told])):
        _refuse_other(what, names, cases, facts)
    kinds = {name: told[0].numbers[name] for name in numbers}
    odd = [name for name, number in kinds.items() if any(one.numbers[name] != number for one in told)]
    if odd:
        raise Refusal("compare", found=f"{odd[0]} in two units", needed="one unit", remedy="evaluate both again")
    _refuse_other_ways(told, numbers)
    aimless = [name for name, number in kinds.items() if number.better == "neither"]
    notes += [f"not compared, because neither more nor less is better: {', '.join(aimless)}"] if aimless else []
    kinds = {name: number for name, number in kinds.items() if name not in aimless}
    nothing = dict.fromkeys(kinds, math.nan)
    values = [
        [[[one.values.get((case, label), nothing)[name] for name in kinds] for label in labels] for case in cases]
        for one in told
    ]
    patients = clustered.numbered([told[0].patients[case] for case in cases])
    return Shared(names, tuple(cases), tuple(labels), kinds, patients, np.array(values, np.float64), tuple(notes))


def _common(what: str, names: Sequence[str], lists: Sequence[list[str]], notes: list[str]) -> list[str]:
    """What all lists have, in the order of the first; the rest goes into the notes."""
    everything = list(dict.fromkeys(one for some in lists for one in some))
    for name, some in zip(names, lists, strict=True):
        lacking = [one for one in everything if one not in set(some)]
        if lacking:
            notes.append(f"left out, because {name} has no such {what}: {', '.join(lacking)}")
    found = [one for one in everything if all(one in set(some) for some in lists)]
    if not found:
        raise Refusal(
            " and ".join(names),
            found=f"no {what} in common",
            needed=f"a {what} of the same name in all",
            remedy="compare evaluations of the same cases, labels and metrics",
        )
    return found


def _refuse_other(what: str, names: Sequence[str], cases: Sequence[str], facts: Sequence[Mapping[str, str]]) -> None:
    odd = [case for case in cases if len({some[case] for some in facts}) > 1]
    if odd:
        listed = ", ".join(odd[:NAMED]) + f" and {len(odd) - NAMED} more" * (len(odd) > NAMED)
        causes = {
            "truth": "other files, another label table, another grid, or other pixels that count",
            "patient": "give all evaluations the same table of cases",
        }
        raise Refusal(
            " and ".join(names),
            found=f"another {what} of the same case ({listed})",
            needed=f"one {what} of each case in all evaluations",
            remedy=f"evaluate them alike ({causes[what]})",
        )


def _refuse_other_ways(told: Sequence[Told], numbers: Sequence[str]) -> None:
    """Surface Dice at 1 mm and at 5 mm have one name, and nothing to do with each other."""
    for name in numbers:
        ways = [one.metrics.get(name, {}) for one in told]
        odd = [
            key for key in dict.fromkeys(key for way in ways for key in way) if len({str(w.get(key)) for w in ways}) > 1
        ]
        if odd:
            values = ", ".join(
                f"{one.name}: {way.get(odd[0], 'not stated')}" for one, way in zip(told, ways, strict=True)
            )
            raise Refusal(
                "compare",
                found=f"{name} with another {odd[0]} ({values})",
                needed="metrics with the same options in all evaluations",
                remedy="evaluate them with the same metrics=[...]",
            )


def pairs(shared: Shared) -> Iterator[tuple[int, int]]:
    """Each evaluation with each later one."""
    count = len(shared.names)
    yield from ((first, second) for first in range(count) for second in range(first + 1, count))
