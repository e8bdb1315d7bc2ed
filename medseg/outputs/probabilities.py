"""Probabilities of all labels as compressed NIfTI (.probabilities.nii.gz), one volume a label, in steps of 1/255."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from medseg import nifti, scratch
from medseg.prediction import SLAB, Prediction
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


def needs_probabilities(options: Options) -> bool:
    """Whether `Prediction.probabilities` must be kept for this output."""
    return True


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
    kind, most = f"uint{options.bits}", 2**options.bits - 1
    names = "; ".join(prediction.table.names)
    nifti.write(path, prediction.target, chances.shape, kind, _steps(chances, most), step=1 / most, comment=names)


def _steps(chances: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Numbers from 0 to `most`, some planes of a label at a time."""
    planes = max(1, SLAB // chances[0, ..., 0].size)
    for volume in chances:
        for start in range(0, volume.shape[2], planes):
            yield np.rint(volume[..., start : start + planes] * np.float32(most))
            scratch.let_go(chances)
