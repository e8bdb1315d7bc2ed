"""Label map as compressed NIfTI (.nii.gz), with the affine of the scan."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from medseg.atomic import replacing
from medseg.geometry import grid_distance_mm
from medseg.prediction import Prediction
from medseg.refusal import Refusal
from medseg.settings import Settings

SUFFIX = ".nii.gz"
WRITES = "labels"
READ_BACK_BY = "nifti"
SAME_PLACE_MM = 0.01
"""Single precision moves the corners of a large scan by less."""


class Options(Settings):
    """Nothing to choose."""


def write(prediction: Prediction, path: Path, options: Options) -> None:
    """Write the painted labels as uint8, or uint16 above 255.

    The sform holds the scan's affine (NIfTI-1 keeps single precision; an affine from an sform comes back bit for bit),
    and sform and qform codes are both 1, so that no reader takes another one. A qform cannot hold a shear: then its
    code is 0, because ITK, which reads no sheared sform, would put the labels elsewhere without a word. The same labels
    make the same bytes.

    Raises:
        Refusal: an axis is longer than NIfTI-1 can say.
    """
    import nibabel as nib

    painted = prediction.painted()
    if max(painted.shape) > np.iinfo(np.int16).max:
        raise Refusal(
            path,
            found=f"shape {painted.shape}",
            needed=f"axes of at most {np.iinfo(np.int16).max} voxels",
            remedy="use the nrrd output",
        )
    image = nib.Nifti1Image(painted.array[0], painted.affine)
    image.set_qform(painted.affine, code=1)
    image.set_sform(painted.affine, code=1)
    if grid_distance_mm(image.get_qform(), painted.affine, painted.shape) > SAME_PLACE_MM:
        image.set_qform(None)
    image.header.set_xyzt_units("mm")
    with (
        replacing(path) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6) as handle,
    ):
        image.to_file_map({"image": nib.FileHolder(fileobj=handle)})
