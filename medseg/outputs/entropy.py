"""Doubt of each voxel as compressed NIfTI (.entropy.nii.gz): entropy of all labels' probabilities, 0 to 1."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from medseg import nifti
from medseg.prediction import Prediction
from medseg.refusal import Refusal
from medseg.settings import Settings

SUFFIX = ".entropy.nii.gz"
WRITES = "maps"
READ_BACK_BY = "nifti"


class Options(Settings):
    """How fine it is."""

    bits: Literal[8, 16] = 8
    """Of a stored number: steps of 1/255, or of 1/65535 in files several times as large."""


def keeps(options: Options) -> tuple[str, ...]:
    """Which maps of the prediction must be kept for this output."""
    return ("entropy",)


def write(prediction: Prediction, path: Path, options: Options) -> None:
    """Write one volume for all labels together. 0: certain. 1: all answers, background included, are as likely. It is
    the Shannon entropy over the log of the number of answers (so times log C it is in nats); of regions that may
    overlap, the mean of their entropies in bits.

    Raises:
        Refusal: it was not kept; or an axis is longer than NIfTI-1 can say.
    """
    if prediction.entropy is None:
        raise Refusal(path, found="labels alone", needed="a map of entropy", remedy="predict with this output")
    nifti.write_shares(path, prediction.target, prediction.entropy, bits=options.bits, comment="entropy from 0 to 1")
