"""medseg evaluate"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def command(
    predictions: Annotated[Path, typer.Argument(help="Run folder (its validation cases), or a folder of label maps.")],
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            help="Of a run: data to score it on instead, such as dataset.part=test or dataset.root=...; other metrics; "
            "predict.mirror=[left-right]"
        ),
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="Folder of true label maps with the same file names.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Run folder or labels.yaml that says what the numbers mean.")
    ] = None,
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
    """Score label maps (or classes) against the truth, per class and case and over all: a table, and metrics.json.

    With a run folder, its validation cases are predicted and scored on their own grids, and report.html is written.
    Changes of its recipe's data set name other cases: all of them are scored, and none may have been trained on. They
    need --out, as do other metrics and inference settings.
    Exit code 1 when a case could not be scored. What an empty mask scores is in each metric's
    entry of `medseg list metrics`.
    """
    from medseg.engine import evaluate
    from medseg.engine.gate import Gate
    from medseg.engine.scores import as_text, save
    from medseg.refusal import Refusal

    of_run = (
        any((predictions / name).exists() for name in ("recipe.yaml", "folds.json")) or predictions.suffix == ".zip"
    )
    idle = {"--truth": truth, "--labels": labels} if of_run else {"--gate": gate, "key=value": changes}
    if any(idle.values()):
        raise Refusal(
            predictions,
            found=f"a {'run, beside' if of_run else 'folder of label maps, beside'} "
            + " and ".join(name for name, value in idle.items() if value),
            needed="a run by itself, or a folder of label maps with --truth and --labels; --gate and changes go with a "
            "run",
            remedy="leave it out, or name the folder that was meant",
        )
    if of_run:
        if changes and out is None:
            raise Refusal(
                "--out", found="none", needed="a folder for the scores on other data", remedy="name one with --out"
            )
        folder = out or predictions
        gating = Gate.load(gate, threshold=gate_threshold, device=device) if gate else None
        scores = evaluate.of_run(predictions, folder, changes=changes or [], device=device, gate=gating)
    elif truth and labels:
        folder = out or predictions
        scores = evaluate.of_folders(predictions, truth, evaluate.table_from(labels))
        save(scores, folder)
    else:
        raise Refusal(
            predictions,
            found="a folder that is no run",
            needed="--truth and --labels with it",
            remedy="add both, or name a run folder",
        )
    print(as_text(scores))
    print(f"written: {folder / 'metrics.json'}", file=sys.stderr)
    if scores.missing:
        raise typer.Exit(1)
