"""What an evaluation found: as numbers, as JSON, and as a table for a terminal."""

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


def as_text(scores: Scores) -> str:
    """A table for a terminal: a row a label with the mean over cases, how many values were not finite, and below it the
    interval by patient; then a row a stratum."""
    heads = {name: f"{name} [{unit}]" if unit else name for name, unit in scores.units.items()}
    lines = ["label".ljust(28) + "".join(_right(head, head) for head in heads.values()) + "   cases   undefined"]
    bounds = {(row["label"], row["number"]): row for row in scores.statistics if row["over"] == summary.ALL}
    for label in [*scores.labels(), None]:
        mine = [row for row in scores.rows if label in (None, row.label)]
        odd = max(scores.undefined(label).values(), default=0)
        text = (label or summary.MEAN).ljust(28)
        text += "".join(_right(word(scores.mean(name, label)), head) for name, head in heads.items())
        lines.append(f"{text}{len({row.case for row in mine}):8d}{odd:12d}")
        cells = [_between(bounds.get((label or summary.MEAN, name))) for name in heads]
        if any(cells):
            words = "  95 % interval by patient".ljust(28)
            lines.append((words + "".join(map(_right, cells, heads.values()))).rstrip())
    lines = [*lines, *_strata(scores, heads)] if scores.rows else []
    lines += ["", assess.as_text(scores.pooled)] if scores.pooled else []
    lines += [scores.stamp] * bool(scores.stamp) + list(scores.notes)
    if scores.missing and (scores.rows or scores.evidence):
        scored = {row.case for row in scores.rows} | {one.case for one in scores.evidence}
        lines.append(
            f"All numbers are over the {len(scored)} cases that were scored, and leave out {len(scores.missing)}:"
        )
    return "\n".join([*lines, *(f"not scored: {case}" for case in scores.missing)])


def _strata(scores: Scores, heads: Mapping[str, str]) -> list[str]:
    """A row a stratum: the mean of labels, or each label where there is no such mean."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    whole = {row["over"] for row in scores.statistics if row["label"] == summary.MEAN}
    for row in scores.statistics:
        if row["over"] != summary.ALL and (row["label"] == summary.MEAN or row["over"] not in whole):
            label = "" if row["over"] in whole or len(scores.labels()) == 1 else row["label"]
            rows.setdefault((row["over"], label), {})[row["number"]] = row
    lines = []
    for (over, label), found in rows.items():
        text = f"{over} {label}".strip().ljust(28)
        text += "".join(_right(word(found[name]["mean"]), head) for name, head in heads.items())
        lines.append(f"{text}{max(row['cases'] for row in found.values()):8d}")
    return ["", *lines] if lines else []


def _right(cell: str, head: str) -> str:
    return cell.rjust(max(20, len(head) + 2))


def _between(row: Mapping[str, Any] | None) -> str:
    return "" if row is None or math.isnan(row["low"]) else f"{row['low']:.4f} to {row['high']:.4f}"


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
