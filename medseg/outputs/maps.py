"""Probabilities of three labels in a picture, as a colour picture (.png): red, green and blue, 0 to 255 for 0 to 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medseg.atomic import replacing
from medseg.prediction import Prediction
from medseg.refusal import Refusal
from medseg.settings import Settings

SUFFIX = ".png"
WRITES = "maps"
READ_BACK_BY = "picture"
COLOURS = 3


class Options(Settings):
    """Nothing to choose."""


def keeps(options: Options) -> tuple[str, ...]:
    """Which maps of the prediction must be kept for this output."""
    return ("probabilities",)


def write(prediction: Prediction, path: Path, options: Options) -> None:
    """Write the table's labels in its order: of the retina's vessels red is artery, green vein, blue all vessels.

    Raises:
        Refusal: other than three labels, or a volume.
    """
    maps = prediction.probabilities
    if maps is None or len(maps) != COLOURS or maps.shape[3] != 1:
        raise Refusal(
            path,
            found=f"{len(prediction.table.labels)} labels on a grid of {prediction.target.shape}",
            needed="a picture with three labels, one for each colour",
            remedy="choose the nifti or nrrd output",
        )
    save(maps, path)


def save(maps: np.ndarray, path: Path) -> None:
    """Write (3, I, J, 1) from 0 to 1; i counts columns and j rows."""
    from PIL import Image

    pixels = np.floor(maps[..., 0].transpose(2, 1, 0) * 255 + 0.5).astype(np.uint8)
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")
