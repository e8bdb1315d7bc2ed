"""Tiny images and label maps for the adapters' examples: of the right form, and made by code."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

SIZE = (10, 12)
"""Rows and columns of an example's picture."""
COLOURS = {1: (255, 0, 0), 2: (0, 255, 0), 4: (0, 0, 255), 7: (255, 255, 255)}
"""By number: artery, crossing, vein, not known which; as vessel maps in colour have them."""


def write_nifti(
    path: Path, seed: int, *, channels: int = 1, label: bool = False, numbers: Iterable[int] = (1, 2)
) -> None:
    """A valid NIfTI of (6, 5, 4) voxels; a label map holds 0 and a bar of each of `numbers`."""
    import nibabel as nib
    import numpy as np

    rng = np.random.default_rng(seed)
    shape = (6, 5, 4) if channels == 1 else (6, 5, 4, channels)
    array = rng.normal(100, 20, shape).astype(np.float32)
    if label:
        array = np.zeros(shape, np.uint8)
        for place, number in enumerate(numbers):
            array[1 + place : 2 + place, 1:4, 1:3] = number
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([1.5, 1.5, 3.0, 1.0])), path)


def write_photograph(path: Path, seed: int) -> None:
    """A colour picture of noise; the suffix says of which kind."""
    import numpy as np

    _save(path, np.random.default_rng(seed).integers(60, 200, (*SIZE, 3), dtype=np.uint8))


def write_mask(path: Path, *, margin: int = 2) -> None:
    """A grey picture, 255 but for a margin of 0."""
    import numpy as np

    array = np.zeros(SIZE, np.uint8)
    array[margin:-margin, margin:-margin] = 255
    _save(path, array)


def write_colours(path: Path, colours: Iterable[tuple[int, int, int]] = tuple(COLOURS.values())) -> None:
    """A label map in colour: black, and a bar of each of `colours`."""
    import numpy as np

    array = np.zeros((*SIZE, 3), np.uint8)
    for place, colour in enumerate(colours):
        array[2:-2, 2 + place] = colour
    _save(path, array)


def write_table(path: Path, *lines: str) -> None:
    """A text file of these lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _save(path: Path, array: object) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)  # type: ignore[arg-type]
