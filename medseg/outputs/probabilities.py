"""Probabilities of all labels as compressed NIfTI (.probabilities.nii.gz), one volume a label, in steps of 1/255."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from medseg import nifti
from medseg.prediction import Prediction
from medseg.refusal import Refusal
from medseg.settings import Settings

SUFFIX = ".probabilities.nii.gz"
WRITES = "maps"
READ_BACK_BY = "nifti"


class Options(Settings):
    """How fine they are."""

    bits: Literal[8, 16] = 8
    """Of a stored number: 8 keep probabilities to within 0.002 in steps of 1/255, 16 to within 0.000008 in steps of
    1/65535, in files several times as large."""


def keeps(options: Options) -> tuple[str, ...]:
    """Which maps of the prediction must be kept for this output."""
    return ("probabilities",)


def write(prediction: Prediction, path: Path, options: Options) -> None:
    """Write the labels in the order of the table along the fourth axis, their names in a comment of the header. Stored
    numbers are whole; the header's slope makes probabilities of them. What is in memory at once does not grow with the
    scan or the labels.

    Raises:
        Refusal: the probabilities were not kept; or an axis is longer than NIfTI-1 can say.
    """
    chances = prediction.probabilities
    if chances is None:
        raise Refusal(
            path,
            found="labels alone",
            needed="probabilities",
            remedy="predict with this output, or keep the probabilities",
        )
    nifti.write_shares(path, prediction.target, chances, bits=options.bits, comment="; ".join(prediction.table.names))
