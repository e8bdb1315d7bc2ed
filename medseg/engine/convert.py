"""Image files from a Volume, through nibabel or SimpleITK, values and geometry unchanged."""

from __future__ import annotations

import logging
from pathlib import Path

from medseg import atomic, nifti
from medseg.outputs import nrrd
from medseg.refusal import Refusal
from medseg.volume import Volume

log = logging.getLogger(__name__)

NIFTI, OTHERS = (".nii.gz", ".nii"), (".nrrd", ".mha")


def convert(volume: Volume, path: Path) -> None:
    """Write `volume` to `path`; the suffix chooses the format. Only formats of one file are written, because two files
    cannot appear at one moment. A photograph has no size in millimetres, and these formats cannot say so: its pixels
    become 1 mm, which is said in a line.

    Raises:
        Refusal: a suffix that is not written, or an axis too long for NIfTI.
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
        if name.endswith(NIFTI):
            import nibabel

            nibabel.save(nifti.image_of(volume, path), temporary)
        else:
            import SimpleITK

            SimpleITK.WriteImage(nrrd.image_of(volume), str(temporary), useCompression=True)
