"""What a run writes down of its epochs in its own folder: a log, and a page with its curves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medseg import atomic
from medseg.boundary import parsing
from medseg.engine import reporting
from medseg.engine.run import Run

MEASURES = {"dice": "Dice", "auroc": "AUROC"}


def log(run: Run, history: list[dict[str, Any]]) -> None:
    """The whole history each time: a resumed run leaves no line twice."""
    with atomic.replacing(run.path("log.jsonl")) as temporary:
        temporary.write_text("".join(json.dumps(entry) + "\n" for entry in history), encoding="utf-8")


def page(run: Run, history: Sequence[Mapping[str, Any]]) -> None:
    """`training.html`: curves, what was warned of, each label, and the recipe's data and plan."""
    warned = [f"Epoch {entry['epoch']}: {text}" for entry in history for text in entry.get("warnings", ())]
    title = f"Training of {run.recipe.name}, epoch {len(history)} of {run.recipe.train.epochs}"
    reporting.write(run, run.path("training.html"), title=title, notes=[*warned, *_by_label(history)])


def _by_label(history: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What the last validation found of each label, the lowest first: a mean hides the one that is never found."""
    for measure, words in MEASURES.items():
        last = next((entry for entry in reversed(history) if f"{measure}_per_label" in entry), None)
        if last:
            found = {name: at for name, at in last[f"{measure}_per_label"].items() if at is not None}
            listed = ", ".join(f"{name} {found[name]:.3f}" for name in sorted(found, key=lambda name: found[name]))
            yield f"{words} of each label at the validation of epoch {last['epoch']}: {listed or 'undefined'}"


def best(run: Run) -> tuple[str, float | None]:
    """What a run was validated by (dice or auroc), and the best value in its log; None where it was never defined.

    Raises:
        Refusal: no log, or a damaged one.
    """
    with parsing(run.path("log.jsonl"), needed="the log of a training", remedy="run `medseg train` to the end"):
        entries = [json.loads(line) for line in run.path("log.jsonl").read_text(encoding="utf-8").splitlines()]
        measure = next(name for name in MEASURES if any(name in entry for entry in entries))
        return measure, max((entry[measure] for entry in entries if entry.get(measure) is not None), default=None)
