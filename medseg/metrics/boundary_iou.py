"""Boundary IoU: IoU of the two masks' rims, so that large structures do not score high by their inside alone.

A mask's rim is all of it within a distance of its surface voxels (see `medseg.surface`), from centre to centre, in mm;
of a photograph, in pixels. Where the whole mask is rim, the number is the IoU. Cheng et al. measure 2 % of the image's
diagonal instead, by a distance that counts diagonal steps as one; then the same structure scores otherwise in a larger
image.
Unit: none, 0 to 1. Empty masks: nan (undefined) when both are empty, 0 when one is.
Source: Cheng et al. 2021, "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR,
arXiv:2103.16562.
"""

from __future__ import annotations

import math
from typing import Annotated

import edt
import numpy as np
from pydantic import Field

from medseg.metrics import Number
from medseg.pair import Pair
from medseg.settings import Settings
from medseg.surface import surface

NUMBERS = {"boundary_iou": Number("", "higher")}
NEEDS_MM = False
ROUNDING = 1e-6
"""Relative: distances are float32, so that one which equals the width may come out a little above it."""


class Options(Settings):
    width_mm: Annotated[float, Field(ge=0)] = 2.0
    """How far the rim reaches inwards from the surface voxels; 0: these alone. Of a photograph, in pixels."""


def compute(pair: Pair, options: Options) -> dict[str, float]:
    if pair.empty != "none":
        return {"boundary_iou": 0.0 if pair.empty == "one" else math.nan}
    ours, theirs = (_rim(mask, pair, options.width_mm) for mask in (pair.truth, pair.predicted))
    return {"boundary_iou": float(np.count_nonzero(ours & theirs) / np.count_nonzero(ours | theirs))}


def _rim(mask: np.ndarray, pair: Pair, width: float) -> np.ndarray:
    spacing = tuple(float(size) for size in pair.spacing_mm)
    away = edt.edt(~surface(mask, pair.flat), anisotropy=spacing, black_border=False)
    return mask & (away <= width * (1 + ROUNDING))
