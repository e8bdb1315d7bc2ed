"""Evaluations compared case by case: paired differences by patient, corrected tests, and a ranking of three or more."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medseg import atomic, clustered, paired
from medseg.engine.scores import sayable, word, write_csv
from medseg.engine.summary import MEAN
from medseg.engine.told import Shared, load, pairs, shared
from medseg.refusal import Refusal

SIGNIFICANT = 0.05
ALL = "all numbers"
MOST_ROWS = 60
"""Of a table on a terminal; a longer one is cut down to means of labels and what differs."""


@dataclass(frozen=True)
class Comparison:
    """What was found.

    Attributes:
        rows: of each two evaluations, a row a label and number, and one for the mean of labels.
        rankings: a row a number and evaluation, and one over all numbers; empty for two evaluations.
    """

    shared: Shared
    test: str
    rows: list[dict[str, Any]]
    rankings: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """Undefined and infinite values become words, as in metrics.json."""
        return {
            "evaluations": self.shared.names,
            "cases": self.shared.cases,
            "patients": int(self.shared.patients.max(initial=-1)) + 1,
            "test": self.test,
            "notes": self.shared.notes,
            "differences": [sayable(row) for row in self.rows],
            "rankings": [sayable(row) for row in self.rankings],
        }


def compare(paths: Sequence[Path], *, test: str = "wilcoxon") -> Comparison:
    """Compare what `medseg evaluate` wrote into each of `paths`.

    Every row has the mean of both over the cases where both are defined, the mean difference with its 95 % interval by
    patient, for how many patients each is better, p and p corrected after Holm over all labels and numbers of the
    comparison (means of labels among themselves), and which is better where that p is below 0.05. Where a number is
    best nearer zero, magnitudes are compared.

    Raises:
        Refusal: see `told.load` and `told.shared`; no such test.
    """
    if test not in paired.TESTS:
        raise Refusal("--test", found=f"'{test}'", needed=f"one of {', '.join(paired.TESTS)}", remedy="correct it")
    together = shared([load(path) for path in paths])
    rows = [row for first, second in pairs(together) for row in _of_two(together, first, second, test)]
    for means in (True, False):
        family = [row for row in rows if (row["label"] == MEAN) == means]
        for row, p in zip(family, paired.holm([row["p"] for row in family]), strict=True):
            row["p_holm"] = p
            row["better"] = row["better"] if p < SIGNIFICANT else ""
    return Comparison(together, test, rows, _rankings(together) if len(together.names) > 2 else [])


def save(found: Comparison, folder: Path) -> None:
    """Write `compare.json` and, with the differences alone, `compare.csv`."""
    with atomic.replacing(folder / "compare.json") as temporary:
        temporary.write_text(json.dumps(found.to_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    write_csv(folder / "compare.csv", found.rows)


def _of_two(together: Shared, first: int, second: int, test: str) -> list[dict[str, Any]]:
    magnitudes = [number.better == "nearer zero" for number in together.numbers.values()]
    sides = [np.where(magnitudes, np.abs(together.values[place]), together.values[place]) for place in (first, second)]
    apart = paired.differences(*sides)
    both = (np.where(np.isnan(apart), np.nan, side) for side in sides)
    values, *means = (_with_mean_of_labels(each) for each in (apart, *both))
    bounds = clustered.intervals(values, together.patients)
    by_patient = clustered.sums(values, together.patients).means()
    averages = [clustered.mean(side) for side in (*means, values)]
    labels = (*together.labels, *([MEAN] if len(together.labels) > 1 else []))
    keys = [(label, name) for label in labels for name in together.numbers]
    return [
        _row(
            {"first": together.names[first], "second": together.names[second], "label": label, "number": name},
            together.numbers[name].better,
            test,
            values[:, column],
            by_patient[:, column],
            [*(average[column].item() for average in averages), *bounds[:, column].tolist()],
        )
        | {"unit": together.numbers[name].unit}
        for column, (label, name) in enumerate(keys)
    ]


def _with_mean_of_labels(values: np.ndarray) -> np.ndarray:
    """(cases, labels, numbers) -> (cases, columns): a column a label and number, then the means over labels, if there
    are several, by number."""
    flat = values.reshape(len(values), -1)
    if values.shape[1] == 1:
        return flat
    return np.concatenate([flat, clustered.mean(np.moveaxis(values, 1, 0))], axis=1)


def _row(
    head: dict[str, str],
    better: str,
    test: str,
    values: np.ndarray,
    by_patient: np.ndarray,
    told: Sequence[float],
) -> dict[str, Any]:
    known = ~np.isnan(values)
    gains = by_patient if better == "higher" else -by_patient
    answer = paired.TESTS[test](gains)
    counts = [int((gains > 0).sum()), int((gains < 0).sum()), int((gains == 0).sum())]
    return {
        **head,
        "cases": int(known.sum()),
        "patients": int((~np.isnan(by_patient)).sum()),
        "left_out": int((~known).sum()),
        **dict(zip(("first_mean", "second_mean", "difference", "low", "high"), told, strict=True)),
        **dict(zip(("first_better", "second_better", "equal"), counts, strict=True)),
        "p": answer.p,
        "p_holm": math.nan,
        "better": {1: head["first"], -1: head["second"]}.get(answer.side, ""),
    }


def _rankings(together: Shared) -> list[dict[str, Any]]:
    runs, _, labels, _ = together.values.shape
    patients = np.repeat(together.patients, labels)
    ranked = {
        name: paired.ranks(together.values[..., place].reshape(runs, -1).T, number.better)
        for place, (name, number) in enumerate(together.numbers.items())
    }
    parts = {name: (ranks, patients) for name, ranks in ranked.items()}
    if len(ranked) > 1:
        parts[ALL] = np.concatenate(list(ranked.values())), np.tile(patients, len(ranked))
    rows = []
    for name, (ranks, who) in parts.items():
        found = paired.ranking(ranks, who)
        for place, run in enumerate(together.names):
            shares = {str(rank): share for rank, share in enumerate(found.shares[place].tolist(), 1)}
            rows.append(
                {
                    "number": name,
                    "evaluation": run,
                    "mean_rank": found.mean[place].item(),
                    "place": found.place[place].item(),
                    "values": int((~np.isnan(ranks[:, place])).sum()),
                    "shares": shares,
                    "tau": found.tau,
                }
            )
    return rows


def as_text(found: Comparison) -> str:
    """Tables for a terminal: differences of each two, and rankings."""
    together = found.shared
    lines = [f"{name}: {run}" for name, run in zip(_letters(together), together.names, strict=True)]
    lines.append(f"cases: {len(together.cases)}, of patients: {int(together.patients.max()) + 1}")
    lines += together.notes
    shown = [row for row in found.rows if row["label"] == MEAN or row["better"]]
    shown = found.rows if len(found.rows) <= MOST_ROWS else shown
    lines += ["", *_differences(found, shown)]
    if len(shown) < len(found.rows):
        lines.append(f"({len(found.rows) - len(shown)} rows without a difference shown are in compare.csv)")
    lines.append(
        "A - B: mean over cases, 95 % interval by patient; of numbers that are best nearer zero, of magnitudes. "
        f"p: {found.test} on patients, corrected after Holm."
    )
    left_out = max((row["left_out"] for row in found.rows), default=0)
    if left_out:
        lines.append(
            f"Up to {left_out} cases of a number are left out, because it is undefined in one of the two or in both."
        )
    return "\n".join([*lines, *_ranking_lines(found)])


def _letters(together: Shared) -> list[str]:
    return [f"{chr(ord('A') + place)}" if place < 26 else f"run {place + 1}" for place in range(len(together.names))]


def _differences(found: Comparison, rows: Sequence[dict[str, Any]]) -> list[str]:
    letters = dict(zip(found.shared.names, _letters(found.shared), strict=True))
    heads = ("", "label", "number", "first", "second", "difference", "95 % interval", "better for", "p", "p (Holm)")
    cells = [(*heads, "better")]
    for row in rows:
        low, high = row["low"], row["high"]
        cells.append(
            (
                f"{letters[row['first']]} - {letters[row['second']]}",
                *(row["label"], f"{row['number']} [{row['unit']}]" if row["unit"] else row["number"]),
                *(word(row[key]) for key in ("first_mean", "second_mean", "difference")),
                "" if math.isnan(low) else f"{low:.4f} to {high:.4f}",
                f"{row['first_better']} : {row['second_better']}",
                *(_chance(row[key]) for key in ("p", "p_holm")),
                letters.get(row["better"], ""),
            )
        )
    return _columns(cells)


def _ranking_lines(found: Comparison) -> list[str]:
    if not found.rankings:
        return []
    letters = dict(zip(found.shared.names, _letters(found.shared), strict=True))
    cells = [("number", "run", "mean rank", "place", "share of draws of patients in which its place is", "tau")]
    for row in found.rankings:
        shares = ", ".join(f"{rank}: {100 * share:.0f} %" for rank, share in row["shares"].items() if share)
        words = (f"{row['mean_rank']:.3f}", f"{row['place']:g}", shares, word(row["tau"]))
        cells.append((row["number"], letters[row["evaluation"]], *words))
    return [
        "",
        "Ranking: ranked in each case and label, ranks averaged; tau: agreement of draws with it.",
        *_columns(cells),
    ]


def _columns(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) + 2 for column in zip(*cells, strict=True)]
    return ["".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _chance(p: float) -> str:
    return "" if math.isnan(p) else "< 0.0001" if p < 1e-4 else f"{p:.4f}"
