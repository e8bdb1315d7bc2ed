"""Scores of label maps against the truth, on the scan's own grid, per class and case."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from medseg import atomic, config, report
from medseg.boundary import parsing
from medseg.case import Case
from medseg.config import Chosen
from medseg.data import splits
from medseg.engine import gather, reporting, scans
from medseg.engine.load import load_target
from medseg.engine.predict import Predictor, predict_all
from medseg.engine.run import Run
from medseg.labels import LabelTable
from medseg.prediction import Prediction
from medseg.readers import read
from medseg.refusal import Refusal
from medseg.volume import Volume

MOST_OVERLAYS = 6
"""Cases with pictures in a report; each takes about half a megabyte."""


@dataclass(frozen=True)
class Score:
    """The metrics of one label in one case; nan = undefined, inf = a distance to nothing."""

    case: str
    patient: str
    label: str
    values: dict[str, float]


@dataclass(frozen=True)
class Scores:
    """All scores of an evaluation, their units, a stamp when they are no estimate of generalisation, and the
    cases that could not be scored, with the reason."""

    rows: tuple[Score, ...]
    units: dict[str, str]
    stamp: str = ""
    missing: tuple[str, ...] = field(default=())

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
        }


def score(
    truth: Volume, predicted: np.ndarray, *, table: LabelTable, metrics: Sequence[Chosen], case: str, patient: str
) -> list[Score]:
    """Score one case.

    Args:
        truth: label map (1, I, J, K) with the numbers that training files use.
        predicted: network target (1 or R, I, J, K) on the same grid.
    """
    target = table.encode(truth.array[0])
    rows = []
    for place, label in enumerate(table.labels):
        masks = table.mask(target, place), table.mask(predicted, place)
        values = {}
        for metric in metrics:
            module = metric.module()
            if truth.unit != "mm" and module.NEEDS_MM:  # a photograph has no millimetres: undefined
                values[metric.name] = math.nan
            else:
                values[metric.name] = module.compute(*masks, spacing_mm=truth.spacing_mm, options=metric.options)
        rows.append(Score(case, patient, label.name, values))
    return rows


def of_run(path: Path, out: Path, *, device: str = "auto", announce: Callable[[str], None] = print) -> Scores:
    """Predict the validation cases of a run, score them, write `metrics.json`, `report.html` and the label maps."""
    run = Run.open(path)
    if not run.path("split.json").exists():
        raise Refusal(
            path,
            found="no split.json, which an exported run leaves at home because it names cases",
            needed="to know which cases were held out",
            remedy="evaluate the run folder; or predict with the zip, and give --truth and --labels",
        )
    cases = gather.cases(run.recipe)
    split = splits.load(run.path("split.json"), cases.cases)
    held_out = [case for case in cases.cases if case.id in set(split.validation)]
    predictor = Predictor.load([run.folder], device=device)
    rows: list[Score] = []
    overlays: list[report.Overlay] = []

    def score_it(case: Case, scan: Volume, prediction: Prediction) -> None:
        if case.target is None:
            raise Refusal(case.id, found="no truth", needed="a label map", remedy="leave the case out")
        truth = load_target(case.target, scan, read)
        predicted = prediction.target.array
        rows.extend(
            score(truth, predicted, table=run.table, metrics=run.recipe.metrics, case=case.id, patient=case.patient)
        )
        if len(overlays) < MOST_OVERLAYS:
            overlays.append(reporting.overlay(scan, prediction, truth))

    outcomes = predict_all(predictor, held_out, out / "predictions", announce=announce, use=score_it)
    missing = tuple(f"{outcome.case}: {outcome.reason}" for outcome in outcomes if outcome.state != "done")
    scores = Scores(tuple(rows), units(run.recipe.metrics), split.stamp, missing)
    save(scores, out)
    reporting.write(
        run,
        out / "report.html",
        title=f"{run.recipe.name}: validation",
        rows=scores.table(),
        headline=[(f"mean {name}", scores.mean(name)) for name in scores.units],
        overlays=overlays,
        stamp=split.stamp,
        facts=predictor.provenance,
        notes=missing,
    )
    return scores


def of_folders(predictions: Path, truth: Path, table: LabelTable, metrics: Sequence[Chosen] | None = None) -> Scores:
    """Score every label map in `predictions` against the file of the same name (without suffix) in `truth`.

    Raises:
        Refusal: nothing to score, a prediction without truth, or two files on different grids.
    """
    metrics = metrics or default_metrics()
    if not table.exclusive:
        _refuse_ambiguous(table, predictions)
    found, wanted = ({scans.stem(file): file for file in scans.files(folder)} for folder in (predictions, truth))
    extra = sorted(set(found) - set(wanted))
    if extra or not found:
        raise Refusal(
            predictions,
            found=f"label maps without truth: {', '.join(extra)}" if extra else "no label map",
            needed=f"a file of the same name in {truth} for each",
            remedy="correct the folders or the names",
        )
    rows: list[Score] = []
    for name in sorted(found):
        rows += _pair(wanted[name], found[name], table, metrics, name)
    missing = sorted(set(wanted) - set(found))
    return Scores(tuple(rows), units(metrics), missing=tuple(f"{name}: no prediction" for name in missing))


def default_metrics() -> tuple[Chosen, ...]:
    return tuple(config.choose("metrics", entry) for entry in config.DEFAULTS["metrics"])


def table_from(path: Path) -> LabelTable:
    """The label table of a run folder, or of a labels.yaml."""
    if path.is_dir() and (path / "labels.json").exists():
        return Run(path).table
    file = path / "labels.yaml" if path.is_dir() else path
    if not file.is_file():
        raise Refusal(path, found="no label table", needed="a run folder or labels.yaml", remedy="check it")
    with parsing(file, needed="a label table, `labels: {name: number}`", remedy="correct it"):
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
        if "exclusive" in data:
            return LabelTable.from_json(data)
        return LabelTable.of(data.get("labels", data), paint=data.get("paint"))


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
    lines += [scores.stamp] * bool(scores.stamp) + [f"not scored: {case}" for case in scores.missing]
    return "\n".join(lines)


def _pair(truth: Path, predicted: Path, table: LabelTable, metrics: Sequence[Chosen], case: str) -> list[Score]:
    grid = read(truth)
    wanted = load_target(truth, grid, lambda path: grid)
    found = load_target(predicted, wanted, read)
    return score(wanted, table.encode(found.array[0]), table=table, metrics=metrics, case=case, patient=case)


def _refuse_ambiguous(table: LabelTable, where: Path) -> None:
    """A painted map shows only the uppermost region of each voxel. The others come back if the number that a region is
    painted with belongs to it, and to none of those painted over it."""
    for place, label in enumerate(table.labels):
        above = table.labels[place + 1 :]
        if label.index not in label.members or any(label.index in other.members for other in above):
            raise Refusal(
                where,
                found=f"regions painted so that {label.index} does not say '{label.name}' and what lies below it",
                needed="numbers that lie in the region and in none that is painted later",
                remedy="give `paint` in the recipe or labels.yaml, such as [2, 1, 4] for WT [1, 2, 4], TC [1, 4], "
                "ET [4]; or evaluate the run folder, which needs no painted maps",
            )


def units(metrics: Sequence[Chosen]) -> dict[str, str]:
    return {metric.name: metric.module().UNIT for metric in metrics}


def _json_number(value: float) -> float | str:
    return value if math.isfinite(value) else _word(value)


def _word(value: float) -> str:
    if math.isnan(value):
        return "undefined"
    return "infinite" if math.isinf(value) else f"{value:.4f}"
