"""A run scored on its held-out cases, or on other data: predicted, compared, written down and shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medseg import report
from medseg.case import Case
from medseg.config import Chosen
from medseg.data import splits
from medseg.engine import assess, reporting, summary, unknown
from medseg.engine.batch import predict_all
from medseg.engine.evaluate import digest, fingerprint, score, settings
from medseg.engine.gate import Gate, cost, side_by_side
from medseg.engine.load import load_truth
from medseg.engine.pairs import numbers
from medseg.engine.predict import Predictor
from medseg.engine.run import Run
from medseg.engine.scores import Score, Scores, save
from medseg.engine.unseen import CHOSEN, Sample, sample
from medseg.engine.worst import Worst
from medseg.geometry import axis_map
from medseg.labels import IGNORE, LabelTable
from medseg.plan import Plan
from medseg.prediction import Classification, Evidence, Prediction
from medseg.readers import read
from medseg.refusal import Refusal
from medseg.volume import Volume


def of_run(
    path: Path,
    out: Path,
    *,
    changes: Sequence[str] = (),
    device: str = "auto",
    gate: Gate | None = None,
    by: Sequence[str] = (),
    announce: Callable[[str], None] = print,
) -> Scores:
    """Predict the validation cases of a run, score them, write `metrics.json`, `report.html` and the label maps.

    With a gate, label maps are limited to the slices that it flags, and what that loses is measured too. That says
    something about new patients only if the gate has not learned from these; where it has, the scores are stamped.

    Args:
        changes: `key=value` changes of the recipe: of metrics and inference settings, or of the data set, or part of
            it: then all its cases are scored instead.
        by: attributes of the cases (or `size`) by which results are told apart.
    """
    run = Run.open(path)
    wanted = sample(run, changes)
    summary.refuse_unknown(by, _facts(wanted))
    predictor = Predictor.load([run.folder], device=device, changes=_inference(changes))
    stamp = "; ".join(filter(None, [wanted.split.stamp, _met(gate, wanted) if gate else ""]))
    seen = _Seen(wanted, predictor.plan, gate, stamp, run.recipe.prepare.unknown_labels == "refuse")
    outcomes = predict_all(
        predictor,
        [case for case in wanted.cases.cases if case.id in set(wanted.split.validation)],
        out / "predictions",
        announce=announce,
        use=seen.score,
        probabilities=bool(seen.over_sets),
        gate=seen.limit if gate else None,
    )
    scores = seen.scores(tuple(f"{one.case}: {one.reason}" for one in outcomes if one.state != "done"), tuple(by))
    save(scores, out)
    reporting.write(
        run,
        out / "report.html",
        title=f"{run.recipe.name}: {'other data' if not scores.chosen else 'validation'}",
        rows=scores.table(),
        pooled=assess.to_json(scores.pooled),
        statistics=scores.statistics,
        volumes=scores.volumes(),
        reliability=scores.reliability,
        quality=reporting.quality(outcomes),
        headline=reporting.headline(scores),
        overlays=seen.worst.drawn,
        stamp=stamp,
        facts={
            **predictor.provenance,
            **reporting.measured(scores),
            **({"scored on": " ".join(changes)} if changes else {}),
        },
        notes=[*scores.notes, *_known_to_control(predictor, scores), *scores.missing],
    )
    return scores


def _known_to_control(predictor: Predictor, scores: Scores) -> list[str]:
    """A note where quality control has learned from the very cases that it judges."""
    known = scores.chosen and predictor.reference is not None and predictor.reference.validated > 0
    return ["Quality control was set up by these same cases, so its verdicts on them are on the mild side."] * known


def _facts(sample: Sample) -> dict[str, dict[str, str]]:
    """Of each case, by which results can be told apart."""
    return {
        case.id: {**case.attributes, **({"centre": case.centre} if case.centre else {})} for case in sample.cases.cases
    }


def _inference(changes: Sequence[str]) -> list[str]:
    """Those of the inference settings, without the word in front."""
    return [change.removeprefix("predict.") for change in changes if change.startswith("predict.")]


def _met(gate: Gate, sample: Sample) -> str:
    """A stamp if a gate has learned from the scored patients, as far as names tell."""
    side = set(sample.split.validation)
    met = sorted(gate.learned.met(sample.cases.cases) & {c.patient for c in sample.cases.cases if c.id in side})
    if not met:
        return ""
    some = ", ".join(met[:3]) + ", ..." * (len(met) > 3)
    return f"{splits.STAMP}: the gate has learned from cases of these names, of {len(met)} of the patients ({some})"


@dataclass
class _Seen:
    """What is gathered case by case while a run's held-out cases are predicted."""

    sample: Sample
    plan: Plan
    gate: Gate | None
    stamp: str
    strict: bool
    """Whether numbers that the label table does not name are refused, as in training."""
    rows: list[Score] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    worst: Worst = field(default_factory=Worst)
    gated: list[Evidence] = field(default_factory=list)
    truths: dict[str, str] = field(default_factory=dict)

    @property
    def table(self) -> LabelTable:
        """What the numbers of the true label maps mean; its labels are those of the network."""
        return self.sample.cases.labels

    @property
    def over_masks(self) -> list[Chosen]:
        return [metric for metric in self.sample.metrics if not assess.over_set(metric)]

    @property
    def over_sets(self) -> list[Chosen]:
        return [metric for metric in self.sample.metrics if assess.over_set(metric)]

    def score(self, case: Case, scan: Volume, found: Prediction | Classification) -> None:
        """Compare one case with its truth."""
        table = self.table
        found = replace(found, table=table)
        truth = load_truth(case, scan, read, table, self.plan.steps)
        if truth is not None and self.strict:
            remedy = "correct the file; prepare.unknown_labels=background lets a training have them"
            unknown.refuse(case.target or case.id, truth, table, remedy=remedy)
        if self.over_sets:
            self.evidence.append(assess.evidence(case, found, truth, self.plan, self.sample.split))
        if isinstance(found, Classification):
            self.truths[case.id] = digest(self.evidence[-1].truth)
            return
        if truth is None:
            raise Refusal(case.id, found="no truth", needed="a label map", remedy="leave the case out")
        self.truths[case.id] = fingerprint(truth, table)
        target = found.target.array
        rows = score(truth, target, table=table, metrics=self.over_masks, case=case.id, patient=case.patient)
        self.rows += rows
        self.worst.offer(case.id, rows, lambda: report.drawn(report.overlay(scan, found, truth)))

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

    def scores(self, missing: tuple[str, ...], by: tuple[str, ...]) -> Scores:
        pooled = (
            tuple(
                assess.measure(
                    self.evidence, self.over_sets, self.table, by=[name for name in by if name != summary.SIZE]
                )
            )
            if self.evidence
            else ()
        )
        if self.gated:
            pooled += tuple(assess.pooled("slice", "gate", cost, self.gated))
        odd = assess.one_sided(self.evidence, self.table) if self.evidence and self.table.unit != "voxel" else ()
        return Scores(
            tuple(self.rows),
            numbers(self.over_masks),
            self.stamp,
            missing,
            pooled,
            tuple(self.evidence),
            assess.reliability(self.evidence, self.over_sets, self.table),
            notes=(self.sample.note, *odd),
            facts=_facts(self.sample),
            by=by,
            truths=self.truths,
            chosen=self.sample.note == CHOSEN,
            metrics=settings(self.sample.metrics),
        )
