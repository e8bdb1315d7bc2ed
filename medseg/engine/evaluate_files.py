"""Label maps or classes that are in files already, scored: compared, written down and shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medseg.engine import class_table, evaluate, inputs, reporting, worst
from medseg.engine.scores import Scores, save
from medseg.labels import LabelTable
from medseg.refusal import Refusal
from medseg.report import Drawn


def of_files(
    predictions: Path,
    out: Path,
    *,
    changes: Sequence[str] = (),
    truth: Path | None = None,
    labels: Path | None = None,
    cases: Path | None = None,
    scans: Path | None = None,
    resample: bool = False,
    workers: int = 0,
    by: Sequence[str] = (),
) -> Scores:
    """Score a folder of label maps, or a table of label maps or of classes; write `metrics.json` and `report.html`.

    Args:
        changes: `metrics=[...]`, or nothing for the usual ones.
        truth: folder of true label maps; a table names them itself.
        labels: run folder or labels.yaml with the meaning of the numbers; a table of classes does without.
        cases: table of patients, and of columns for `by`.
        scans: folder of the scans, for pictures.
        resample, workers: see `evaluate.of_pairs`.
        by: columns of the cases (or `size`) by which results are told apart.

    Raises:
        Refusal: something of that is missing, or no case can be scored.
    """
    metrics = evaluate.metrics_named(changes)
    pictures: list[Drawn] = []
    if _is_table(predictions) and class_table.holds_probabilities(predictions):
        known = inputs.table_from(labels) if labels else None
        scores = evaluate.of_classes(class_table.of_probabilities(predictions, known), metrics, by=by)
    else:
        table, material = _label_maps(predictions, truth, labels, cases, scans)
        scores = evaluate.of_pairs(material, table, metrics, by=by, resample=resample, workers=workers)
        pictures, remarks = worst.of_files(material.pairs, scores, table, resample=resample)
        scores = replace(scores, notes=(*scores.notes, *remarks))
    save(scores, out)
    reporting.write_scores(
        out / "report.html",
        title=f"Evaluation of {predictions.name}",
        scores=scores,
        facts={"predictions": str(predictions), **({"truth": str(truth)} if truth else {})},
        overlays=pictures,
    )
    return scores


def _is_table(path: Path) -> bool:
    return path.suffix.lower() == ".csv"


def _label_maps(
    predictions: Path, truth: Path | None, labels: Path | None, cases: Path | None, scans: Path | None
) -> tuple[LabelTable, inputs.Material]:
    table = _is_table(predictions)
    if labels is None or not (truth or table):
        raise Refusal(
            predictions,
            found="a table of label maps" if table else "a folder that is no run",
            needed="--labels with it" if table else "--truth and --labels with it",
            remedy="add it" if table else "add both, or name a run folder",
        )
    material = inputs.of_folders(predictions, truth, cases, scans) if truth else inputs.of_table(predictions)
    return inputs.table_from(labels), material
