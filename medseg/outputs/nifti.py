"""Label map as compressed NIfTI (.nii.gz), with the affine of the scan."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from medseg.atomic import replacing
from medseg.geometry import grid_distance_mm
from medseg.prediction import Prediction
from medseg.refusal import Refusal
from medseg.settings import Settings
from medseg.volume import Volume

SUFFIX = ".nii.gz"
WRITES = "labels"
READ_BACK_BY = "nifti"
SAME_PLACE_MM = 0.01
"""Single precision moves the corners of a large scan by less."""


class Options(Settings):
    """Nothing to choose."""


def write(prediction: Prediction, path: Path, options: Options) -> None:
    """Write the painted labels as uint8, or uint16 above 255. The same labels make the same bytes.

    Raises:
        Refusal: an axis is longer than NIfTI-1 can say.
    """
    import nibabel as nib

    image = image_of(prediction.painted(), path)
    with (
        replacing(path) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6) as handle,
    ):
        image.to_file_map({"image": nib.FileHolder(fileobj=handle)})


def image_of(volume: Volume, path: Path) -> Any:
    """nibabel's image of a volume, several channels last; `path` is what it will be called.

    The sform holds the affine (NIfTI-1 keeps single precision; an affine from an sform comes back bit for bit), and
    sform and qform codes are both 1, so that no reader takes another one. A qform cannot hold a shear: then its code is
    0, because ITK, which reads no sheared sform, would put the voxels elsewhere without a word.

    Raises:
        Refusal: an axis is longer than NIfTI-1 can say.
    """
    import nibabel as nib

    if max(volume.shape) > np.iinfo(np.int16).max:
        raise Refusal(
            path,
            found=f"shape {volume.shape}",
            needed=f"axes of at most {np.iinfo(np.int16).max} voxels",
            remedy="use NRRD",
        )
    array = volume.array[0] if len(volume.array) == 1 else np.moveaxis(volume.array, 0, 3)
    image = nib.Nifti1Image(array, volume.affine, dtype=array.dtype)
    image.set_qform(volume.affine, code=1)
    image.set_sform(volume.affine, code=1)
    if grid_distance_mm(image.get_qform(), volume.affine, volume.shape) > SAME_PLACE_MM:
        image.set_qform(None)
    image.header.set_xyzt_units("mm" if volume.unit == "mm" else "unknown")
    return image
