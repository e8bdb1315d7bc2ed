"""Label map as compressed NRRD (.nrrd), as 3D Slicer likes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medseg.atomic import replacing
from medseg.geometry import LPS_FROM_RAS
from medseg.prediction import Prediction
from medseg.settings import Settings

SUFFIX = ".nrrd"
WRITES = "labels"
READ_BACK_BY = "sitk"


class Options(Settings):
    """Nothing to choose."""


def write(prediction: Prediction, path: Path, options: Options) -> None:
    """Write the painted labels as uint8, or uint16 above 255, in LPS space."""
    import SimpleITK as sitk

    painted = prediction.painted()
    lps = LPS_FROM_RAS @ painted.affine
    image = sitk.GetImageFromArray(np.ascontiguousarray(painted.array[0].T))
    image.SetSpacing(painted.spacing_mm.tolist())
    image.SetDirection((lps[:3, :3] / painted.spacing_mm).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    with replacing(path) as temporary:
        sitk.WriteImage(image, str(temporary), useCompression=True)
