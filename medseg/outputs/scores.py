"""Probabilities of classes as a table (.csv): a row for the image, or one for each slice."""

from __future__ import annotations

import csv
from pathlib import Path

from medseg.atomic import replacing
from medseg.prediction import Classification
from medseg.settings import Settings
from medseg.statistics import entropy

SUFFIX = ".csv"
WRITES = "classes"
READ_BACK_BY = None


class Options(Settings):
    """Nothing to choose."""


def write(classification: Classification, path: Path, options: Options) -> None:
    """Columns: case; slice (from 0) and position_mm where there are slices; the probability of each class; decision
    (class names, joined by " + " where several hold; empty where none does); entropy of the probabilities (nats, 0 is
    certain); and the spread of each probability where images were mirrored or several folds asked."""
    table, by_slice, spread = classification.table, len(classification.positions_mm) > 0, classification.spread
    places = ["slice", "position_mm"] if by_slice else []
    spreads = [] if spread is None else [f"spread {name}" for name in table.names]
    doubts = entropy(classification.probabilities, exclusive=table.exclusive)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(
            ["case", *places, *(f"probability {name}" for name in table.names), "decision", "entropy", *spreads]
        )
        columns = zip(classification.probabilities.T, classification.decisions.T, doubts, strict=True)
        for number, (chances, decided, doubt) in enumerate(columns):
            where = [number, f"{classification.positions_mm[number]:.3f}"] if by_slice else []
            held = " + ".join(name for name, holds in zip(table.names, decided, strict=True) if holds)
            numbers = (f"{value:.6f}" for value in (doubt, *(spread[:, number] if spread is not None else ())))
            writer.writerow([classification.case, *where, *(f"{chance:.6f}" for chance in chances), held, *numbers])
