"""Label map as compressed NIfTI (.nii.gz), with the affine of the scan."""

from __future__ import annotations

from pathlib import Path

from medseg import nifti
from medseg.prediction import Prediction
from medseg.settings import Settings

SUFFIX = ".nii.gz"
WRITES = "labels"
READ_BACK_BY = "nifti"


class Options(Settings):
    """Nothing to choose."""


def write(prediction: Prediction, path: Path, options: Options) -> None:
    """Write the painted labels as uint8, or uint16 above 255, slab by slab. The same labels make the same bytes.

    Raises:
        Refusal: an axis is longer than NIfTI-1 can say.
    """
    target, table = prediction.target, prediction.table
    nifti.write(path, target, (1, *target.shape), table.painted_kind, prediction.slabs())
