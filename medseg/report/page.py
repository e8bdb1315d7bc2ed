"""The page itself: what a report says, and how it becomes HTML."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from medseg import wording
from medseg.atomic import replacing
from medseg.report import charts, slices
from medseg.report.slices import Overlay

IDENTITY = ("case", "patient", "label")
DICE = re.compile(r"(^|_)dice($|_)", re.IGNORECASE)
AUROC = re.compile(r"(^|_)auroc($|_)", re.IGNORECASE)
CURVES = {
    "Loss": re.compile(r"loss", re.IGNORECASE),
    "Dice": DICE,
    "AUROC": AUROC,
    "Learning rate": re.compile(r"^lr$"),
    "Samples a second": re.compile(r"^samples_a_second$"),
    "Share of the time that was waited for data": re.compile(r"^wait$"),
}
"""What is drawn over epochs, by the names of columns."""


@dataclass(frozen=True)
class Report:
    """What the page says. Everything but the title may be left out, and then has no section.

    Attributes:
        title: heading of the page.
        stamp: a warning that stands above everything else ("not an estimate of generalisation"); empty for none.
        facts: provenance: versions, seed, device, duration, sha256 of the weights, ... in this order.
        headline: the few numbers to see first, as (name, value); a baseline belongs beside the result.
        history: a row per epoch: `epoch`, and any of `train_loss`, `validation_dice`, `lr`, `seconds`, ...
        metrics: a row per case and label: `case`, `patient`, `label`, then a number per metric, NaN where undefined.
        statistics: a row per label and number (and stratum): `over`, `label`, `number`, `unit`, `cases`, `patients`,
            `mean`, `sd`, `median`, `q1`, `q3`, `low`, `high` (of the mean's 95 % interval), `undefined`, `infinite`.
        pooled: a row per number over a whole set: `over`, `metric`, `row`, `value`, `low`, `high`.
        volumes: a row per case and label: `case`, `patient`, `label`, `truth_ml`, `predicted_ml`.
        overlays: cases to look at, in this order. Each costs about half a megabyte.
        data: description of the data and of its split, as name and text.
        notes: further remarks, a paragraph each.
    """

    title: str
    stamp: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    headline: Sequence[tuple[str, str | float]] = ()
    history: Sequence[Mapping[str, float]] = ()
    metrics: Sequence[Mapping[str, str | float]] = ()
    statistics: Sequence[Mapping[str, Any]] = ()
    pooled: Sequence[Mapping[str, Any]] = ()
    volumes: Sequence[Mapping[str, Any]] = ()
    overlays: Sequence[Overlay] = ()
    data: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


def write(path: Path, report: Report) -> None:
    """Write one self-contained HTML file, complete or not at all.

    Raises:
        OSError: the folder cannot be written to.
    """
    page = render(report).encode("utf-8")
    with replacing(path) as temporary:
        temporary.write_bytes(page)


def render(report: Report) -> str:
    """The page as text; the same report gives the same text."""
    import jinja2

    loader = jinja2.PackageLoader("medseg.report", "")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("template.html").render(
        report=report,
        value=wording.value,
        metrics=table(report.metrics, first=IDENTITY),
        pooled=table(report.pooled, first=("over", "metric", "row")),
        summary=summary(report.metrics),
        history=table(report.history, first=("epoch",)),
        strip_chart=_strip_chart(report.metrics),
        curves=_curves(report.history),
        cases=[_case(overlay, report.metrics) for overlay in report.overlays],
        scans=any(overlay.unit == "mm" for overlay in report.overlays),
    )


@dataclass(frozen=True)
class Cell:
    """A table cell: the words shown, what the table sorts by ("" last, whichever way), and a remark below the words."""

    words: str
    key: str
    number: bool
    remark: str = ""


@dataclass(frozen=True)
class Table:
    """Columns and cells of a table; a column counts as numeric when nothing in it is text."""

    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...]


def table(rows: Sequence[Mapping[str, Any]], *, first: Sequence[str]) -> Table:
    """Rows of any keys as a table: the columns named in `first`, where present, then the others as they come."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    columns = tuple(name for name in first if name in keys) + tuple(name for name in keys if name not in first)
    digits = {name: wording.digits_for(row.get(name) for row in rows) for name in columns}
    cells = tuple(tuple(_cell(row.get(name), digits[name]) for name in columns) for row in rows)
    numeric = tuple(all(row[position].number for row in cells) for position in range(len(columns)))
    return Table(columns, numeric, cells)


def _cell(given: Any, digits: int | None) -> Cell:
    words = wording.value(given, digits=digits)
    if not wording.is_number(given):
        return Cell(words, "" if given is None else str(given), number=given is None)
    # JavaScript reads 1e999 as infinity, but not Python's "inf".
    key = "" if math.isnan(given) else f"{math.copysign(1, given):.0f}e999" if math.isinf(given) else f"{given:.17g}"
    return Cell(words, key, number=True)


def summary(metrics: Sequence[Mapping[str, Any]]) -> Table:
    """A row per label: the mean of each metric over the cases where it is finite, saying where it is not."""
    names = [name for name in table(metrics, first=IDENTITY).columns if name not in IDENTITY]
    names = [name for name in names if all(wording.is_number(row[name]) for row in metrics if name in row)]
    digits = {name: wording.digits_for(row.get(name) for row in metrics) for name in names}
    rows = []
    for label in dict.fromkeys(str(row.get("label", "")) for row in metrics):
        of_label = [row for row in metrics if str(row.get("label", "")) == label]
        cells = [Cell(label, label, number=False), _cell(len({row.get("case") for row in of_label}), None)]
        cells += [_mean([float(row[name]) for row in of_label if name in row], digits[name]) for name in names]
        rows.append(tuple(cells))
    return Table(("label", "cases", *names), (False, True, *(True for _ in names)), tuple(rows))


def _mean(values: list[float], digits: int | None) -> Cell:
    finite = [value for value in values if math.isfinite(value)]
    undefined, infinite = sum(map(math.isnan, values)), sum(map(math.isinf, values))
    without = [f"{count} {word}" for count, word in ((undefined, "undefined"), (infinite, "infinite")) if count]
    remark = f"without {', '.join(without)}" if without else ""
    if not finite:
        return Cell("–", "", number=True, remark=remark)
    return Cell(wording.value(mean(finite), digits=digits), f"{mean(finite):.17g}", number=True, remark=remark)


def _dice_name(row: Mapping[str, Any]) -> str:
    """The column that holds Dice: 'dice' itself before any other that has the word in it; "" when there is none."""
    found = sorted((name for name in row if DICE.search(name)), key=len)
    return found[0] if found else ""


def _strip_chart(metrics: Sequence[Mapping[str, Any]]) -> str:
    by_label: dict[str, list[tuple[str, float]]] = {}
    for row in metrics:
        name = _dice_name(row)
        if name and wording.is_number(row[name]):
            cases = by_label.setdefault(str(row.get("label", "all")), [])
            cases.append((str(row.get("case", "")), float(row[name])))
    return charts.strips("Dice", list(by_label.items()))


def _curves(history: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(title, SVG) for each of `CURVES` that has a finite value."""
    keys = list(dict.fromkeys(key for row in history for key in row))
    drawn = []
    for title, pattern in CURVES.items():
        series = {name: _points(history, name) for name in keys if pattern.search(name)}
        mark = next((name for name in series if title in ("Dice", "AUROC") and "val" in name.lower()), "")
        svg = charts.curves(title, series, mark=mark)
        if svg:
            drawn.append((title, svg))
    return drawn


def _points(history: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    """(epoch, value); a row without the value (no validation in that epoch) is no gap in the line."""
    pairs = [(row.get("epoch", position), row.get(name)) for position, row in enumerate(history)]
    return [(float(x), float(y)) for x, y in pairs if y is not None and wording.is_number(y)]


@dataclass(frozen=True)
class Key:
    """One entry of a case's legend."""

    name: str
    colour: str
    dice: str


@dataclass(frozen=True)
class Case:
    """What the page shows of one overlay: its slices, as (caption, alternative text, base64 PNG), and the labels that
    are in them."""

    name: str
    keys: tuple[Key, ...]
    has_truth: bool
    panels: tuple[tuple[str, str, str], ...]


def _case(overlay: Overlay, metrics: Sequence[Mapping[str, Any]]) -> Case:
    from medseg.report.pictures import panel

    dice = {
        str(row.get("label")): wording.value(row[_dice_name(row)])
        for row in metrics
        if str(row.get("case")) == overlay.case and _dice_name(row)
    }
    chosen = [(plane, slices.busiest(overlay, plane)) for plane in slices.planes(overlay.shape)]
    seen = [any(there) for there in zip(*(slices.visible(overlay, *choice) for choice in chosen), strict=True)]
    labels = [label for label, there in zip(overlay.table.labels, seen, strict=True) if there]
    keys = [Key(label.name, "#{:02x}{:02x}{:02x}".format(*label.colour), dice.get(label.name, "")) for label in labels]
    drawn = []
    for plane, index in chosen:
        caption = f"{plane.name.capitalize()}, slice {index + 1} of {overlay.shape[plane.normal]}"
        if overlay.unit == "px":
            caption = "Picture"
        outlines = "prediction" if overlay.truth is None else "reference (dashed) and prediction"
        names = ", ".join(key.name for key in keys) or "no label present"
        alternative = f"{caption} of case {overlay.case}: outlines of {outlines}; {names}"
        png = base64.b64encode(panel(overlay, plane, index)).decode("ascii")
        drawn.append((caption, alternative, png))
    return Case(overlay.case, tuple(keys), overlay.truth is not None, tuple(drawn))
