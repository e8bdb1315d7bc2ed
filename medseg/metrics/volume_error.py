"""Volume error: predicted minus true volume in millilitres.

Unit: ml; positive when too much was segmented, best at 0. Empty masks have a volume of 0 ml, so it is always defined.
It says nothing about place: two masks of equal size that do not touch have an error of 0.
"""

from __future__ import annotations

from medseg.metrics import Number
from medseg.pair import Pair
from medseg.settings import Settings

NUMBERS = {"volume_error": Number("ml", "nearer zero")}
NEEDS_MM = True


class Options(Settings):
    pass


def compute(pair: Pair, options: Options) -> dict[str, float]:
    return {"volume_error": (pair.voxels.predicted - pair.voxels.truth) * pair.voxel_ml}
