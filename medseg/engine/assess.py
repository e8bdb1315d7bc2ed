"""Metrics over a whole set of cases (AUROC, calibration, ...): values, and intervals that resample patients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medseg import statistics
from medseg.case import Case
from medseg.config import Chosen
from medseg.data.split import Split
from medseg.engine import summary
from medseg.geometry import axis_map
from medseg.labels import IGNORE, LabelTable
from medseg.plan import Plan
from medseg.prediction import Classification, Evidence, Prediction
from medseg.refusal import Refusal
from medseg.volume import Volume

STRATA = ("quality", "source")
"""Attributes of cases by which results are shown apart, as well as by centre. By source, because where a class comes
from one source alone (healthy people from another collection), it may be told by the source."""
FEWEST = 2
"""Patients that an interval needs."""


@dataclass(frozen=True)
class Pooled:
    """One number over a set of cases.

    Attributes:
        over: what was pooled: "slice", "image", "voxel", "patient (highest)", "centre A", ...
        metric, row: which number; the row is a class, or a name that the metric gives.
        low, high: 95 % interval by resampling patients; nan where there is none.
    """

    over: str
    metric: str
    row: str
    value: float
    low: float = math.nan
    high: float = math.nan


def over_set(metric: Chosen) -> bool:
    """Whether a metric looks at all cases at once, and not at one mask."""
    return getattr(metric.module(), "OVER", "mask") == "set"


def evidence(
    case: Case,
    found: Prediction | Classification,
    truth: Volume | None,
    plan: Plan,
    split: Split | None = None,
) -> Evidence:
    """Truth and probabilities of a case side by side.

    Args:
        truth: label map on the scan's grid; None for classes of a whole image.
        plan: of the run, for the direction in which slices are counted.
        split: given where slices of one case stand on both sides: those of the training side count as not known.

    Raises:
        Refusal: the case has no truth.
    """
    table = found.table
    if isinstance(found, Classification):
        values = _classes(case, found, truth, plan)
        if split is not None and table.unit == "slice":
            for k in range(values.shape[1]):
                if split.slice_side(case.id, k) == "train":
                    values[:, k] = IGNORE
        chances = found.probabilities
    else:
        if truth is None or found.probabilities is None:
            raise Refusal(case.id, found="no truth", needed="a label map", remedy="leave the case out")
        values, chances = _regions(table, table.encode(truth.array[0])), found.probabilities
    return Evidence(case.id, case.patient, values, chances, case.centre, dict(case.attributes))


def measure(
    cases: Sequence[Evidence],
    metrics: Sequence[Chosen],
    table: LabelTable,
    announce: Callable[[str], None] = lambda text: None,
    *,
    by: Sequence[str] = (),
) -> list[Pooled]:
    """All metrics of all levels: units as they are, patients, centres and further strata.

    Args:
        by: attributes by which results are told apart besides.

    Raises:
        Refusal: an attribute that no case has.
    """
    centres = {"centre"} if any(case.centre for case in cases) else set()
    known = sorted(centres.union(*(case.attributes for case in cases)))
    odd = [name for name in by if name not in known]
    if odd:
        raise Refusal(
            "--by",
            found=f"'{odd[0]}'",
            needed=f"one of {', '.join(known) or 'no column: there is none'}",
            remedy="correct it",
        )
    results = []
    for over, members in _levels(cases, table, by):
        for metric in metrics:
            announce(f"{metric.name} over {over}")
            results += _one(over, members, metric, table.names)
    return results


def reliability(cases: Sequence[Evidence], metrics: Sequence[Chosen], table: LabelTable) -> list[dict[str, Any]]:
    """The curves behind the calibration error, where that is among the metrics; see `metrics.calibration`."""
    rows: list[dict[str, Any]] = []
    for metric in metrics:
        if cases and hasattr(metric.module(), "reliability"):
            rows += metric.module().reliability(cases, names=table.names, options=metric.options)
    return rows


def _one(over: str, cases: Sequence[Evidence], metric: Chosen, names: tuple[str, ...]) -> list[Pooled]:
    module = metric.module()

    def compute(some: Sequence[Evidence]) -> dict[str, float]:
        return dict(module.compute(some, names=names, options=metric.options))

    return pooled(over, metric.name, compute, cases, interval=module.INTERVAL)


def pooled(
    over: str, name: str, statistic: statistics.Statistic, cases: Sequence[Evidence], *, interval: bool = True
) -> list[Pooled]:
    """The numbers of a statistic over cases; with intervals, if wanted and if there are patients enough."""
    bounds: dict[str, tuple[float, float]] = {}
    if interval and len({case.patient for case in cases}) >= FEWEST:
        bounds = statistics.intervals(statistic, cases)
    return [
        Pooled(over, name, row, value, *bounds.get(row, (math.nan, math.nan)))
        for row, value in statistic(cases).items()
    ]


def one_sided(cases: Sequence[Evidence], table: LabelTable) -> Iterator[str]:
    """A sentence for each class that is everywhere or nowhere in the truth."""
    for place, name in enumerate(table.names):
        known = np.concatenate([case.truth[place].ravel() for case in cases])
        known = known[known != IGNORE]
        if len(known) and (known == known[0]).all():
            which = f"each {table.unit} is" if known[0] else f"no {table.unit} is"
            yield f"{which} truly '{name}', so that nothing is to be told apart: its AUROC and the like are undefined"


def _levels(
    cases: Sequence[Evidence], table: LabelTable, by: Sequence[str] = ()
) -> Iterator[tuple[str, Sequence[Evidence]]]:
    """What is pooled, with its name."""
    yield table.unit, cases
    patients = {case.patient for case in cases}
    if table.unit == "slice" or (table.unit == "image" and len(patients) < len(cases)):
        yield "patient (highest)", statistics.by_patient(cases, how="max", exclusive=table.exclusive)
        yield "patient (mean)", statistics.by_patient(cases, how="mean", exclusive=table.exclusive)
    centres = {case.centre for case in cases}
    if len(centres) > 1:
        for centre in sorted(centres):
            yield f"centre {centre or 'not stated'}", [case for case in cases if case.centre == centre]
    for attribute in dict.fromkeys((*STRATA, *(name for name in by if name != "centre"))):
        strata = list(summary.groups(attribute, [str(case.attributes.get(attribute, "")) for case in cases]))
        if len(strata) > 1:
            for name, there in strata:
                yield name, [case for case, inside in zip(cases, there, strict=True) if inside]


def _classes(case: Case, found: Classification, truth: Volume | None, plan: Plan) -> np.ndarray:
    """(classes, n) of 0 and 1."""
    table = found.table
    if table.unit == "image":
        if case.classes is None:
            raise Refusal(case.id, found="no class", needed="the class of the image", remedy="leave the case out")
        target = table.encode_classes(case.classes)
        return (
            np.stack([table.mask(target, place) for place in range(len(table.labels))]).reshape(-1, 1).astype(np.uint8)
        )
    if truth is None:
        raise Refusal(case.id, found="no truth", needed="a label map", remedy="leave the case out")
    start, stop = found.undo.crop[2]
    canonical = axis_map(truth.affine, plan.orientation).apply(truth.array)[0]
    return table.encode_slices(np.ascontiguousarray(canonical[:, :, start:stop]))[:, 0, 0].copy()


def _regions(table: LabelTable, target: np.ndarray) -> np.ndarray:
    """(labels, I, J, K) of 0, 1 and IGNORE from a network target."""
    if not table.exclusive:
        return target
    masks = np.stack([table.mask(target, place) for place in range(len(table.labels))]).astype(np.uint8)
    return np.where(target == IGNORE, np.uint8(IGNORE), masks) if table.ignore is not None else masks


def with_interval(one: Pooled) -> str:
    """For people: the value, and its interval if there is one."""
    bounds = "" if math.isnan(one.low) else f" ({one.low:.3f} to {one.high:.3f})"
    return f"{one.value:.3f}{bounds}"


def headline(results: Sequence[Pooled]) -> list[tuple[str, str]]:
    """One number a metric of the first level, as text: the mean over classes where there is one."""
    first = [one for one in results if one.over == results[0].over and not math.isnan(one.value)]
    chosen = {one.metric: one for one in reversed(first)} | {one.metric: one for one in first if one.row == "mean"}
    return [(f"{one.metric}, {one.row}", with_interval(one)) for one in reversed(chosen.values())]


def to_json(results: Sequence[Pooled]) -> list[dict[str, Any]]:
    """A row a number; undefined ones are null."""

    def number(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return [
        {**vars(one), "value": number(one.value), "low": number(one.low), "high": number(one.high)} for one in results
    ]


def as_text(results: Sequence[Pooled]) -> str:
    """A table for a terminal."""
    texts = [("over", "metric", ""), *((one.over, one.metric, one.row) for one in results)]
    first, second, third = (max(map(len, column)) + 2 for column in zip(*texts, strict=True))
    lines = [f"{'over':<{first}}{'metric':<{second}}{'':<{third}}{'value':>9}   95 % interval by patient"]
    for one in results:
        value = "undefined" if math.isnan(one.value) else f"{one.value:.4f}"
        bounds = "" if math.isnan(one.low) else f"{one.low:.4f} to {one.high:.4f}"
        cells = f"{one.over:<{first}}{one.metric:<{second}}{one.row:<{third}}"
        lines.append(f"{cells}{value:>9}   {bounds}".rstrip())
    return "\n".join(lines)
