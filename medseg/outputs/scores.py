"""Probabilities of classes as a table (.csv): a row for the image, or one for each slice."""

from __future__ import annotations

import csv
from pathlib import Path

from medseg.atomic import replacing
from medseg.prediction import Classification
from medseg.settings import Settings

SUFFIX = ".csv"
WRITES = "classes"
READ_BACK_BY = None


class Options(Settings):
    """Nothing to choose."""


def write(classification: Classification, path: Path, options: Options) -> None:
    """Columns: case; slice (from 0) and position_mm where there are slices; the probability of each class; decision
    (class names, joined by " + " where several hold; empty where none does)."""
    table, by_slice = classification.table, len(classification.positions_mm) > 0
    places = ["slice", "position_mm"] if by_slice else []
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["case", *places, *(f"probability {name}" for name in table.names), "decision"])
        columns = zip(classification.probabilities.T, classification.decisions.T, strict=True)
        for number, (chances, decided) in enumerate(columns):
            where = [number, f"{classification.positions_mm[number]:.3f}"] if by_slice else []
            held = " + ".join(name for name, holds in zip(table.names, decided, strict=True) if holds)
            writer.writerow([classification.case, *where, *(f"{chance:.6f}" for chance in chances), held])
