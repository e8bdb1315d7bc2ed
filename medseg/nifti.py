"""NIfTI-1 as it is written: header and affine, and voxels that come piece by piece."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from medseg import scratch
from medseg.atomic import replacing
from medseg.geometry import grid_distance_mm
from medseg.packing import packed
from medseg.prediction import SLAB
from medseg.refusal import Refusal
from medseg.volume import Volume

SAME_PLACE_MM = 0.01
"""Single precision moves the corners of a large scan by less."""


def write(
    path: Path,
    like: Volume,
    shape: tuple[int, ...],
    kind: Any,
    pieces: Iterable[np.ndarray],
    *,
    step: float = 1,
    comment: str = "",
) -> None:
    """Write a compressed file whose voxels are never in memory at once. The same voxels make the same bytes.

    Args:
        like: whose affine and unit it gets.
        shape: (C, I, J, K); one channel makes a file of three axes, several make one of four.
        kind: type of the voxels.
        pieces: the voxels, in the order of the file: i fastest, then j, k and the channel. (I, J, k) or any other shape
            whose first axis is the fastest.
        step: what a difference of one means; readers multiply by it.
        comment: kept in the header.

    Raises:
        Refusal: an axis is longer than NIfTI-1 can say.
    """
    import nibabel as nib

    kind = np.dtype(kind).newbyteorder("<")
    nothing = np.broadcast_to(np.zeros((), kind), shape)  # stands for the voxels, and takes no memory
    image = image_of(Volume(nothing, like.affine, unit=like.unit), path)
    image.update_header()
    image.header.set_slope_inter(step, 0)
    if comment:
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", comment.encode()))
    with replacing(path) as temporary, temporary.open("wb") as raw, packed(raw) as handle:
        image.header.write_to(handle)
        for piece in pieces:
            handle.write(np.ascontiguousarray(piece.T, kind).data)


def write_shares(path: Path, like: Volume, shares: np.ndarray, *, bits: int, comment: str) -> None:
    """Write numbers from 0 to 1, (C, I, J, K), as whole ones of 8 or 16 bits, of which the header's slope makes shares.
    What is in memory at once does not grow with the scan or the channels.

    Raises:
        Refusal: an axis is longer than NIfTI-1 can say.
    """
    most = 2**bits - 1
    write(path, like, shares.shape, f"uint{bits}", _steps(shares, most), step=1 / most, comment=comment)


def _steps(shares: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Numbers from 0 to `most`, some planes of a channel at a time."""
    planes = max(1, SLAB // shares[0, ..., 0].size)
    for volume in shares:
        for start in range(0, volume.shape[2], planes):
            yield np.rint(volume[..., start : start + planes] * np.float32(most))
            scratch.let_go(shares)


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
