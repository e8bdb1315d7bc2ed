"""Reports of runs: what the engine knows, put into the report's terms."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import medseg
from medseg import report
from medseg.engine import assess, gather
from medseg.engine.run import Run
from medseg.engine.runner import Outcome
from medseg.engine.scores import Scores
from medseg.refusal import Refusal


def write(
    run: Run,
    path: Path,
    *,
    title: str,
    rows: Sequence[Mapping[str, Any]] = (),
    headline: Sequence[tuple[str, str | float]] = (),
    overlays: Sequence[report.Drawn] = (),
    stamp: str = "",
    facts: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    pooled: Sequence[Mapping[str, Any]] = (),
    statistics: Sequence[Mapping[str, Any]] = (),
    volumes: Sequence[Mapping[str, Any]] = (),
    reliability: Sequence[Mapping[str, Any]] = (),
    quality: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write a report about a run: its curves, its data, plan, split and card, and what else is given; see
    `report.Report`. The page of a training that is still going has neither card nor check of the split: those are for
    numbers, and listing a large data set at every epoch would take its time."""
    scored = bool(rows or pooled)
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
            reliability=reliability,
            quality=quality,
            overlays=overlays,
            data=_data(run),
            leaks=_leaks(run) if scored else {},
            card=_card(run) if scored else "",
            notes=notes,
        ),
    )


def write_scores(
    path: Path, *, title: str, scores: Scores, facts: Mapping[str, str], overlays: Sequence[report.Drawn] = ()
) -> None:
    """Write a report about label maps or classes that no run is known of."""
    report.write(
        path,
        report.Report(
            title=title,
            facts={"medseg": medseg.__version__, **facts, **measured(scores)},
            headline=headline(scores),
            metrics=scores.table(),
            statistics=scores.statistics,
            pooled=assess.to_json(scores.pooled),
            volumes=scores.volumes(),
            reliability=scores.reliability,
            overlays=overlays,
            notes=[*scores.notes, *scores.missing],
        ),
    )


def headline(scores: Scores) -> list[tuple[str, str | float]]:
    """The mean over labels of each number that may be better or worse, and a number of each metric over all cases."""
    telling = [name for name, number in scores.numbers.items() if number.better != "neither"]
    return [*((f"mean {name}", scores.mean(name)) for name in telling), *assess.headline(scores.pooled)]


def measured(scores: Scores) -> dict[str, str]:
    """The metrics with their options, as a fact for provenance."""
    said = []
    for metric in scores.metrics.values():
        options = ", ".join(f"{name} {given}" for name, given in metric.items() if name != "name")
        said.append(f"{metric['name']} ({options})" if options else str(metric["name"]))
    return {"metrics": "; ".join(dict.fromkeys(said))} if said else {}


def quality(outcomes: Iterable[Outcome]) -> list[dict[str, Any]]:
    """The verdict on each case that was given one."""
    return [{"case": one.case, **one.facts["quality"]} for one in outcomes if "quality" in one.facts]


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
    split = _split(run)
    if split:
        fold = split["folds"][split["fold"]]
        about |= {
            "training cases": f"{len(fold['train'])}: {', '.join(fold['train'])}",
            "validation cases": f"{len(fold['validation'])}: {', '.join(fold['validation'])}",
            "split": f"{split['kind']}, fold {split['fold'] + 1} of {len(split['folds'])}",
        }
    return about | {
        "spacing of the network": plan.spacing_text(),
        "patch": " x ".join(str(side) for side in plan.patch),
        "normalisation": plan.normalisation_text(),
    }


def _split(run: Run) -> dict[str, Any]:
    """The run's split.json; empty where it does not tell cases, as an exported run does not."""
    split = run.read("split.json") if run.path("split.json").exists() else {}
    return split if split.get("folds") else {}


def _leaks(run: Run) -> dict[str, str]:
    """What is known of patients on both sides of the split."""
    split = _split(run)
    if not split:
        return {}
    fold, alone = split["folds"][split["fold"]], split["kind"] in ("none", "slice")
    found = {
        "divided": "by patient" if not alone else f"not by patient ({split['kind']})",
        "cases on both sides": _some(sorted(set(fold["train"]) & set(fold["validation"]))),
        **_patients(run, fold),
    }
    return found | ({"stamp": split["stamp"]} if split["stamp"] else {})


def _patients(run: Run, fold: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """How many patients there are, and those on both sides, as far as the data are here to say."""
    try:
        cases = gather.cases(run.recipe).cases
    except Refusal:
        return {"patients on both sides": "not checked: the data set is not here"}
    patients = {case.id: case.patient for case in cases}
    unknown = sorted({name for side in ("train", "validation") for name in fold[side]} - set(patients))
    if unknown:
        return {"patients on both sides": f"not checked: the data set has no case {unknown[0]} any more"}
    sides = {side: {patients[name] for name in fold[side]} for side in ("train", "validation")}
    return {
        "patients": f"{len(sides['train'])} to train, {len(sides['validation'])} to validate",
        "patients on both sides": _some(sorted(sides["train"] & sides["validation"])),
    }


def _some(names: Sequence[str]) -> str:
    """How many, and which the first few are."""
    return f"{len(names)}: {', '.join(names[:3])}{', ...' * (len(names) > 3)}" if names else "none"


def _card(run: Run) -> str:
    path = run.path("card.md")
    return path.read_text(encoding="utf-8") if path.is_file() else ""
