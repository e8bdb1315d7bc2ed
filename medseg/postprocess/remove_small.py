"""Remove connected components that are smaller than a volume; they become background."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from medseg.labels import LabelTable
from medseg.pieces import Pieces
from medseg.postprocess import channels
from medseg.settings import Settings

ROUNDING = 1e-9
"""Relative: a component of exactly the volume stays, whatever the product of the spacings rounds to."""

NEEDS_MM = True


class Options(Settings):
    min_ml: Annotated[float, Field(ge=0)] = 0.1
    """Millilitres (cm3); a component of this volume or more stays."""
    labels: tuple[str, ...] = ()
    """Labels to clean; empty for all."""
    connectivity: Literal[6, 18, 26] = 26
    """Neighbours of a voxel: by face, by face and edge, or also by corner."""


def apply(target: np.ndarray, *, table: LabelTable, spacing_mm: np.ndarray, options: Options) -> np.ndarray:
    """`target`, cleaned in place."""
    voxels = options.min_ml * 1000 / float(np.prod(spacing_mm)) * (1 - ROUNDING)
    for channel, values in channels(target, table, options.labels):
        found = Pieces(channel, values, connectivity=options.connectivity)
        found.paint(np.zeros_like(found.values), found.sizes < voxels)
    return target
