"""Tables of a page: rows of any keys become cells that know what they show and what they sort by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

from medseg import wording

IDENTITY = ("case", "patient", "label")
MEAN = "mean of labels"
"""What statistics call the row over all labels."""


@dataclass(frozen=True)
class Cell:
    """A table cell: the words shown, what the table sorts by ("" last, whichever way), and a remark below the words."""

    words: str
    key: str
    number: bool
    remark: str = ""


@dataclass(frozen=True)
class Table:
    """Columns and cells of a table; a column counts as numeric when nothing in it is text.

    Attributes:
        labels: what the column "label" holds, for a choice of one; empty without such a column.
    """

    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def labels(self) -> tuple[str, ...]:
        if "label" not in self.columns:
            return ()
        place = self.columns.index("label")
        return tuple(dict.fromkeys(row[place].words for row in self.rows))


def table(rows: Sequence[Mapping[str, Any]], *, first: Sequence[str], alike: bool = True) -> Table:
    """Rows of any keys as a table: the columns named in `first`, where present, then the others as they come. The
    numbers of a column are of one kind (`alike`) and get the same digits, or each its own."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    columns = tuple(name for name in first if name in keys) + tuple(name for name in keys if name not in first)
    digits = {name: wording.digits_for(row.get(name) for row in rows) if alike else None for name in columns}
    cells = tuple(tuple(_cell(row.get(name), digits[name]) for name in columns) for row in rows)
    numeric = tuple(all(row[position].number for row in cells) for position in range(len(columns)))
    return Table(columns, numeric, cells)


def numbers(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns of a table of metrics that hold nothing but numbers, in their order."""
    names = [name for name in table(rows, first=IDENTITY).columns if name not in IDENTITY]
    return [name for name in names if all(wording.is_number(row[name]) for row in rows if name in row)]


def summary(metrics: Sequence[Mapping[str, Any]], statistics: Sequence[Mapping[str, Any]] = ()) -> Table:
    """A row per label: the mean of each metric over the cases where it is defined, saying where it is not, and the
    interval of the mean where `statistics` know it."""
    names, bounds = numbers(metrics), intervals(statistics)
    digits = {name: wording.digits_for(row.get(name) for row in metrics) for name in names}
    rows = []
    for label in dict.fromkeys(str(row.get("label", "")) for row in metrics):
        of_label = [row for row in metrics if str(row.get("label", "")) == label]
        cells = [Cell(label, label, number=False), _cell(len({row.get("case") for row in of_label}), None)]
        for name in names:
            values = [float(row[name]) for row in of_label if name in row]
            cells.append(_mean(values, digits[name], bounds.get((label, name))))
        rows.append(tuple(cells))
    return Table(("label", "cases", *names), (False, True, *(True for _ in names)), tuple(rows))


def intervals(statistics: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], tuple[float, float]]:
    """(low, high) of the mean by label and number, over all cases: what comes first; strata come after it."""
    first = statistics[0]["over"] if statistics else None
    return {
        (str(row["label"]), str(row["number"])): (float(row["low"]), float(row["high"]))
        for row in statistics
        if row["over"] == first and all(wording.is_number(row.get(end)) for end in ("low", "high"))
    }


def _cell(given: Any, digits: int | None) -> Cell:
    words = wording.value(given, digits=digits)
    if not wording.is_number(given):
        return Cell(words, "" if given is None else str(given), number=given is None)
    # JavaScript reads 1e999 as infinity, but not Python's "inf".
    key = "" if math.isnan(given) else f"{math.copysign(1, given):.0f}e999" if math.isinf(given) else f"{given:.17g}"
    return Cell(words, key, number=True)


def _mean(values: list[float], digits: int | None, bounds: tuple[float, float] | None) -> Cell:
    """Undefined values are left out. Infinite ones are not, or a structure that was missed would improve a mean
    distance; what the others have is said beside it."""
    defined = [value for value in values if not math.isnan(value)]
    finite = [value for value in defined if math.isfinite(value)]
    infinite, undefined = len(defined) - len(finite), len(values) - len(defined)
    remarks = [between(bounds, digits)] if bounds else []
    if infinite:
        rest = f", mean of the others {wording.value(mean(finite), digits=digits)}" if finite else ""
        remarks.append(f"{infinite} infinite{rest}")
    remarks += [f"without {undefined} undefined"] if undefined else []
    remark = "\n".join(filter(None, remarks))
    if not defined:
        return Cell("–", "", number=True, remark=remark)
    return replace(_cell(mean(defined), digits), remark=remark)


def between(bounds: tuple[float, float], digits: int | None = None) -> str:
    """An interval in words; none where it has no ends."""
    if not all(map(math.isfinite, bounds)):
        return ""
    return " to ".join(wording.value(end, digits=digits) for end in bounds)
