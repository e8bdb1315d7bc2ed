"""Betti-number errors: how many pieces, tunnels and cavities the prediction has too many or too few.

* `betti0_error`: of connected pieces; `betti1_error`: of tunnels (handles; in a flat image, holes); `betti2_error`: of
  cavities. Each is the absolute difference of the two masks' numbers: that they agree in number does not mean that they
  agree in place.
Voxels are connected by all 26 neighbours and what lies between them by the 6 faces (8 and 4 in a flat image), which is
the only consistent way. Tunnels follow from the Euler characteristic: pieces - tunnels + cavities. Slow for large
structures: a second or two for a box of 10 million voxels.
Unit: counts, best at 0. Empty masks: have no pieces, tunnels or cavities, so it is always defined.
Source: Hu et al. 2019, "Topology-Preserving Deep Image Segmentation", NeurIPS, arXiv:1906.05404 (who average over
patches); Kong and Rosenfeld 1989, "Digital topology", on connectivity.
"""

from __future__ import annotations

import cc3d
import numpy as np

from medseg.metrics import Number
from medseg.pair import Pair
from medseg.settings import Settings

NUMBERS = {
    f"betti{dimension}_error": Number(what, "lower") for dimension, what in enumerate(("pieces", "tunnels", "cavities"))
}
NEEDS_MM = False


class Options(Settings):
    pass


def compute(pair: Pair, options: Options) -> dict[str, float]:
    numbers = (
        _betti(mask, parts.total) for mask, parts in zip((pair.truth, pair.predicted), pair.components, strict=True)
    )
    errors = np.abs(np.subtract(*numbers))
    return {name: float(error) for name, error in zip(NUMBERS, errors, strict=True)}


def _betti(mask: np.ndarray, pieces: int) -> np.ndarray:
    """Pieces, tunnels and cavities. A flat mask is a plate one voxel thick, whose holes are tunnels."""
    from skimage.measure import euler_number

    padded = np.pad(mask, 1)
    outside = cc3d.connected_components(~padded, connectivity=6, return_N=True)[1]
    cavities = int(outside) - 1
    return np.array([pieces, pieces + cavities - int(euler_number(padded, connectivity=3)), cavities])
