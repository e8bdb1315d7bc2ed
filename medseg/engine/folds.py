"""The folder of a cross-validation: a run folder for each fold, and `folds.json`, which says how good each is.

Such a folder is a model, too: the ensemble of its folds.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field

from medseg.engine.run import FOLDS, Run
from medseg.refusal import Refusal
from medseg.settings import Settings
from medseg.wording import value


class Fold(Settings):
    """A fold whose training is complete."""

    best: float | None
    """Validation measure of the weights that were kept; None: undefined."""
    recipe: str
    """sha256 of its recipe.yaml."""


class Folds(Settings):
    """What `folds.json` holds."""

    count: int = Field(ge=2)
    """Folds of the split."""
    measure: str = ""
    runs: Mapping[str, Fold] = {}
    """By the name of the run folder."""
    mean: float | None = None
    sd: float | None = None
    """Over the folds; of the sample (n - 1)."""

    def with_run(self, name: str, measure: str, fold: Fold) -> Folds:
        """The same with a fold more; mean and sd follow."""
        return self._of({**self.runs, name: fold}, measure)

    def without(self, name: str) -> Folds:
        """The same without a fold, whether or not it was there."""
        return self._of({other: fold for other, fold in self.runs.items() if other != name}, self.measure)

    def _of(self, runs: Mapping[str, Fold], measure: str) -> Folds:
        ordered = dict(sorted(runs.items(), key=lambda one: int(one[0].removeprefix("fold"))))
        values = [one.best for one in ordered.values() if one.best is not None]
        return Folds(
            count=self.count,
            measure=measure,
            runs=ordered,
            mean=statistics.mean(values) if values else None,
            sd=statistics.stdev(values) if len(values) > 1 else None,
        )


def is_folder(path: Path) -> bool:
    """Whether it is the folder of a cross-validation."""
    return (path / FOLDS).is_file()


def load(path: Path) -> Folds:
    """What the folder says of its folds.

    Raises:
        Refusal: it has no `folds.json`, or a damaged one.
    """
    return Run(path).parsed(FOLDS, Folds)


def save(path: Path, folds: Folds) -> None:
    """Replace `folds.json`."""
    Run(path).write(FOLDS, folds.model_dump(mode="json"))


def run_folders(paths: Sequence[Path]) -> list[Path]:
    """The run folders of models: in place of a cross-validation, all its folds.

    Raises:
        Refusal: a fold is not trained yet.
    """
    return [run for path in paths for run in (_members(path) if is_folder(path) else [path])]


def _members(path: Path) -> list[Path]:
    found = load(path)
    if len(found.runs) < found.count:
        ready = [str(path / name) for name in found.runs]
        by_hand = f", or name those that are ready: {' --with '.join(ready)}" if ready else ""
        raise Refusal(
            path,
            found=f"{len(found.runs)} of {found.count} folds trained",
            needed="all, for the ensemble that the folder stands for",
            remedy=f"train the others with `medseg train ... --folds all`{by_hand}",
        )
    return [path / name for name in found.runs]


def as_text(found: Folds, path: Path) -> str:
    """A table for a terminal: a row a fold, mean and sd; and how to predict with what is there."""
    rows = [(name, value(one.best, digits=4)) for name, one in found.runs.items()]
    if found.mean is not None:
        sd = f" ± {value(found.sd, digits=4)} (sd)" if found.sd is not None else ""
        rows.append((f"mean of {len(found.runs)}", value(found.mean, digits=4) + sd))
    measure = {"dice": "Dice", "auroc": "AUROC"}.get(found.measure, "")
    lines = [f"{'fold':<12}best validation {measure}", *(f"{name:<12}{text}" for name, text in rows)]
    if len(found.runs) == found.count:
        lines.append(f"predict with all of them: medseg predict {path} SCANS RESULTS")
    else:
        lines.append(f"{found.count - len(found.runs)} of {found.count} folds are not trained yet")
    return "\n".join(lines)
