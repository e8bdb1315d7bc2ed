"""NRRD (.nrrd, .nhdr, .seg.nrrd) and MetaImage (.mha, .mhd), through SimpleITK."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medseg.boundary import parsing, refuse_not_finite
from medseg.geometry import LPS_FROM_RAS
from medseg.labels import Code, Coded, Label
from medseg.readers import _itk
from medseg.refusal import Refusal
from medseg.settings import Settings
from medseg.volume import Source, Volume

OPTIONAL = ("Color", "Tags")
"""Fields of a segment that other programs may leave out."""
LONGEST_SCHEME, LONGEST_MEANING = 16, 64
TERMINOLOGY, OWN = "TerminologyEntry:", "medseg_"
NRRD = (".nrrd", ".nhdr")
SUFFIXES = (*NRRD, ".mha", ".mhd")


class Options(Settings):
    """Nothing to choose."""


def matches(path: Path) -> bool:
    """By suffix."""
    return path.is_file() and path.name.lower().endswith(SUFFIXES)


def read(path: Path, options: Options) -> Volume:
    """Read a 3-D image of scalars or vectors, or a 4-D one, as (C, I, J, K) with ITK's index order.

    Of 3D Slicer's segmentations (.seg.nrrd), `source.notes["segments"]` maps the number in the voxels to the segment's
    name. If segments lie in layers, each becomes a channel of 0 and 1, and is numbered from 1. `notes["labels"]` has a
    `Label` for each with its colour and codes, and `notes["provenance"]` what medseg wrote into the file.

    Raises:
        Refusal: damaged, complex, not 3-D or 4-D, or with NaN or infinite voxels; segments without a layer; an NRRD
            whose space is not the patient's, or not in millimetres. ITK writes none for a 4-D image, so that
            SimpleITK's 4-D .nrrd are refused, and its 4-D .mha read.
    """
    import SimpleITK as sitk

    with parsing(path, needed="an image that SimpleITK can read", remedy="copy or convert the file again"):
        image = sitk.ReadImage(str(path))
        array = sitk.GetArrayFromImage(image)  # (..., K, J, I) and the vector's components last
        space = image.GetMetaData("NRRD_space") if image.HasMetaDataKey("NRRD_space") else ""
    if path.name.lower().endswith(NRRD):
        _itk.refuse_unplaced(path, space)
    else:
        _itk.refuse_damaged(path, array.nbytes)
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
    names: tuple[str, ...] = ()
    if segments and len(channels) > 1:
        channels = np.stack([channels[layer] == label.index for label, layer in segments]).astype(np.uint8)
        names = tuple(label.name for label, _ in segments)
        segments = [
            (replace(label, index=n, members=(n,)), layer) for n, (label, layer) in enumerate(segments, start=1)
        ]
    notes: dict[str, Any] = {}
    if segments:
        notes["segments"] = {label.index: label.name for label, _ in segments}
        notes["labels"] = tuple(label for label, _ in segments)
        notes["provenance"] = _provenance(image)
    return Volume(
        channels.transpose(0, 3, 2, 1), _affine(image), Source(path, reader="sitk", notes=notes), channels=names
    )


def _segments(path: Path, image: Any, layers: int) -> list[tuple[Label, int]]:
    """Each segment that 3D Slicer's fields describe, by its number in the voxels, and its layer, in their order."""
    found: list[tuple[Label, int]] = []
    with parsing(path, needed="a name, a number and a layer for every segment", remedy="save it again in 3D Slicer"):
        while image.HasMetaDataKey(f"Segment{len(found)}_ID"):
            field = f"Segment{len(found)}_"
            value, layer = (int(image.GetMetaData(field + part)) for part in ("LabelValue", "Layer"))
            if not 0 <= layer < layers:
                raise ValueError(f"layer {layer} of {layers}")
            told = {key: image.GetMetaData(field + key) for key in OPTIONAL if image.HasMetaDataKey(field + key)}
            name, colour = image.GetMetaData(field + "Name"), _colour(told.get("Color", "1 0 0"))
            found.append((Label(value, name, (value,), None, colour, coded=_coded(told.get("Tags", ""))), layer))
    return found


def _colour(text: str) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, round(255 * float(part)))) for part in text.split())
    return red, green, blue


def _coded(tags: str) -> Coded | None:
    """The codes of Slicer's terminology entry: its context; category, type and its modifier; another context; region
    and its modifier. None where there is no category or no type."""
    entry = next((tag for tag in tags.split("|") if tag.startswith(TERMINOLOGY)), "")
    parts = (entry.removeprefix(TERMINOLOGY).split("~") + [""] * 7)[:7]
    category, kind, of_kind, site, of_site = (_code(parts[place]) for place in (1, 2, 3, 5, 6))
    if category is None or kind is None:
        return None
    if site is None:
        return Coded(category, kind, side=of_kind)
    return Coded(category, kind, side=of_site, site=site, detail=of_kind)


def _code(text: str) -> Code | None:
    """In the lengths that DICOM has for its parts; None where it is none."""
    scheme, value, meaning = [*text.split("^"), "", ""][:3]
    if not (0 < len(scheme) <= LONGEST_SCHEME and 0 < len(value) <= LONGEST_MEANING):
        return None
    return Code(value, scheme, " ".join((meaning or value).replace("\\", "/").split())[:LONGEST_MEANING].strip())


def _provenance(image: Any) -> dict[str, str]:
    """What medseg wrote of itself."""
    keys = [key for key in image.GetMetaDataKeys() if key.startswith(OWN)]
    return {key.removeprefix(OWN): image.GetMetaData(key) for key in keys}


def _affine(image: Any) -> np.ndarray:
    """Index -> RAS+ mm from ITK's LPS origin, spacing and direction; a fourth axis is left out."""
    dimension = image.GetDimension()
    direction = np.array(image.GetDirection()).reshape(dimension, dimension)
    lps = np.eye(4)
    lps[:3, :3] = direction[:3, :3] * np.array(image.GetSpacing())[:3]
    lps[:3, 3] = np.array(image.GetOrigin())[:3]
    return LPS_FROM_RAS @ lps
