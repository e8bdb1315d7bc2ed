"""medseg evaluate"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

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
    from medseg.engine.evaluate_files import of_files
    from medseg.engine.evaluate_run import of_run
    from medseg.engine.gate import Gate
    from medseg.engine.scores_text import as_text
    from medseg.refusal import Refusal

    changes, by = changes or [], by or []
    kind = _kind(predictions)
    files = {"--truth": truth, "--labels": labels, "--cases": cases, "--scans": scans, "--gate": gate}
    _refuse_idle(predictions, kind, {**files, "--resample": resample, "--workers": workers})
    folder = out or (predictions.parent / predictions.stem if kind == TABLE else predictions)
    if kind == RUN:
        if changes and out is None:
            raise Refusal(
                "--out", found="none", needed="a folder for the scores on other data", remedy="name one with --out"
            )
        gating = Gate.load(gate, threshold=gate_threshold, device=device) if gate else None
        scores = of_run(predictions, folder, changes=changes, device=device, gate=gating, by=by)
    else:
        scores = of_files(
            predictions,
            folder,
            changes=changes,
            truth=truth,
            labels=labels,
            cases=cases,
            scans=scans,
            resample=resample,
            workers=workers,
            by=by,
        )
    print(as_text(scores))
    print(f"written: {folder / 'metrics.json'}", file=sys.stderr)
    if scores.missing:
        raise typer.Exit(1)


def _kind(predictions: Path) -> str:
    from medseg.refusal import Refusal

    if not predictions.exists():
        raise Refusal(
            predictions,
            found="no such file or folder",
            needed=f"{RUN}, {FOLDER} or {TABLE} (.csv)",
            remedy="check the path",
        )
    if any((predictions / name).exists() for name in ("recipe.yaml", "folds.json")) or predictions.suffix == ".zip":
        return RUN
    return TABLE if predictions.suffix.lower() == ".csv" else FOLDER


def _refuse_idle(predictions: Path, kind: str, given: Mapping[str, object]) -> None:
    """Refuse options that would say nothing."""
    from medseg.refusal import Refusal

    idle = [name for name, value in given.items() if value and name not in FITTING[kind]]
    if idle:
        raise Refusal(
            predictions,
            found=f"{kind}, beside {' and '.join(idle)}",
            needed=f"{kind} with {', '.join(FITTING[kind])} at most",
            remedy="leave it out, or name what was meant",
        )
