"""medseg evaluate"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medseg.engine.inputs import Material
    from medseg.labels import LabelTable
    from medseg.report import Drawn


RUN, TABLE, FOLDER = "a run", "a table", "a folder of label maps"
FITTING = {
    RUN: ("--gate",),
    TABLE: ("--labels", "--resample", "--workers"),
    FOLDER: ("--truth", "--labels", "--cases", "--scans", "--resample", "--workers"),
}
"""Options that say something with each."""


def command(
    predictions: Annotated[
        Path,
        typer.Argument(help="Run folder (its validation cases), a folder of label maps, or a table (.csv), see above."),
    ],
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            help="Other metrics, such as 'metrics=[dice, {name: nsd, tolerance_mm: 2}]'. Of a run also the data to "
            "score it on instead, such as dataset.part=test or dataset.root=..., and predict.mirror=[left-right]"
        ),
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="Folder of true label maps with the same file names.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Run folder or labels.yaml that says what the numbers mean.")
    ] = None,
    cases: Annotated[
        Path | None,
        typer.Option(help="Table (.csv) for a folder: case, patient, and any columns for --by."),
    ] = None,
    scans: Annotated[
        Path | None,
        typer.Option(help="Folder of the scans, with the same names, for pictures of the worst cases in the report."),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="Results also apart by this column (centre, scanner, ...), or by size: thirds of a label's "
            "true volume. May be repeated."
        ),
    ] = None,
    resample: Annotated[
        bool,
        typer.Option("--resample", help="Bring label maps on another grid onto that of the truth (nearest label)."),
    ] = False,
    workers: Annotated[
        int,
        typer.Option(
            min=0, help="Processes that score label maps. 0: a core each, where that is quicker.", show_default=False
        ),
    ] = 0,
    out: Annotated[Path | None, typer.Option(help="Where metrics.json goes. [default: beside the predictions]")] = None,
    gate: Annotated[
        Path | None,
        typer.Option(help="Run folder of a slice classifier that limits a run's labels; its cost is measured."),
    ] = None,
    gate_threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Probability from which a slice is flagged.")
    ] = 0.5,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Score label maps (or classes) against the truth: a table, metrics.json, metrics.csv and report.html.

    Per label and case, per patient, and over all, with 95 % intervals that draw patients and not images.

    A run: its validation cases are predicted and scored on their own grids. Changes of its recipe's data set name
    other cases: all of them are scored, and none may have been trained on. They need --out, as do other metrics and
    inference settings.

    A folder of label maps, with --truth and --labels. --cases says which cases are of one patient.

    A table. With columns case, prediction, truth (paths relative to it; scan, too, for pictures) it names label maps,
    and --labels is needed.
    With columns case, truth (names of classes, joined by +) and 'probability NAME' for each class, as `medseg predict`
    writes them, it holds classes. Both may have patient, centre and any other columns.

    Exit code 1 when a case could not be scored; all numbers are then over the others. What an empty mask scores is in
    each metric's entry of `medseg list metrics`.
    """
    from dataclasses import replace

    from medseg.engine import class_table, evaluate, evaluate_run, inputs, reporting, worst
    from medseg.engine.gate import Gate
    from medseg.engine.scores import save
    from medseg.engine.scores_text import as_text
    from medseg.refusal import Refusal

    changes, by = changes or [], by or []
    table = predictions.suffix.lower() == ".csv"
    of_run = (
        any((predictions / name).exists() for name in ("recipe.yaml", "folds.json")) or predictions.suffix == ".zip"
    )
    kind = RUN if of_run else TABLE if table else FOLDER
    files = {"--truth": truth, "--labels": labels, "--cases": cases, "--scans": scans, "--gate": gate}
    given = {**files, "--resample": resample, "--workers": workers}
    idle = [name for name, value in given.items() if value and name not in FITTING[kind]]
    if idle:
        raise Refusal(
            predictions,
            found=f"{kind}, beside {' and '.join(idle)}",
            needed=f"{kind} with {', '.join(FITTING[kind])} at most",
            remedy="leave it out, or name what was meant",
        )
    folder = out or (predictions.parent / predictions.stem if table else predictions)
    if of_run:
        if changes and out is None:
            raise Refusal(
                "--out", found="none", needed="a folder for the scores on other data", remedy="name one with --out"
            )
        gating = Gate.load(gate, threshold=gate_threshold, device=device) if gate else None
        scores = evaluate_run.of_run(predictions, folder, changes=changes, device=device, gate=gating, by=by)
    else:
        metrics = evaluate.metrics_named(changes)
        pictures: list[Drawn] = []
        if table and class_table.holds_probabilities(predictions):
            known = inputs.table_from(labels) if labels else None
            scores = evaluate.of_classes(class_table.of_probabilities(predictions, known), metrics, by=by)
        else:
            known, material = _label_maps(predictions, truth, labels, cases, scans)
            scores = evaluate.of_pairs(material, known, metrics, by=by, resample=resample, workers=workers)
            pictures, remarks = worst.of_files(material.pairs, scores, known, resample=resample)
            scores = replace(scores, notes=(*scores.notes, *remarks))
        save(scores, folder)
        facts = {"predictions": str(predictions), **({"truth": str(truth)} if truth else {})}
        reporting.write_scores(
            folder / "report.html",
            title=f"Evaluation of {predictions.name}",
            scores=scores,
            facts=facts,
            overlays=pictures,
        )
    print(as_text(scores))
    print(f"written: {folder / 'metrics.json'}", file=sys.stderr)
    if scores.missing:
        raise typer.Exit(1)


def _label_maps(
    predictions: Path, truth: Path | None, labels: Path | None, cases: Path | None, scans: Path | None
) -> tuple[LabelTable, Material]:
    from medseg.engine import inputs
    from medseg.refusal import Refusal

    table = predictions.suffix.lower() == ".csv"
    if labels is None or not (truth or table):
        raise Refusal(
            predictions,
            found="a table of label maps" if table else "a folder that is no run",
            needed="--labels with it" if table else "--truth and --labels with it",
            remedy="add it" if table else "add both, or name a run folder",
        )
    material = inputs.of_folders(predictions, truth, cases, scans) if truth else inputs.of_table(predictions)
    return inputs.table_from(labels), material
