"""Average symmetric surface distance: the mean distance from the places of both surfaces to the other one.

Unit: mm. Surfaces are defined in `medseg.surface`.
* `assd`: over the places of both surfaces together, so that the larger surface weighs more (as in MONAI, symmetric).
* `masd`: the mean of the two directions' means, so that both weigh the same (as MedPy's `assd` before version 0.5).
Empty masks: nan (undefined) when both are empty, infinite when one is.
Source: Maier-Hein et al. 2024, "Metrics reloaded", Nature Methods 21, doi:10.1038/s41592-023-02151-z.
"""

from __future__ import annotations

import math
from typing import Literal

from medseg.metrics import Number
from medseg.pair import Pair
from medseg.settings import Settings

NUMBERS = {"assd": Number("mm", "lower"), "masd": Number("mm", "lower")}
NEEDS_MM = True


class Options(Settings):
    surface: Literal["voxels", "elements"] = "voxels"
    """What surfaces are made of: their voxels, each of which counts once (as in MONAI), or the triangles between voxels
    by their area (as in surface-distance)."""


def compute(pair: Pair, options: Options) -> dict[str, float]:
    if pair.empty != "none":
        return dict.fromkeys(NUMBERS, math.inf if pair.empty == "one" else math.nan)
    found = pair.distances(options.surface)
    return {"assd": found.mean(), "masd": sum(found.means()) / 2}
