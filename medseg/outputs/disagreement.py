"""How far folds and mirrored passes disagree, as compressed NIfTI (.disagreement.nii.gz): a standard deviation."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from medseg import nifti
from medseg.prediction import Prediction
from medseg.refusal import Refusal
from medseg.settings import Settings

SUFFIX = ".disagreement.nii.gz"
WRITES = "maps"
READ_BACK_BY = "nifti"


class Options(Settings):
    """How fine it is."""

    bits: Literal[8, 16] = 8
    """Of a stored number: steps of 1/255, or of 1/65535 in files several times as large."""


def keeps(options: Options) -> tuple[str, ...]:
    """Which maps of the prediction must be kept for this output."""
    return ("disagreement",)


def write(prediction: Prediction, path: Path, options: Options) -> None:
    """Write one volume for all labels together. 0: all networks and mirrored passes give the same probabilities. Of two
    classes it is the standard deviation of the probability of either (at most 0.5); of more, the root of half the sum
    of their variances (at most 0.71); of regions, the root of the sum. A single network that is not mirrored is
    refused.

    Raises:
        Refusal: it was not kept; or an axis is longer than NIfTI-1 can say.
    """
    if prediction.disagreement is None:
        raise Refusal(path, found="labels alone", needed="a map of disagreement", remedy="predict with this output")
    nifti.write_shares(
        path,
        prediction.target,
        prediction.disagreement,
        bits=options.bits,
        comment="disagreement of folds and mirrored passes, 0 to 0.71",
    )
