"""The page itself: what a report says, and how it becomes HTML."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from medseg import wording
from medseg.atomic import replacing
from medseg.report import agreement, boxes, charts, markup, reliability
from medseg.report.cases import Drawn
from medseg.report.tables import IDENTITY, MEAN, between, intervals, numbers, summary, table

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
VERDICTS = {"fail": "✗", "look": "?", "pass": "✓"}
"""Signs of the verdicts, worst first: a colour alone is not seen by all."""


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
            Those over all cases come first; "mean of labels" is a label, too.
        pooled: a row per number over a whole set: `over`, `metric`, `row`, `value`, `low`, `high`.
        volumes: a row per case and label: `case`, `patient`, `label`, `truth_ml`, `predicted_ml`.
        reliability: a row per label and bin: `label`, `probability` (its mean), `share` (truly so), `places`.
        quality: a row per case: `case`, `verdict` (pass, look or fail), `score`, `reasons` (text, or a list of them).
        overlays: cases to look at, in this order, the worst first.
        data: description of the data and of its split, as name and text.
        leaks: what was checked of the split, and what was found, as name and text.
        card: the model card, in Markdown.
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
    reliability: Sequence[Mapping[str, Any]] = ()
    quality: Sequence[Mapping[str, Any]] = ()
    overlays: Sequence[Drawn] = ()
    data: Mapping[str, str] = field(default_factory=dict)
    leaks: Mapping[str, str] = field(default_factory=dict)
    card: str = ""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Chart:
    """One of several charts to choose from: what it is called in the list, its SVG, and a line below it."""

    name: str
    svg: str
    caption: str


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
        heading=partial(_heading, units=_units(report)),
        metrics=table(report.metrics, first=IDENTITY),
        statistics=table(report.statistics, first=("over", "label", "number", "unit"), alike=False),
        pooled=table(report.pooled, first=("over", "metric", "row")),
        summary=summary(report.metrics, report.statistics),
        headline=_headline(report),
        history=table(report.history, first=("epoch",)),
        quality=table(_quality(report.quality), first=("case", "verdict", "score", "reasons")),
        verdicts=_verdicts(report.quality),
        spreads=_spreads(report),
        agreements=_by_label(
            report.volumes, ("case", "truth_ml", "predicted_ml"), agreement.agreement, agreement.in_words
        ),
        calibrations=_by_label(
            report.reliability, ("probability", "share", "places"), reliability.reliability, _places
        ),
        curves=_curves(report.history),
        dice={
            (str(row.get("case")), str(row.get("label"))): row[_dice_name(row)]
            for row in report.metrics
            if _dice_name(row)
        },
        card=markup.html(report.card),
    )


def _dice_name(row: Mapping[str, Any]) -> str:
    """The column that holds Dice: 'dice' itself before any other that has the word in it; "" when there is none."""
    found = sorted((name for name in row if DICE.search(name)), key=len)
    return found[0] if found else ""


def _units(report: Report) -> dict[str, str]:
    """Of each number."""
    return {str(row.get("number")): str(row.get("unit") or "") for row in report.statistics}


def _heading(name: str, units: Mapping[str, str]) -> str:
    """What a column is called: in words, with the unit unless its name says it."""
    words, unit = name.replace("_", " "), units.get(name.removeprefix("mean "), "")
    said = not unit or words.endswith(" percent" if unit == "%" else f" {unit}")
    return words if said else f"{words} [{unit}]"


def _headline(report: Report) -> list[tuple[str, str, str]]:
    """(name, value, interval) of each: that of "mean dice" is that of dice over the labels, or of the only label."""
    bounds = intervals(report.statistics)
    labels = {str(row["label"]) for row in report.statistics}
    whose = labels.pop() if len(labels) == 1 else MEAN
    found = []
    for name, given in report.headline:
        of = bounds.get((whose, name.removeprefix("mean ")))
        found.append((name, wording.value(given), f"95 % interval {between(of)}" if of and between(of) else ""))
    return found


def _spreads(report: Report) -> list[Chart]:
    """A box plot for each number, Dice first."""
    first = next((_dice_name(row) for row in report.metrics if _dice_name(row)), "")
    units = _units(report)
    made = []
    for name in sorted(numbers(report.metrics), key=lambda name: name != first):
        by_label: dict[str, list[tuple[str, float]]] = {}
        for row in report.metrics:
            if name in row:
                cases = by_label.setdefault(str(row.get("label", "all")), [])
                cases.append((str(row.get("case", "")), float(row[name])))
        made.append(Chart(_heading(name, units), boxes.boxes(name, list(by_label.items())), ""))
    return [chart for chart in made if chart.svg]


def _by_label(
    rows: Sequence[Mapping[str, Any]],
    columns: tuple[str, str, str],
    draw: Callable[[str, list[Any]], str],
    describe: Callable[[list[Any]], str],
) -> list[Chart]:
    """A chart for each label of rows that have a column `label`, drawn from tuples of `columns`."""
    by_label: dict[str, list[Any]] = {}
    for row in rows:
        by_label.setdefault(str(row["label"]), []).append(tuple(row[name] for name in columns))
    made = [Chart(label, draw(label, found), describe(found)) for label, found in by_label.items()]
    return [chart for chart in made if chart.svg]


def _places(bins: Sequence[tuple[float, float, float]]) -> str:
    return f"{sum(places for _, _, places in bins):,.0f} places"


def _quality(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows for a table: signs beside the words of verdicts, reasons in one text, the worst first."""
    order = list(VERDICTS)
    return [
        {
            **row,
            "verdict": f"{VERDICTS.get(row['verdict'], '')} {row['verdict']}".strip(),
            "reasons": row["reasons"] if isinstance(row["reasons"], str) else "; ".join(row["reasons"]),
        }
        for row in sorted(rows, key=lambda row: order.index(row["verdict"]) if row["verdict"] in order else len(order))
    ]


def _verdicts(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, int]]:
    """(sign, verdict, cases) of each verdict."""
    counts = Counter(str(row["verdict"]) for row in rows)
    return [(sign, verdict, counts[verdict]) for verdict, sign in VERDICTS.items()] if rows else []


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
