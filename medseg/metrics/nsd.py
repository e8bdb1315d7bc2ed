"""Normalised surface distance (surface Dice): share of both surfaces that lies within a tolerance of the other.

Unit: none, 0 to 1. Surfaces are defined in `medseg.surface`: of voxels as in MONAI, of elements as in DeepMind's
surface-distance. A distance equal to the tolerance is within it.
Empty masks: nan (undefined) when both are empty, 0 when one is.
Source: Nikolov et al. 2021, "Clinically Applicable Segmentation of Head and Neck Anatomy for Radiotherapy",
J Med Internet Res 23, arXiv:1809.04430.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from medseg.metrics import Number
from medseg.pair import Pair
from medseg.settings import Settings

NUMBERS = {"nsd": Number("", "higher")}
NEEDS_MM = True
ROUNDING = 1e-9
"""Relative: a distance that equals the tolerance on paper may come out a little above it."""
Tolerance = Annotated[float, Field(ge=0)]


class Options(Settings):
    tolerance_mm: Tolerance = 2.0
    """Distance that is accepted; of the order of the variation between human readers."""
    tolerances_mm: Mapping[str, Tolerance] = {}
    """For labels that have another one, by name."""
    surface: Literal["voxels", "elements"] = "voxels"
    """What surfaces are made of: their voxels, each of which counts once (as in MONAI), or the triangles between voxels
    by their area (as in surface-distance)."""


def compute(pair: Pair, options: Options) -> dict[str, float]:
    if pair.empty != "none":
        return {"nsd": 0.0 if pair.empty == "one" else math.nan}
    tolerance_mm = options.tolerances_mm.get(pair.label, options.tolerance_mm)
    return {"nsd": pair.distances(options.surface).within(tolerance_mm * (1 + ROUNDING))}
