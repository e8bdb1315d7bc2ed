"""Scans and label maps as NIfTI files in base64, which a page can hold."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import nibabel as nib
import numpy as np

from medseg import nifti
from medseg.packing import packed
from medseg.volume import Volume

COLOURS = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
"""How NIfTI stores a pixel of a photograph."""


def scan(volume: Volume) -> str:
    """The first channel, or all three of a colour photograph; whole numbers of up to 16 bits as they are, others in
    single precision."""
    if in_colour(volume):
        return _packed(volume, _colours(volume.array))
    array = volume.array[0]
    if array.dtype.kind in "iub" and array.dtype.itemsize > 1:
        fits = np.iinfo(np.int16).min <= int(array.min()) and int(array.max()) <= np.iinfo(np.int16).max
        array = array.astype(np.int16 if fits else np.float32)
    elif array.dtype != np.uint8:
        array = array.astype(np.float32)
    return _packed(volume, array)


def labels(volume: Volume, places: dict[int, int]) -> str:
    """A label map (1, I, J, K) with its numbers replaced by their `places` (from 1); others become background."""
    lookup = np.zeros(max([*places, int(volume.array.max())]) + 1, np.uint8 if len(places) < 256 else np.int16)
    for number, place in places.items():
        lookup[number] = place
    replaced = np.empty(volume.shape, lookup.dtype, order="F")
    for k in range(volume.shape[2]):  # an index takes eight bytes a voxel
        replaced[..., k] = lookup[volume.array[0, ..., k]]
    return _packed(volume, replaced)


def in_colour(volume: Volume) -> bool:
    """Whether three channels are one colour picture."""
    return volume.unit == "px" and len(volume.array) == 3


def _colours(array: np.ndarray) -> np.ndarray:
    """(3, I, J, K) -> (I, J, K) of pixels; more than 8 bits are brought down to them."""
    highest = float(array.max())
    eight = array if array.dtype == np.uint8 else array / (highest / 255 if highest > 255 else 1)
    return np.ascontiguousarray(np.moveaxis(eight.astype(np.uint8), 0, -1)).view(COLOURS)[..., 0]


def _packed(volume: Volume, array: np.ndarray) -> str:
    image = nifti.image_of(Volume(np.zeros((1, 1, 1, 1), np.uint8), volume.affine, unit=volume.unit), Path())
    whole = nib.Nifti1Image(array, None, image.header, dtype=array.dtype)
    whole.set_sform(volume.affine, code=1)
    stream = io.BytesIO()
    with packed(stream) as handle:
        handle.write(whole.to_bytes())
    return base64.b64encode(stream.getbuffer()).decode("ascii")
