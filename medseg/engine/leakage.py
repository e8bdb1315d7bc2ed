"""How much a split that ignores patients flatters a slice classifier: the same recipe trained both ways, side by side.

Slices of one patient resemble one another. When some of them train and others validate, a network may recognise the
patient and not the disease. Source of the comparison: Ahamed et al. 2023, arXiv:2403.07105.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg import atomic, report, statistics
from medseg.config import Recipe
from medseg.data.split import SplitSettings
from medseg.engine import assess, evaluate_run, gather
from medseg.engine.assess import Pooled
from medseg.engine.train import train
from medseg.prediction import Evidence
from medseg.refusal import Refusal

SIDES = {"by_patient": "patients divided", "by_slice": "slices divided at random"}


@dataclass(frozen=True)
class Leakage:
    """AUROC of both ways and their difference (by slice less by patient), each with its interval."""

    rows: tuple[Pooled, ...]

    def gap(self, row: str = "mean") -> Pooled:
        return next(one for one in self.rows if one.over == "over-estimation" and one.row == row)


def compare(recipe: Recipe, out: Path, *, announce: Callable[[str], None] = print) -> Leakage:
    """Train the recipe with patients divided and with slices divided, measure both, write `leakage.json` and
    `report.html`. Both runs are complete run folders in `out`; what is finished is not done again.

    Raises:
        Refusal: the recipe's labels are not classes of slices.
    """
    unit = gather.cases(recipe).labels.unit
    if unit != "slice":
        raise Refusal(
            recipe.name,
            found=f"labels of unit {unit}",
            needed="unit slice",
            remedy="use a recipe of a slice classifier",
        )
    if recipe.split.kind not in ("kfold", "holdout"):
        raise Refusal(
            "split.kind",
            found=recipe.split.kind,
            needed="kfold or holdout: one of the two sides must divide patients",
            remedy="set split.kind",
        )
    share = recipe.split.validation if recipe.split.kind == "holdout" else 1 / recipe.split.folds
    by_slice = SplitSettings(kind="slice", validation=share, seed=recipe.split.seed)
    seen: dict[str, tuple[Evidence, ...]] = {}
    for name, split in (("by_patient", recipe.split), ("by_slice", by_slice)):
        announce(f"{SIDES[name]}:")
        run = train(recipe.model_copy(update={"split": split}), out / name, announce=announce)
        scores = evaluate_run.of_run(run.folder, out / f"{name}_scores", announce=announce)
        if scores.missing:
            raise Refusal(
                run.folder,
                found=f"cases that could not be scored: {'; '.join(scores.missing)}",
                needed="all of them, or the two sides would not compare",
                remedy="repair or leave out these cases, then run again",
            )
        seen[name] = scores.evidence
    names = gather.cases(recipe).labels.names
    result = Leakage(tuple(rows(seen["by_patient"], seen["by_slice"], names)))
    _write(result, recipe, out)
    return result


def rows(by_patient: Sequence[Evidence], by_slice: Sequence[Evidence], names: tuple[str, ...]) -> list[Pooled]:
    """AUROC of both, and of the gap."""
    from medseg.metrics import auroc

    def measured(cases: Sequence[Evidence]) -> dict[str, float]:
        return auroc.compute(cases, names=names, options=auroc.Options())

    found = []
    for key, cases in (("by_patient", by_patient), ("by_slice", by_slice)):
        bounds = statistics.intervals(measured, cases)
        found += [Pooled(SIDES[key], "auroc", row, value, *bounds[row]) for row, value in measured(cases).items()]
    first, second = measured(by_patient), measured(by_slice)
    gaps = statistics.gap_intervals(measured, by_slice, by_patient)
    found += [Pooled("over-estimation", "auroc", row, second[row] - first[row], *gaps[row]) for row in first]
    return found


def _write(result: Leakage, recipe: Recipe, out: Path) -> None:
    content = assess.to_json(result.rows)
    with atomic.replacing(out / "leakage.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    report.write(
        out / "report.html",
        report.Report(
            title=f"{recipe.name}: what a split by slice over-estimates",
            headline=[(f"AUROC, {one.over}", assess.with_interval(one)) for one in result.rows if one.row == "mean"],
            pooled=content,
            notes=[
                "Intervals resample patients. The number for divided slices says nothing about new patients: it is "
                "here to show how far it lies above the one that does. An over-estimation whose interval contains 0 "
                "may be none."
            ],
        ),
    )
