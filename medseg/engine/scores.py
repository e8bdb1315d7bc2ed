"""What an evaluation found: as numbers, as JSON, and as a table for a terminal."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medseg import atomic
from medseg.engine import assess
from medseg.engine.assess import Pooled
from medseg.prediction import Evidence


@dataclass(frozen=True)
class Score:
    """The metrics of one label in one case; nan = undefined, inf = a distance to nothing."""

    case: str
    patient: str
    label: str
    values: dict[str, float]


@dataclass(frozen=True)
class Scores:
    """All scores of an evaluation, their units, a stamp when they are no estimate of generalisation, the cases that
    could not be scored, with the reason, and the numbers that are over all cases at once."""

    rows: tuple[Score, ...]
    units: dict[str, str]
    stamp: str = ""
    missing: tuple[str, ...] = field(default=())
    pooled: tuple[Pooled, ...] = ()
    evidence: tuple[Evidence, ...] = ()

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

    def to_json(self) -> dict[str, Any]:
        """Undefined and infinite values become the words "undefined" and "infinite": JSON has no number for them."""
        rows = [
            {name: value if isinstance(value, str) else _json_number(value) for name, value in row.items()}
            for row in self.table()
        ]
        means = {label: {name: _json_number(self.mean(name, label)) for name in self.units} for label in self.labels()}
        means["mean of labels"] = {name: _json_number(self.mean(name)) for name in self.units}
        return {
            "stamp": self.stamp,
            "not scored": self.missing,
            "units": self.units,
            "undefined": {label: self.undefined(label) for label in self.labels()},
            "means": means,
            "cases": rows,
            "over all cases": assess.to_json(self.pooled),
        }


def save(scores: Scores, folder: Path) -> None:
    """Write `metrics.json`."""
    with atomic.replacing(folder / "metrics.json") as temporary:
        temporary.write_text(json.dumps(scores.to_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def as_text(scores: Scores) -> str:
    """A table for a terminal: a row a label with the mean over cases, and how many values were not finite."""
    names = list(scores.units)
    heads = [f"{name} [{unit}]" if unit else name for name, unit in scores.units.items()]
    lines = ["label".ljust(28) + "".join(head.rjust(max(16, len(head) + 2)) for head in heads) + "   cases   undefined"]
    for label in [*scores.labels(), None]:
        cells = [_word(scores.mean(name, label)) for name in names]
        mine = [row for row in scores.rows if label in (None, row.label)]
        odd = max(scores.undefined(label).values(), default=0)
        text = (label or "mean of labels").ljust(28)
        text += "".join(cell.rjust(max(16, len(head) + 2)) for cell, head in zip(cells, heads, strict=True))
        lines.append(f"{text}{len({row.case for row in mine}):8d}{odd:12d}")
    lines = lines if scores.rows else []
    lines += ["", assess.as_text(scores.pooled)] if scores.pooled else []
    lines += [scores.stamp] * bool(scores.stamp) + [f"not scored: {case}" for case in scores.missing]
    return "\n".join(lines)


def _json_number(value: float) -> float | str:
    return value if math.isfinite(value) else _word(value)


def _word(value: float) -> str:
    if math.isnan(value):
        return "undefined"
    return "infinite" if math.isinf(value) else f"{value:.4f}"
