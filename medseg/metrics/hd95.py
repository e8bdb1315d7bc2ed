"""95 % Hausdorff distance: the larger of the two 95th percentiles of the distances from one surface to the other.

Unit: mm. Surfaces are defined in `medseg.surface`. Percentiles of voxels are interpolated linearly, as MONAI does; that
of elements is the first distance within which 95 % of the area lies, as in surface-distance. The larger of the two
directions is taken and not, unless asked for, the percentile of both directions pooled, as in MedPy.
Empty masks: nan (undefined) when both are empty, infinite when one is.
Source: Maier-Hein et al. 2024, "Metrics reloaded", Nature Methods 21, doi:10.1038/s41592-023-02151-z.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from medseg.metrics import Number
from medseg.pair import Pair
from medseg.settings import Settings
from medseg.surface import reach

NUMBERS = {"hd95": Number("mm", "lower")}
NEEDS_MM = True
SHARE = 0.95


class Options(Settings):
    surface: Literal["voxels", "elements"] = "voxels"
    """What surfaces are made of: their voxels, each of which counts once (as in MONAI), or the triangles between voxels
    by their area (as in surface-distance)."""
    directions: Literal["larger", "pooled"] = "larger"
    """The larger of the two percentiles, or the percentile of the distances in both directions together."""


def compute(pair: Pair, options: Options) -> dict[str, float]:
    if pair.empty != "none":
        return {"hd95": math.inf if pair.empty == "one" else math.nan}
    found = pair.distances(options.surface)
    both = [(found.there, found.weights_there), (found.back, found.weights_back)]
    if options.directions == "pooled":
        distances, weights = (np.concatenate(each) for each in zip(*both, strict=True))
        order = np.argsort(distances, kind="stable")
        both = [(distances[order], weights[order])]
    if options.surface == "voxels":
        return {"hd95": max(float(np.percentile(distances, 100 * SHARE)) for distances, _ in both)}
    return {"hd95": max(reach(*each, SHARE) for each in both)}
