"""Files whose bytes depend on nothing but what is in them."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """gzip would store the time and the file's name; both are left out so that bytes do not depend on them."""
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=9, fileobj=raw, mtime=0) as packed:
        packed.write(image.to_bytes())


def write_picture(path: Path, array: np.ndarray) -> None:
    """PNG of (rows, columns[, 3]) uint8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(array)).save(path, optimize=True)


def write_text(path: Path, text: str) -> None:
    """UTF-8, lines that end in a line feed on every system."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def scaling(*spacing_mm: float) -> np.ndarray:
    """Affine of a grid along the patient's axes (RAS), its middle near the origin left to the reader."""
    return np.diag([*spacing_mm, 1.0])


def stepped(array: np.ndarray, step: float = 4.0) -> np.ndarray:
    """Rounded to multiples of a step well below the noise, which makes files a third smaller."""
    return step * np.rint(array / step)


def to_bytes(array: np.ndarray) -> np.ndarray:
    """Floats of 0 to 255 as uint8, rounded and cut off."""
    return np.clip(np.rint(array), 0, 255).astype(np.uint8)
