"""Probabilities of classes in a table, beside the truth: what metrics over a whole set look at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg import tables
from medseg.datasets import _tables
from medseg.engine.inputs import notes, patient, refuse_twice, table_rows
from medseg.labels import LabelTable
from medseg.prediction import Evidence
from medseg.refusal import Refusal

PROBABILITY = "probability "
COMPUTED = (PROBABILITY, "spread ")
"""How columns begin that are no facts about a case."""
TAKEN = {"", "case", "patient", "truth", "slice", "position_mm", "decision", "entropy", "centre"}
SUM = 1e-3
"""How far probabilities of classes that exclude each other may be from a sum of one: tables round."""


def holds_probabilities(path: Path) -> bool:
    """Whether a CSV has a column of probabilities; otherwise it names label maps."""
    return any(name.startswith(PROBABILITY) for name in tables.columns(path))


@dataclass(frozen=True)
class Classes:
    """Truth and probabilities of classes from a table, for metrics over the whole set."""

    evidence: tuple[Evidence, ...]
    table: LabelTable
    notes: tuple[str, ...] = ()


def of_probabilities(path: Path, labels: LabelTable | None = None) -> Classes:
    """Classes of images, or of slices where there is a column `slice`, with a column `probability NAME` for each.

    The column truth holds names or numbers of classes, joined by + where several hold; empty where none does. Without
    a label table, classes are numbered from 0 in the order of their columns.

    Raises:
        Refusal: a column or cell is missing, an unknown class, no probability from 0 to 1, or a line twice.
    """
    table = table_rows(path, ("case", "truth"))
    names = [name.removeprefix(PROBABILITY) for name in table[0] if name.startswith(PROBABILITY)]
    by_slice = "slice" in table[0]
    refuse_twice(path, [(row["case"], row["slice"]) if by_slice else (row["case"],) for row in table])
    if labels is not None and set(labels.names) != set(names):
        raise Refusal(
            path,
            found=f"probabilities of {', '.join(names)}",
            needed=f"those of the label table: {', '.join(labels.names)}",
            remedy="correct the columns' names or the label table",
        )
    numbers = {name: place for place, name in enumerate(names)}
    known = labels or LabelTable.classes(dict(numbers), exclusive=False, unit="slice" if by_slice else "image")
    truth = np.array([_classes(path, row, known) for row in table], np.uint8)
    chances = np.array([[_chance(path, row, name) for name in known.names] for row in table], np.float32)
    one_of_all = (truth.sum(axis=1) == 1).all() and (np.abs(chances.sum(axis=1) - 1) < SUM).all()
    if labels is None and len(names) > 1 and one_of_all and not by_slice:
        known = LabelTable.classes(dict(numbers), exclusive=True, unit="image")
    places: dict[str, list[int]] = {}
    for place, row in enumerate(table):
        places.setdefault(row["case"], []).append(place)
    evidence = []
    for case, members in places.items():
        row = table[members[0]]
        facts = {name: cell for name, cell in row.items() if name not in TAKEN and not name.startswith(COMPUTED)}
        who = sorted({patient(path, table[place]) for place in members})
        if len(who) > 1:
            raise Refusal(
                path,
                found=f"case '{case}' with the patients {', '.join(who)}",
                needed="one patient a case",
                remedy="correct the table",
            )
        evidence.append(Evidence(case, who[0], truth[members].T, chances[members].T, row.get("centre", ""), facts))
    return Classes(tuple(evidence), known, notes(table))


def _classes(path: Path, row: Mapping[str, str], table: LabelTable) -> list[bool]:
    """Which classes hold in a line."""
    return table.holding(_tables.numbers_of(row["truth"], table, path, row["case"], between="+"))


def _chance(path: Path, row: Mapping[str, str], name: str) -> float:
    cell = row[PROBABILITY + name]
    try:
        value = float(cell.replace(",", "."))
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise Refusal(
            path,
            found=f"'{cell}' as probability of {name} of case '{row['case']}'",
            needed="a number from 0 to 1",
            remedy="complete the table, or leave the case out",
        )
    return value
