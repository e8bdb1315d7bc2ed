"""Scores of cases in rows of statistics: per label and number, over all cases and by stratum, and means of patients."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from medseg import clustered
from medseg.engine.score import Score
from medseg.metrics import Number
from medseg.refusal import Refusal

ALL = "all cases"
MEAN = "mean of labels"
SIZE = "size"
"""What results are told apart by when it is the volume of the label in the truth."""
VALUES = 6
"""Different numbers in a column up to which each is a stratum of its own; beyond, cases are put into thirds."""


@dataclass(frozen=True)
class Grid:
    """Scores as arrays.

    Attributes:
        cases, labels: names, in the order of the scores.
        patients: (cases,) of each case, numbered.
        values: (cases, labels, numbers); nan where undefined, and where a case has no such label.
        sizes: (cases, labels) of the label in the truth, in `unit`; nan where not known.
        unit: ml or px.
    """

    cases: tuple[str, ...]
    labels: tuple[str, ...]
    patients: np.ndarray
    values: np.ndarray
    sizes: np.ndarray
    unit: str

    @classmethod
    def of(cls, rows: Sequence[Score], names: Sequence[str]) -> Grid:
        cases, labels = (list(dict.fromkeys(getattr(row, key) for row in rows)) for key in ("case", "label"))
        values = np.full((len(cases), len(labels), len(names)), np.nan)
        sizes = np.full(values.shape[:2], np.nan)
        who = dict.fromkeys(cases, "")
        places = ({name: place for place, name in enumerate(some)} for some in (cases, labels))
        of_case, of_label = places
        for row in rows:
            place = of_case[row.case], of_label[row.label]
            values[place] = [row.values[name] for name in names]
            sizes[place] = row.size
            who[row.case] = row.patient
        unit = next((row.size_unit for row in rows), "ml")
        return cls(tuple(cases), tuple(labels), clustered.numbered(list(who.values())), values, sizes, unit)


class Stratum(NamedTuple):
    """Some of the cases.

    Attributes:
        name: what they have in common.
        there: (cases,) which they are.
        labels: the labels that it is about; the mean of all says something only where it is about all.
    """

    name: str
    there: np.ndarray
    labels: Sequence[int]


def statistics(
    rows: Sequence[Score], numbers: Mapping[str, Number], facts: Mapping[str, Mapping[str, str]], by: Sequence[str]
) -> list[dict[str, Any]]:
    """A row a stratum, label and number: over, label, number, unit, cases and patients with a value, mean, sd, median,
    quartiles, low and high of the 95 % interval of the mean by patient, and how many values are undefined or infinite.
    Mean, median and quartiles count infinite values, sd leaves them out.

    Args:
        facts: of each case, by column.
        by: columns, or `size`; see `refuse_unknown`.
    """
    if not rows or not numbers:
        return []
    grid = Grid.of(rows, list(numbers))
    return [row for stratum in _strata(grid, facts, by) for row in _of_stratum(grid, numbers, stratum)]


def of_patients(rows: Sequence[Score], names: Sequence[str]) -> list[dict[str, Any]]:
    """A row a patient and label: patient, label, cases, and the mean of each number over his cases; undefined values
    are left out, infinite ones are not."""
    grouped: dict[tuple[str, str], list[Score]] = {}
    for row in rows:
        grouped.setdefault((row.patient, row.label), []).append(row)
    found = []
    for (patient, label), members in grouped.items():
        means = clustered.mean(np.array([[row.values[name] for name in names] for row in members]))
        values = dict(zip(names, means.tolist(), strict=True))
        found.append({"patient": patient, "label": label, "cases": len(members), **values})
    return found


def _of_stratum(grid: Grid, numbers: Mapping[str, Number], stratum: Stratum) -> Iterator[dict[str, Any]]:
    values = grid.values[stratum.there][:, stratum.labels]
    patients = clustered.numbered(grid.patients[stratum.there].tolist())
    flat = values.reshape(len(values), -1)
    parts = (*_described(flat, patients), *clustered.intervals(flat, patients))
    described = [part.reshape(values.shape[1:]) for part in parts]
    for place, label in enumerate(grid.labels[label] for label in stratum.labels):
        for column, (name, number) in enumerate(numbers.items()):
            here = values[:, place, column]
            found = dict(zip(COLUMNS, (part[place, column].item() for part in described), strict=True))
            found |= {"cases": int(found["cases"]), "patients": int(found["patients"])}
            found["low"], found["high"] = _possible(found["low"], found["high"], number, here)
            head = {"over": stratum.name, "label": label, "number": name, "unit": number.unit}
            odd = {"undefined": int(np.isnan(here).sum()), "infinite": int(np.isinf(here).sum())}
            yield head | found | odd
    if len(stratum.labels) == len(grid.labels) > 1:
        yield from _of_labels(values, patients, numbers, stratum.name)


COLUMNS = ("cases", "patients", "mean", "sd", "median", "q1", "q3", "low", "high")


def _described(values: np.ndarray, patients: np.ndarray) -> Iterator[np.ndarray]:
    """(columns,) each: cases, patients, mean, sd, median, quartiles of (cases, columns)."""
    there = ~np.isnan(values)
    yield there.sum(axis=0)
    yield (clustered.sums(values, patients).of > 0).sum(axis=0)
    yield clustered.mean(values)
    finite = np.where(np.isfinite(values), values, np.nan)
    middle = clustered.mean(finite)
    yield np.sqrt(_ratio(np.nansum((finite - middle) ** 2, axis=0), np.isfinite(values).sum(axis=0) - 1))
    for part in (0.5, 0.25, 0.75):
        yield clustered.quantile(values, part)


def _of_labels(
    values: np.ndarray, patients: np.ndarray, numbers: Mapping[str, Number], over: str
) -> Iterator[dict[str, Any]]:
    """The mean over labels of their means; of it there is an interval, but no spread over cases."""
    means = clustered.mean(clustered.mean(values))
    bounds = clustered.intervals_over_labels(values, patients)
    for column, (name, number) in enumerate(numbers.items()):
        here = values[:, :, column]
        cases = (~np.isnan(here)).any(axis=1)
        low, high = _possible(bounds[0, column].item(), bounds[1, column].item(), number, here)
        yield {
            "over": over,
            "label": MEAN,
            "number": name,
            "unit": number.unit,
            "cases": int(cases.sum()),
            "patients": len(set(patients[cases].tolist())),
            "mean": means[column].item(),
            **dict.fromkeys(("sd", "median", "q1", "q3"), math.nan),
            "low": low,
            "high": high,
            "undefined": int(np.isnan(here).sum()),
            "infinite": int(np.isinf(here).sum()),
        }


def _possible(low: float, high: float, number: Number, values: np.ndarray) -> tuple[float, float]:
    """An interval without what no mean can be: shares lie from 0 to 1, and what is best when low is at least 0."""
    finite = values[np.isfinite(values)]
    if not len(finite) or finite.min() < 0 or number.better not in ("higher", "lower"):
        return low, high
    share = not number.unit and finite.max() <= 1
    return max(low, 0.0) if share or number.better == "lower" else low, min(high, 1.0) if share else high


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def refuse_unknown(by: Sequence[str], facts: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse a column that no case has; to be asked before anything is predicted or scored.

    Args:
        facts: of each case, by column.
    """
    known = sorted({name for some in facts.values() for name in some})
    odd = [name for name in by if name not in (*known, SIZE)]
    if odd:
        raise Refusal(
            "--by",
            found=f"'{odd[0]}'",
            needed=f"a column of the table of cases ({', '.join(known) or 'there is none'}), or {SIZE}",
            remedy="correct it, or add the column",
        )


def _strata(grid: Grid, facts: Mapping[str, Mapping[str, str]], by: Sequence[str]) -> Iterator[Stratum]:
    labels = range(len(grid.labels))
    yield Stratum(ALL, np.ones(len(grid.cases), bool), labels)
    for column in by:
        if column == SIZE:
            yield from _by_size(grid)
        else:
            cells = [facts.get(case, {}).get(column, "") for case in grid.cases]
            yield from (Stratum(name, there, labels) for name, there in groups(column, cells))


def groups(column: str, cells: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Names of strata, and which cases they hold: a value each, or thirds of many numbers."""
    numbers = np.array([_number(cell) for cell in cells])
    stated = np.array([bool(cell) for cell in cells])
    if len(set(cells) - {""}) > VALUES and not np.isnan(numbers[stated]).any():
        yield from ((f"{column} {words}", members) for words, members in _thirds(numbers))
    else:
        for value in sorted(set(cells) - {""}):
            yield f"{column} {value}", np.array([cell == value for cell in cells])
    if not stated.all():
        yield f"{column} not stated", ~stated


def _by_size(grid: Grid) -> Iterator[Stratum]:
    """Thirds of each label's size in the truth, where it is there."""
    for place in range(len(grid.labels)):
        sizes = grid.sizes[:, place]
        for words, there in _thirds(np.where(sizes > 0, sizes, np.nan)):
            yield Stratum(f"{SIZE} {words} {grid.unit}", there, [place])


def _thirds(values: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The lowest, middle and highest third of what is not nan, in words; fewer where values are equal, and none of
    fewer than three."""
    if (~np.isnan(values)).sum() < 3:
        return
    first, second = np.nanquantile(values, (1 / 3, 2 / 3))
    parts = (
        (f"up to {first:.4g}", values <= first),
        (f"{first:.4g} to {second:.4g}", (values > first) & (values <= second)),
        (f"above {second:.4g}", values > second),
    )
    yield from ((words, members) for words, members in parts if members.any())


def _number(cell: str) -> float:
    try:
        return float(cell.replace(",", "."))
    except ValueError:
        return math.nan
