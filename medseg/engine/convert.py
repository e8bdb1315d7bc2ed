"""Image files from a Volume, through nibabel or SimpleITK, values and geometry unchanged."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from medseg import atomic
from medseg.geometry import LPS_FROM_RAS
from medseg.refusal import Refusal
from medseg.volume import Volume

log = logging.getLogger(__name__)

NIFTI, OTHERS = (".nii.gz", ".nii"), (".nrrd", ".mha")


def convert(volume: Volume, path: Path) -> None:
    """Write `volume` to `path`; the suffix chooses the format. Only formats of one file are written, because two files
    cannot appear at one moment. A photograph has no size in millimetres, and these formats cannot say so: its pixels
    become 1 mm, which is said in a line.

    Raises:
        Refusal: a suffix that is not written.
    """
    name = path.name.lower()
    if not name.endswith((*NIFTI, *OTHERS)):
        raise Refusal(
            path,
            found=f"the suffix '{path.suffix}'",
            needed=f"one of {', '.join((*NIFTI, *OTHERS))}",
            remedy="change the suffix",
        )
    if volume.unit == "px":
        log.warning("%s: written with pixels of 1 mm, though their size is not known", path)
    with atomic.replacing(path) as temporary:
        (_nifti if name.endswith(NIFTI) else _simpleitk)(volume, temporary)


def _nifti(volume: Volume, path: Path) -> None:
    import nibabel

    array = volume.array[0] if len(volume.array) == 1 else np.moveaxis(volume.array, 0, 3)
    image = nibabel.Nifti1Image(np.ascontiguousarray(array), volume.affine, dtype=volume.array.dtype)
    image.header.set_xyzt_units("mm" if volume.unit == "mm" else "unknown")
    nibabel.save(image, path)


def _simpleitk(volume: Volume, path: Path) -> None:
    import SimpleITK

    zyx = np.ascontiguousarray(volume.array.transpose(3, 2, 1, 0))
    several = len(volume.array) > 1
    image = SimpleITK.GetImageFromArray(zyx if several else zyx[..., 0], isVector=several)
    lps = LPS_FROM_RAS @ volume.affine
    image.SetSpacing(volume.spacing_mm.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / volume.spacing_mm).flatten().tolist())
    SimpleITK.WriteImage(image, str(path), useCompression=True)
