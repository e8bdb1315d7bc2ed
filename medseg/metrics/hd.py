"""Hausdorff distance: the largest distance from a place on one surface to the other surface.

Unit: mm. Surfaces are defined in `medseg.surface`. A single stray voxel decides it; `hd95` is the robust one.
Empty masks: nan (undefined) when both are empty, infinite when one is.
Source: Huttenlocher et al. 1993, "Comparing images using the Hausdorff distance", IEEE PAMI 15.
"""

from __future__ import annotations

import math
from typing import Literal

from medseg.metrics import Number
from medseg.pair import Pair
from medseg.settings import Settings

NUMBERS = {"hd": Number("mm", "lower")}
NEEDS_MM = True


class Options(Settings):
    surface: Literal["voxels", "elements"] = "voxels"
    """What surfaces are made of: their voxels, each of which counts once (as in MONAI), or the triangles between voxels
    by their area (as in surface-distance)."""


def compute(pair: Pair, options: Options) -> dict[str, float]:
    if pair.empty != "none":
        return {"hd": math.inf if pair.empty == "one" else math.nan}
    found = pair.distances(options.surface)
    return {"hd": float(max(found.there[-1], found.back[-1]))}
