"""NRRD (.nrrd, .nhdr, .seg.nrrd), MetaImage (.mha, .mhd), GIPL and VTK images, through SimpleITK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medseg.boundary import parsing, refuse_not_finite
from medseg.geometry import LPS_FROM_RAS
from medseg.refusal import Refusal
from medseg.settings import Settings
from medseg.volume import Source, Volume

SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd", ".gipl", ".gipl.gz", ".vtk")


class Options(Settings):
    """Nothing to choose."""


def matches(path: Path) -> bool:
    """By suffix."""
    return path.is_file() and path.name.lower().endswith(SUFFIXES)


def read(path: Path, options: Options) -> Volume:
    """Read a 3-D image of scalars or vectors, or a 4-D one, as (C, I, J, K) with ITK's index order.

    Of 3D Slicer's segmentations (.seg.nrrd), `source.notes["segments"]` maps the number in the voxels to the segment's
    name. If segments lie in layers, each becomes a channel of 0 and 1, and is numbered from 1.

    Raises:
        Refusal: damaged, complex, not 3-D or 4-D, or with NaN or infinite voxels; or segments without a layer.
    """
    import SimpleITK as sitk

    with parsing(path, needed="an image that SimpleITK can read", remedy="copy or convert the file again"):
        image = sitk.ReadImage(str(path))
        array = sitk.GetArrayFromImage(image)  # (..., K, J, I) and the vector's components last
    dimension, components = image.GetDimension(), image.GetNumberOfComponentsPerPixel()
    if dimension == 4 and (components == 1 or image.GetSize()[3] == 1):
        channels = array.reshape(-1, *array.shape[1:]) if components == 1 else np.moveaxis(array[0], -1, 0)
    elif dimension == 3:
        channels = array[None] if components == 1 else np.moveaxis(array, -1, 0)
    else:
        channels = None
    if channels is None or array.dtype.kind not in "iuf":
        raise Refusal(
            path,
            found=f"{dimension} axes {image.GetSize()} of {image.GetPixelIDTypeAsString()}",
            needed="three axes of real voxels, or four with the channels last",
            remedy="convert it to a 3-D image; a flat picture can be read as PNG or TIFF",
        )
    refuse_not_finite(channels, path)
    segments = _segments(path, image, len(channels))
    notes = {"segments": {value: name for name, value, _ in segments}} if segments else {}
    names: tuple[str, ...] = ()
    if segments and len(channels) > 1:
        channels = np.stack([channels[layer] == value for _, value, layer in segments]).astype(np.uint8)
        names = tuple(name for name, _, _ in segments)
        notes = {"segments": dict(enumerate(names, start=1))}
    return Volume(
        channels.transpose(0, 3, 2, 1), _affine(image), Source(path, reader="sitk", notes=notes), channels=names
    )


def _segments(path: Path, image: Any, layers: int) -> list[tuple[str, int, int]]:
    """(name, number in the voxels, layer) of each segment that 3D Slicer's fields describe, in their order."""
    found: list[tuple[str, int, int]] = []
    with parsing(path, needed="a name, a number and a layer for every segment", remedy="save it again in 3D Slicer"):
        while image.HasMetaDataKey(f"Segment{len(found)}_ID"):
            field = f"Segment{len(found)}_"
            value, layer = (int(image.GetMetaData(field + part)) for part in ("LabelValue", "Layer"))
            if not 0 <= layer < layers:
                raise ValueError(f"layer {layer} of {layers}")
            found.append((image.GetMetaData(field + "Name"), value, layer))
    return found


def _affine(image: Any) -> np.ndarray:
    """Index -> RAS+ mm from ITK's LPS origin, spacing and direction; a fourth axis is left out."""
    dimension = image.GetDimension()
    direction = np.array(image.GetDirection()).reshape(dimension, dimension)
    lps = np.eye(4)
    lps[:3, :3] = direction[:3, :3] * np.array(image.GetSpacing())[:3]
    lps[:3, 3] = np.array(image.GetOrigin())[:3]
    return LPS_FROM_RAS @ lps
