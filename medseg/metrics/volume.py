"""Volume: of the truth and of the prediction, and predicted minus true, in ml and in per cent of the truth.

Unit: ml and %; differences are positive when too much was segmented, best at 0. It says nothing about place: two masks
of equal size that do not touch have no difference.
Empty masks: have a volume of 0 ml, so that volumes and their difference are always defined; the difference in per cent
is nan (undefined) when the truth is empty, and -100 when only the prediction is.
Source: Heimann et al. 2009, "Comparison and Evaluation of Methods for Liver Segmentation From CT Datasets", IEEE TMI
28, doi:10.1109/TMI.2009.2013851 (relative volume difference, with the sign).
"""

from __future__ import annotations

import math

from medseg.metrics import Number
from medseg.pair import Pair
from medseg.settings import Settings

NUMBERS = {
    "volume_truth_ml": Number("ml", "neither"),
    "volume_predicted_ml": Number("ml", "neither"),
    "volume_difference_ml": Number("ml", "nearer zero"),
    "volume_difference_percent": Number("%", "nearer zero"),
}
NEEDS_MM = True


class Options(Settings):
    pass


def compute(pair: Pair, options: Options) -> dict[str, float]:
    truth, predicted, _ = pair.voxels
    difference = predicted - truth
    return {
        "volume_truth_ml": truth * pair.voxel_ml,
        "volume_predicted_ml": predicted * pair.voxel_ml,
        "volume_difference_ml": difference * pair.voxel_ml,
        "volume_difference_percent": 100 * difference / truth if truth else math.nan,
    }
