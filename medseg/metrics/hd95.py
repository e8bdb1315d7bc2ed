"""95 % Hausdorff distance: the larger of the two 95th percentiles of the distances from one surface to the other.

Unit: mm. The surface is defined in `medseg.surface`; percentiles are interpolated linearly; the larger of the two
directions is taken, as MONAI does, and not the percentile of both directions pooled, as MedPy and BraTS do.
Empty masks: nan (undefined) when both are empty, infinite when one is.
Source: Maier-Hein et al. 2024, "Metrics reloaded", Nature Methods 21, doi:10.1038/s41592-023-02151-z.
"""

from __future__ import annotations

import numpy as np

from medseg.settings import Settings
from medseg.surface import distances_mm

UNIT = "mm"
HIGHER_IS_BETTER = False
NEEDS_MM = True


class Options(Settings):
    pass


def compute(truth: np.ndarray, predicted: np.ndarray, *, spacing_mm: np.ndarray, options: Options) -> float:
    present = truth.any(), predicted.any()
    if not all(present):
        return float("inf") if any(present) else float("nan")
    return max(float(np.percentile(directed, 95)) for directed in distances_mm(truth, predicted, spacing_mm))
