"""One number that makes probabilities honest: the temperature by which logits are divided.

It is fitted on validation cases (`engine.calibrate`) and kept in the run folder. Logits of mirrored passes and of folds
are averaged first and divided afterwards, so that the highest stays the highest: labels do not change. Source: Guo et
al. 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import Field

from medseg.engine.run import CALIBRATION, Run
from medseg.settings import Settings


class Fit(Settings):
    """How good probabilities are, by places of patients that they were not fitted on."""

    ece: float
    nll: float
    brier: float


class Calibration(Settings):
    """What calibration.json holds. No case is named in it."""

    temperature: float = Field(gt=0)
    """Of all validation cases."""
    weights_sha256: str
    cases: int
    patients: int
    places: int
    """Voxels (slices, images) that it was fitted on."""
    unit: str
    parts: tuple[float, ...]
    """Temperatures found without a part of the patients each, who were scored by it."""
    before: Fit
    after: Fit


def of_runs(runs: Sequence[Run], weights: Sequence[str]) -> tuple[float, str | None]:
    """The temperature of one run or of an ensemble, the geometric mean of its members'; and what provenance says of it.

    It is 1 where a member was not calibrated, or before its weights were trained on: what its logits are worth is not
    known.

    Args:
        weights: sha256 of each run's.
    """
    found = [run.parsed(CALIBRATION, Calibration) for run in runs if run.path(CALIBRATION).exists()]
    if not found:
        return 1.0, None
    fitting = [one.temperature for one in found if one.weights_sha256 in weights]
    if len(fitting) < len(runs):
        return 1.0, f"none: {len(runs) - len(fitting)} of {len(runs)} runs were not calibrated with these weights"
    mean = math.exp(sum(map(math.log, fitting)) / len(fitting))
    return mean, f"{mean:.4g}"


def as_text(name: str, found: Calibration) -> str:
    """A table for a terminal."""
    rows = [
        (word, getattr(found.before, key), getattr(found.after, key))
        for word, key in (("ECE", "ece"), ("log-likelihood, negative", "nll"), ("Brier score", "brier"))
    ]
    lines = [
        f"{name}: temperature {found.temperature:.3g}, of {found.cases} cases of {found.patients} patients",
        f"{'of patients that it was not fitted on':<40}{'before':>9}{'after':>9}",
        *(f"{word:<40}{before:>9.4f}{after:>9.4f}" for word, before, after in rows),
    ]
    if found.temperature == 1:
        lines.append("it made them no better, so probabilities stay as they are")
    return "\n".join(lines)
