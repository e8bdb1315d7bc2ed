"""Photographs and other flat pictures (.png, .jpg, .tif, .bmp), through Pillow and tifffile."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from medseg.boundary import parsing, refuse_not_finite
from medseg.refusal import Refusal
from medseg.settings import Settings
from medseg.volume import Source, Volume

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif")
AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
"""A picture has no place in a patient. Its columns (i) are taken to run towards the left and its rows (j) towards the
back, as in an axial slice that is shown in the usual way, so that viewers show it upright. Pixels have size 1."""
ORIENTATIONS = {
    2: (slice(None), slice(None, None, -1), False),
    3: (slice(None, None, -1), slice(None, None, -1), False),
    4: (slice(None, None, -1), slice(None), False),
    5: (slice(None), slice(None), True),
    6: (slice(None), slice(None, None, -1), True),
    7: (slice(None, None, -1), slice(None, None, -1), True),
    8: (slice(None, None, -1), slice(None), True),
}
"""EXIF orientation -> how to take rows and columns, after transposing if the last entry says so."""


class Options(Settings):
    """How to take palettes."""

    palette: Literal["colours", "numbers"] = "colours"
    """What the pixels of a picture with a palette mean: its colours (3 channels), or their numbers (label maps)."""


def matches(path: Path) -> bool:
    """By suffix."""
    return path.is_file() and path.suffix.lower() in SUFFIXES


def read(path: Path, options: Options) -> Volume:
    """Read as (C, width, height, 1) in pixels: one grey channel or red, green, blue; 8 or 16 bits as stored.

    Transparency is dropped, EXIF orientation applied; a picture of one bit has values 0 and 1.

    Raises:
        Refusal: damaged, of several pages, or of a kind that would lose bits.
    """
    array = _tiff(path) if path.suffix.lower() in (".tif", ".tiff") else _pillow(path, options)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.dtype.kind not in "iuf" or array.shape[2] > 4:
        raise Refusal(
            path,
            found=f"an array of shape {array.shape} and type {array.dtype}",
            needed="one page of (rows, columns) with 1 to 4 channels",
            remedy="split the pages, or store a volume as NIfTI",
        )
    if array.dtype == np.float16:
        array = array.astype(np.float32)  # no format for volumes holds half precision
    colours = array[:, :, : {2: 1, 4: 3}.get(array.shape[2], array.shape[2])]
    volume = colours.transpose(2, 1, 0)[..., None]
    refuse_not_finite(volume, path)
    channels = ("red", "green", "blue") if len(volume) == 3 else ()
    return Volume(volume, AFFINE, Source(path, reader="picture"), unit="px", channels=channels)


def _pillow(path: Path, options: Options) -> np.ndarray:
    """(rows, columns[, channels])."""
    from PIL import Image

    with path.open("rb") as handle:
        head = handle.read(26)
    if head[:4] == b"\x89PNG" and len(head) == 26 and head[24] == 16 and head[25] != 0:
        raise Refusal(
            path,
            found="a colour PNG of 16 bits a channel",
            needed="8-bit colours or a 16-bit grey picture (the decoder would drop half of the bits)",
            remedy="store it as TIFF",
        )
    with parsing(path, needed="a complete picture", remedy="copy or convert the file again"), Image.open(path) as file:
        frames = getattr(file, "n_frames", 1)
        mode = file.mode
        orientation = int(file.getexif().get(0x0112, 1))
        coloured = mode in ("PA", "CMYK", "YCbCr", "LAB", "HSV") or (mode == "P" and options.palette == "colours")
        array = np.asarray(file.convert("RGB") if coloured else file)
    if frames != 1:
        raise Refusal(path, found=f"{frames} frames", needed="one picture", remedy="split the file")
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if mode.startswith("I") and array.dtype.kind == "i":
        array = array.astype(np.uint16)  # Pillow widens 16-bit PNG to 32-bit integers
    return _upright(array, orientation)


def _tiff(path: Path) -> np.ndarray:
    """(rows, columns[, channels]); tifffile, because Pillow reads no 16-bit colours."""
    import tifffile

    with (
        parsing(path, needed="a complete TIFF", remedy="copy or convert the file again"),
        tifffile.TiffFile(path) as file,
    ):
        pages = len(file.pages)
        page: Any = file.pages[0]
        array = page.asarray()
        tag = page.tags.get("Orientation")
        separate = page.planarconfig == 2 and array.ndim == 3
        inverted = page.photometric == 0
    if pages > 1:
        raise Refusal(path, found=f"{pages} pages", needed="one picture", remedy="split the file, or store it as NIfTI")
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if separate:
        array = np.moveaxis(array, 0, -1)
    if inverted and array.dtype.kind == "u":
        array = (1 if array.max(initial=0) <= 1 else np.iinfo(array.dtype).max) - array
    return _upright(array, int(tag.value) if tag is not None else 1)


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    if orientation not in ORIENTATIONS:
        return array
    rows, columns, transpose = ORIENTATIONS[orientation]
    if transpose:
        array = array.swapaxes(0, 1)
    return array[rows, columns]
