"""Scores of label maps (or of classes) against the truth, on the scan's own grid, per class and case and over all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from medseg import config, report
from medseg.boundary import parsing
from medseg.case import Case, CaseSet
from medseg.config import Chosen
from medseg.data import splits
from medseg.data.split import Split
from medseg.datasets._tables import described
from medseg.engine import assess, checkpoint, gather, pairs, reporting, scans
from medseg.engine.batch import predict_all
from medseg.engine.gate import Gate, cost, side_by_side
from medseg.engine.load import load_target, load_truth
from medseg.engine.predict import Predictor
from medseg.engine.run import Run
from medseg.engine.scores import Score, Scores, save
from medseg.geometry import axis_map
from medseg.labels import IGNORE, LabelTable
from medseg.plan import Plan
from medseg.prediction import Classification, Evidence, Prediction
from medseg.readers import read
from medseg.refusal import Refusal
from medseg.volume import Volume

CHOSEN = (
    "The best weights of the training were chosen by these same cases, so the numbers lie on the high side: a set that "
    "no training has seen says more."
)
ELSEWHERE = "Other cases than the run's own: none is of a patient that it was trained on."
BY_NAME = (
    "Other cases than the run's own, as far as their names tell: the data that it was trained on are not here, and "
    "patients could not be compared."
)
OF_DATA = ("dataset", "labels", "paint")
"""Parts of a recipe that say which cases are scored, and what their label maps mean."""
MOST_OVERLAYS = 6
"""Cases with pictures in a report; each takes about half a megabyte."""


def score(
    truth: Volume, predicted: np.ndarray, *, table: LabelTable, metrics: Sequence[Chosen], case: str, patient: str
) -> list[Score]:
    """Score one case.

    Args:
        truth: label map (1, I, J, K) with the numbers that training files use.
        predicted: network target (1 or R, I, J, K) on the same grid.
    """
    target = truth.with_array(table.encode(truth.array[0]))
    pairs_of_case = pairs.of_case(target, predicted, table)
    return [Score(case, patient, pair.label, pairs.measure(pair, metrics)) for pair in pairs_of_case]


def of_run(
    path: Path,
    out: Path,
    *,
    changes: Sequence[str] = (),
    device: str = "auto",
    gate: Gate | None = None,
    announce: Callable[[str], None] = print,
) -> Scores:
    """Predict the validation cases of a run, score them, write `metrics.json`, `report.html` and the label maps.

    With a gate, label maps are limited to the slices that it flags, and what that loses is measured too. That says
    something about new patients only if the gate has not learned from these; where it has, the scores are stamped.

    Args:
        changes: `key=value` changes of the recipe: of metrics and inference settings, or of the data set, or part of
            it: then all its cases are scored instead.
    """
    run = Run.open(path)
    sample = _sample(run, changes)
    predictor = Predictor.load([run.folder], device=device, changes=_inference(changes))
    stamp = "; ".join(filter(None, [sample.split.stamp, _met(gate.learned, sample) if gate else ""]))
    seen = _Seen(sample.cases.labels, predictor.plan, sample.split, sample.metrics, gate, stamp)
    outcomes = predict_all(
        predictor,
        [case for case in sample.cases.cases if case.id in set(sample.split.validation)],
        out / "predictions",
        announce=announce,
        use=seen.score,
        probabilities=bool(seen.over_sets),
        gate=seen.limit if gate else None,
    )
    scores = seen.scores(tuple(f"{one.case}: {one.reason}" for one in outcomes if one.state != "done"))
    save(scores, out)
    reporting.write(
        run,
        out / "report.html",
        title=f"{run.recipe.name}: {'validation' if sample.note == CHOSEN else 'other data'}",
        rows=scores.table(),
        pooled=assess.to_json(scores.pooled),
        headline=[*((f"mean {name}", scores.mean(name)) for name in scores.units), *assess.headline(scores.pooled)],
        overlays=seen.overlays,
        stamp=stamp,
        facts={**predictor.provenance, **({"scored on": " ".join(changes)} if changes else {})},
        notes=[sample.note, *scores.missing],
    )
    return scores


class _Sample(NamedTuple):
    """What to score a run on: the validation side of `split`, whose label maps `cases.labels` explains."""

    cases: CaseSet
    split: Split
    metrics: tuple[Chosen, ...]
    note: str


def _sample(run: Run, changes: Sequence[str]) -> _Sample:
    """The run's held-out cases, or all of another data set if `changes` name one.

    Raises:
        Refusal: what is changed is neither data nor metrics nor inference.
    """
    # Labels that were brought in with weights number somebody else's files.
    imported = bool(changes) and "imported" in checkpoint.load(run.path("weights.safetensors"))[1]
    recipe = config.load(run.path("recipe.yaml"), [*(["labels=null", "paint=null"] if imported else []), *changes])
    other = [key for key in type(recipe).model_fields if getattr(recipe, key) != getattr(run.recipe, key)]
    fixed = [key for key in other if key not in (*OF_DATA, "metrics", "predict")]
    if fixed:
        raise Refusal(
            run.folder,
            found=f"changes of {', '.join(fixed)}",
            needed=f"changes of {', '.join(OF_DATA)}, metrics, predict alone: the rest makes the run what it is",
            remedy="leave them out, or train another run",
        )
    return _elsewhere(run, recipe) if set(other) & set(OF_DATA) else _held_out(run, recipe)


def _inference(changes: Sequence[str]) -> list[str]:
    """Those of the inference settings, without the word in front."""
    return [change.removeprefix("predict.") for change in changes if change.startswith("predict.")]


def _met(learned: Collection[str], sample: _Sample) -> str:
    """A stamp if a gate has learned from cases of the names that the scored patients' cases have."""
    patients = {case.id: case.patient for case in sample.cases.cases}
    scored = {patients[case] for case in sample.split.validation}
    met = sorted(scored & {patients[case] for case in learned if case in patients})
    if not met:
        return ""
    some = ", ".join(met[:3]) + ", ..." * (len(met) > 3)
    return f"{splits.STAMP}: the gate has learned from cases of these names, of {len(met)} of the patients ({some})"


def _held_out(run: Run, recipe: config.Recipe) -> _Sample:
    """The validation cases of the run's own data."""
    if not run.path("split.json").exists():
        raise Refusal(
            run.folder,
            found="no split.json, which exported and imported runs do not have",
            needed="to know which cases were held out",
            remedy="evaluate the run folder that was trained, or name other data, such as "
            "'dataset={name: folder, root: data/x}'",
        )
    cases = gather.cases(run.recipe)
    split = splits.load(run.path("split.json"), cases.cases)
    return _Sample(replace(cases, labels=run.table), split, metrics_of(recipe.metrics, run.table), CHOSEN)


def _elsewhere(run: Run, recipe: config.Recipe) -> _Sample:
    """All cases of another data set, named by `recipe`.

    The numbers of its label maps mean what the data set says, or the recipe that the run was trained by.

    Raises:
        Refusal: other labels or channels than the network's, or a case that it was trained on.
    """
    cases, table, plan = gather.cases(recipe), run.table, run.plan
    for what, found, needed in (
        ("labels", _said(cases.labels), _said(table)),
        # a single channel may have any name
        ("channels", ", ".join(cases.channels), ", ".join(plan.channels) if len(plan.channels) > 1 else None),
    ):
        if needed is not None and found != needed:
            raise Refusal(
                f"data set {recipe.dataset.name}",
                found=f"{what} {found}",
                needed=f"those of the network: {needed}",
                remedy="name a data set, or labels=..., with the same ones in the same order",
            )
    patients = _patients_learned_from(run)
    known = sorted(case.id for case in cases.cases if case.id in run.learned_from or case.patient in patients)
    if known:
        raise Refusal(
            f"data set {recipe.dataset.name}",
            found=f"{len(known)} cases, or cases of patients, that the run was trained on, such as {known[0]}",
            needed="patients that it has not seen",
            remedy="choose another part or data set; rename cases and patients that are others in truth",
        )
    everything = Split((), tuple(case.id for case in cases.cases))
    note = BY_NAME if run.learned_from and not patients else ELSEWHERE
    return _Sample(cases, everything, metrics_of(recipe.metrics, table), note)


def _patients_learned_from(run: Run) -> set[str]:
    """Patients that a run was trained on; empty where its data are not here any more."""
    try:
        own = gather.cases(run.recipe).cases
    except Refusal:
        return set()
    return {case.patient for case in own if case.id in run.learned_from}


def _said(table: LabelTable) -> str:
    """What must agree for two tables to stand for one network's answers."""
    how = "exclude each other" if table.exclusive else "may overlap"
    return f"{', '.join(table.names)} ({how}, of each {table.unit})"


@dataclass
class _Seen:
    """What is gathered case by case while a run's held-out cases are predicted."""

    table: LabelTable
    """What the numbers of the true label maps mean; its labels are those of the network."""
    plan: Plan
    split: Split
    metrics: tuple[Chosen, ...]
    gate: Gate | None
    stamp: str
    rows: list[Score] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    overlays: list[report.Overlay] = field(default_factory=list)
    gated: list[Evidence] = field(default_factory=list)

    @property
    def over_masks(self) -> list[Chosen]:
        return [metric for metric in self.metrics if not assess.over_set(metric)]

    @property
    def over_sets(self) -> list[Chosen]:
        return [metric for metric in self.metrics if assess.over_set(metric)]

    def score(self, case: Case, scan: Volume, found: Prediction | Classification) -> None:
        """Compare one case with its truth."""
        table = self.table
        found = replace(found, table=table)
        truth = load_truth(case, scan, read, table, self.plan.steps)
        if self.over_sets:
            self.evidence.append(assess.evidence(case, found, truth, self.plan, self.split))
        if isinstance(found, Classification):
            return
        if truth is None:
            raise Refusal(case.id, found="no truth", needed="a label map", remedy="leave the case out")
        target = found.target.array
        self.rows += score(truth, target, table=table, metrics=self.over_masks, case=case.id, patient=case.patient)
        if len(self.overlays) < MOST_OVERLAYS:
            self.overlays.append(report.overlay(scan, found, truth))

    def limit(self, case: Case, scan: Volume, found: Prediction) -> tuple[Prediction, dict[str, Any]]:
        """Let the gate limit a prediction, and remember what it flagged and where labels truly are."""
        assert self.gate is not None  # else this is not called
        truth = load_truth(case, scan, read, self.table, self.plan.steps)
        inside, facts = self.gate.flagged(case, scan)
        if truth is not None:
            # in the gate's own orientation, where its slices lie along the last axis
            turn = axis_map(scan.affine, self.gate.predictor.plan.orientation)
            target = self.table.encode(turn.apply(truth.array)[0])
            labelled = ((target != 0) & (target != IGNORE)).any(axis=0)
            self.gated.append(side_by_side(case, turn.apply(inside)[0], labelled))
        return self.gate.limited(found, inside, facts)

    def scores(self, missing: tuple[str, ...]) -> Scores:
        pooled = tuple(assess.measure(self.evidence, self.over_sets, self.table)) if self.evidence else ()
        if self.gated:
            pooled += tuple(assess.pooled("slice", "gate", cost, self.gated))
        return Scores(tuple(self.rows), units(self.over_masks), self.stamp, missing, pooled, tuple(self.evidence))


def of_folders(predictions: Path, truth: Path, table: LabelTable, metrics: Sequence[Chosen] | None = None) -> Scores:
    """Score every label map in `predictions` against the file of the same name (without suffix) in `truth`.

    Raises:
        Refusal: nothing to score, a prediction without truth, or two files on different grids.
    """
    metrics = [metric for metric in metrics_of(metrics or (), table) if not assess.over_set(metric)]
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


def metrics_of(chosen: Sequence[Chosen], table: LabelTable) -> tuple[Chosen, ...]:
    """The metrics chosen, or those that suit the labels."""
    return tuple(chosen) or tuple(config.choose("metrics", name) for name in config.DEFAULT_METRICS[table.unit])


def table_from(path: Path) -> LabelTable:
    """The label table of a run folder, or of a labels.yaml."""
    if path.is_dir() and (path / "labels.json").exists():
        return Run(path).table
    file = path / "labels.yaml" if path.is_dir() else path
    if not file.is_file():
        raise Refusal(path, found="no label table", needed="a run folder or labels.yaml", remedy="check it")
    with parsing(file, needed="a label table, `labels: {name: number}`", remedy="correct it"):
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
        if isinstance(data.get("labels"), list):  # as a run folder has it
            return LabelTable.from_json(data)
        whole = {"labels", "unit", "exclusive", "ignore", "unknown", "paint"} & set(data)
        return described(data if whole else {"labels": data}, file)  # names and numbers alone will do


def _pair(truth: Path, predicted: Path, table: LabelTable, metrics: Sequence[Chosen], case: str) -> list[Score]:
    grid = read(truth)
    wanted = load_target(truth, grid, lambda path: grid)
    found = load_target(predicted, wanted, read)
    return score(wanted, table.encode(found.array[0]), table=table, metrics=metrics, case=case, patient=case)


def _refuse_ambiguous(table: LabelTable, where: Path) -> None:
    """A painted map shows only the uppermost region of each voxel. The others come back if the number that a region is
    painted with belongs to it, and to none of those painted over it."""
    order = [table.labels[place] for place in table.painting_order]
    for place, label in enumerate(order):
        above = order[place + 1 :]
        if label.index not in label.members or any(label.index in other.members for other in above):
            raise Refusal(
                where,
                found=f"regions painted so that {label.index} does not say '{label.name}' and what lies below it",
                needed="numbers that lie in the region and in none that is painted later",
                remedy="give `paint` in the recipe or labels.yaml, such as [2, 1, 4] for WT [1, 2, 4], TC [1, 4], "
                "ET [4]; or evaluate the run folder, which needs no painted maps",
            )


def units(metrics: Sequence[Chosen]) -> dict[str, str]:
    return {name: number.unit for name, number in pairs.numbers(metrics).items()}
