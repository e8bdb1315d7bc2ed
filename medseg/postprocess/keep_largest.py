"""Keep the largest connected component of each label; the others become background."""

from __future__ import annotations

from typing import Literal

import numpy as np

from medseg.labels import LabelTable
from medseg.pieces import Pieces
from medseg.postprocess import channels
from medseg.settings import Settings

NEEDS_MM = False


class Options(Settings):
    labels: tuple[str, ...] = ()
    """Labels to clean; empty for all."""
    connectivity: Literal[6, 18, 26] = 26
    """Neighbours of a voxel: by face, by face and edge, or also by corner."""


def apply(target: np.ndarray, *, table: LabelTable, spacing_mm: np.ndarray, options: Options) -> np.ndarray:
    """`target`, cleaned in place. Of components of equal size the one stays that begins first, by k, then j, then i."""
    for channel, values in channels(target, table, options.labels):
        found = Pieces(channel, values, connectivity=options.connectivity)
        goes = np.ones(len(found.sizes), bool)
        largest_first = np.argsort(-found.sizes[1:], kind="stable") + 1
        goes[largest_first[np.unique(found.values[largest_first], return_index=True)[1]]] = False
        found.paint(np.zeros_like(found.values), goes)
    return target
