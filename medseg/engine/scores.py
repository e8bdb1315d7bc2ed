"""What an evaluation found, as numbers, as JSON and as a table."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medseg import atomic
from medseg.engine import assess, summary
from medseg.engine.assess import Pooled
from medseg.engine.score import Score
from medseg.metrics import Number
from medseg.prediction import Evidence


@dataclass(frozen=True)
class Scores:
    """All scores of an evaluation.

    Attributes:
        numbers: what each number is.
        stamp: said where they are no estimate of generalisation.
        missing: cases that could not be scored, with the reason.
        pooled: numbers over all cases at once, from `evidence`.
        reliability: rows of curves, from `evidence`; see `assess.reliability`.
        notes: what readers of the numbers should know of them.
        facts: of each case, by column, for `by`.
        by: columns (or `size`) by which results are told apart.
        truths: fingerprint of each case's truth, so that numbers on another truth are not compared with these.
        chosen: whether the run was chosen by these same cases.
        metrics: with which options each number was made; see `evaluate.settings`.
    """

    rows: tuple[Score, ...]
    numbers: Mapping[str, Number]
    stamp: str = ""
    missing: tuple[str, ...] = ()
    pooled: tuple[Pooled, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    reliability: Sequence[Mapping[str, Any]] = ()
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    by: tuple[str, ...] = ()
    truths: Mapping[str, str] = field(default_factory=dict)
    chosen: bool = False
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def units(self) -> dict[str, str]:
        return {name: number.unit for name, number in self.numbers.items()}

    @cached_property
    def statistics(self) -> list[dict[str, Any]]:
        """See `summary.statistics`."""
        return summary.statistics(self.rows, self.numbers, self.facts, self.by)

    def value(self, metric: str, row: str, over: str | None = None) -> float:
        """One number over all cases; `over` as in `Pooled`, by default the first level."""
        return next(
            one.value for one in self.pooled if (one.metric, one.row) == (metric, row) and over in (None, one.over)
        )

    def mean(self, metric: str, label: str | None = None) -> float:
        """Mean over the defined values of one label; without a label, the mean of the labels' means.

        Undefined values are left out; infinite ones are not, or a structure that was missed would improve a mean
        distance.
        """
        if label is None:
            values = [self.mean(metric, each) for each in self.labels()]
        else:
            values = [row.values[metric] for row in self.rows if row.label == label]
        defined = [value for value in values if not math.isnan(value)]
        return float(np.mean(defined)) if defined else math.nan

    def undefined(self, label: str | None = None) -> dict[str, int]:
        """How many values of each metric are undefined, of one label or of all."""
        rows = [row for row in self.rows if label in (None, row.label)]
        return {metric: sum(math.isnan(row.values[metric]) for row in rows) for metric in self.units}

    def labels(self) -> list[str]:
        return list(dict.fromkeys(row.label for row in self.rows))

    def table(self) -> list[dict[str, str | float]]:
        """A row a case and label, flat."""
        return [{"case": row.case, "patient": row.patient, "label": row.label, **row.values} for row in self.rows]

    def volumes(self) -> list[dict[str, str | float]]:
        """A row a case and label: true and predicted millilitres; none of photographs."""
        return [
            {
                "case": row.case,
                "patient": row.patient,
                "label": row.label,
                "truth_ml": row.voxels[0] * row.voxel_ml,
                "predicted_ml": row.voxels[1] * row.voxel_ml,
            }
            for row in self.rows
            if not math.isnan(row.voxel_ml)
        ]

    def to_json(self) -> dict[str, Any]:
        """Undefined and infinite values become the words "undefined" and "infinite": JSON has no number for them."""
        means = {label: {name: self.mean(name, label) for name in self.units} for label in self.labels()}
        means[summary.MEAN] = {name: self.mean(name) for name in self.units}
        return {
            "stamp": self.stamp,
            "chosen by these cases": self.chosen,
            "not scored": self.missing,
            "notes": self.notes,
            "metrics": self.metrics,
            "units": self.units,
            "better": {name: number.better for name, number in self.numbers.items()},
            "undefined": {label: self.undefined(label) for label in self.labels()},
            "means": {label: sayable(row) for label, row in means.items()},
            "statistics": [sayable(row) for row in self.statistics],
            "patients": [sayable(row) for row in summary.of_patients(self.rows, list(self.units))],
            "cases": [sayable(row) for row in self.table()],
            "over all cases": assess.to_json(self.pooled),
            "reliability": self.reliability,
            "truths": self.truths,
        }


def save(scores: Scores, folder: Path) -> None:
    """Write `metrics.json`, and `metrics.csv` with a row a case and label: an undefined number is an empty cell."""
    with atomic.replacing(folder / "metrics.json") as temporary:
        temporary.write_text(json.dumps(scores.to_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if scores.rows:
        write_csv(folder / "metrics.csv", scores.table())
    else:  # one of an earlier evaluation would be taken for this one's
        (folder / "metrics.csv").unlink(missing_ok=True)


def sayable(row: Mapping[str, Any]) -> dict[str, Any]:
    """With words for numbers that JSON has not."""
    return {
        name: word(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }


def word(value: float) -> str:
    """For people; JSON has it where there is no number."""
    if math.isnan(value):
        return "undefined"
    return f"{value:.4f}" if math.isfinite(value) else "infinite" if value > 0 else "minus infinite"


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table (RFC 4180) of rows with the same keys; an undefined number is an empty cell."""
    with atomic.replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        for row in rows:
            undefined = {name for name, cell in row.items() if isinstance(cell, float) and math.isnan(cell)}
            writer.writerow({name: "" if name in undefined else cell for name, cell in row.items()})
