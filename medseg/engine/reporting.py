"""Reports of runs: what the engine knows, put into the report's terms."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg import report
from medseg.engine import assess
from medseg.engine.run import Run
from medseg.engine.scores import Scores


def write(
    run: Run,
    path: Path,
    *,
    title: str,
    rows: Sequence[Mapping[str, Any]] = (),
    headline: Sequence[tuple[str, str | float]] = (),
    overlays: Sequence[report.Overlay] = (),
    stamp: str = "",
    facts: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    pooled: Sequence[Mapping[str, Any]] = (),
    statistics: Sequence[Mapping[str, Any]] = (),
    volumes: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write a report about a run: its curves, its data and plan, and the metrics and pictures given."""
    report.write(
        path,
        report.Report(
            title=title,
            stamp=stamp,
            facts=facts or {},
            headline=headline,
            history=_history(run),
            metrics=rows,
            statistics=statistics,
            pooled=pooled,
            volumes=volumes,
            overlays=overlays,
            data=_data(run),
            notes=notes,
        ),
    )


def write_scores(path: Path, *, title: str, scores: Scores, facts: Mapping[str, str]) -> None:
    """Write a report about label maps or classes that no run is known of."""
    report.write(
        path,
        report.Report(
            title=title,
            facts=facts,
            headline=headline(scores),
            metrics=scores.table(),
            statistics=scores.statistics,
            pooled=assess.to_json(scores.pooled),
            volumes=scores.volumes(),
            notes=[*scores.notes, *scores.missing],
        ),
    )


def headline(scores: Scores) -> list[tuple[str, str | float]]:
    """The mean of each number over labels, and a number of each metric over all cases."""
    return [*((f"mean {name}", scores.mean(name)) for name in scores.units), *assess.headline(scores.pooled)]


def _history(run: Run) -> list[dict[str, float]]:
    """The training log without its nested parts, under the names that the report plots."""
    path = run.path("log.jsonl")
    if not path.exists():
        return []
    names = {
        "epoch": "epoch",
        "loss": "train_loss",
        "dice": "validation_dice",
        "train_dice": "training_patches_dice",
        "auroc": "validation_auroc",
        "lr": "lr",
        "samples_a_second": "samples_a_second",
        "wait": "wait",
        "seconds": "seconds",
    }
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{new: entry[old] for old, new in names.items() if old in entry} for entry in entries]


def _data(run: Run) -> dict[str, str]:
    plan, about = run.plan, {"data set": str(run.recipe.dataset.dump())}
    if run.path("split.json").exists():
        split = run.read("split.json")
        fold = split["folds"][split["fold"]]
        about |= {
            "training cases": ", ".join(fold["train"]),
            "validation cases": ", ".join(fold["validation"]),
            "split": f"{split['kind']}, by patient" if not split["stamp"] else f"{split['kind']}: {split['stamp']}",
        }
    return about | {
        "spacing of the network": plan.spacing_text(),
        "patch": " x ".join(str(side) for side in plan.patch),
        "normalisation": plan.normalisation_text(),
    }
