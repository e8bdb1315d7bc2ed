"""One number that makes probabilities honest: the temperature by which logits are divided, see Guo et al. 2017.

It is fitted on validation cases (`engine.calibrate`) and kept in the run folder. Logits of mirrored passes and of folds
are averaged first and divided afterwards, so that the highest stays the highest: labels do not change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import Field

from medseg.engine.run import CALIBRATION, Run
from medseg.settings import Settings


class Fit(Settings):
    """How good probabilities are, by places of cases that they were not fitted on."""

    ece: float
    nll: float
    brier: float


class Calibration(Settings):
    """What calibration.json holds."""

    temperature: float = Field(gt=0)
    """Of all validation cases."""
    cases: int
    patients: int
    places: int
    """Voxels (slices, images) that it was fitted on."""
    unit: str
    folds: Sequence[float]
    """Temperatures found without a part of the patients each, by which the others were scored."""
    before: Fit
    after: Fit


def of_runs(runs: Sequence[Run]) -> tuple[float, str | None]:
    """The temperature of one run or of an ensemble, the geometric mean of its members'; and what provenance says of it.
    1 where a member was not calibrated: what its logits are worth is not known."""
    found = [run.parsed(CALIBRATION, Calibration).temperature for run in runs if run.path(CALIBRATION).exists()]
    if not found:
        return 1.0, None
    if len(found) < len(runs):
        return 1.0, f"none: {len(runs) - len(found)} of {len(runs)} runs were not calibrated"
    mean = math.exp(sum(map(math.log, found)) / len(found))
    return mean, f"{mean:.4g}"
