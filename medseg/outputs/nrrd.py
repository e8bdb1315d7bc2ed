"""Label map as compressed NRRD (.nrrd), as 3D Slicer likes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medseg import nrrd
from medseg.geometry import LPS_FROM_RAS
from medseg.prediction import Prediction
from medseg.settings import Settings
from medseg.volume import Volume

SUFFIX = ".nrrd"
WRITES = "labels"
READ_BACK_BY = "sitk"


class Options(Settings):
    """Nothing to choose."""


def write(prediction: Prediction, path: Path, options: Options) -> None:
    """Write the painted labels as uint8, or uint16 above 255, in LPS space, slab by slab."""
    target, kind = prediction.target, prediction.table.painted_kind
    nrrd.write(path, nrrd.header((1, *target.shape), kind, target.affine), prediction.slabs())


def image_of(volume: Volume) -> Any:
    """SimpleITK's image of a volume, in LPS space; several channels make vectors."""
    import SimpleITK as sitk

    voxels = np.ascontiguousarray(volume.array.transpose(3, 2, 1, 0))
    several = len(volume.array) > 1
    image = sitk.GetImageFromArray(voxels if several else voxels[..., 0], isVector=several)
    lps = LPS_FROM_RAS @ volume.affine
    image.SetSpacing(volume.spacing_mm.tolist())
    image.SetDirection((lps[:3, :3] / volume.spacing_mm).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image
