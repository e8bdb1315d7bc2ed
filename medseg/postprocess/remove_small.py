"""Remove connected components that are smaller than a volume; they become background."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from medseg.labels import LabelTable
from medseg.postprocess import components, edit_each
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
    """Same shape and type as `target`."""
    voxels = options.min_ml * 1000 / float(np.prod(spacing_mm)) * (1 - ROUNDING)
    return edit_each(target, table, options.labels, partial(_large, voxels=voxels, connectivity=options.connectivity))


def _large(mask: np.ndarray, voxels: float, connectivity: int) -> np.ndarray:
    parts = components(mask, connectivity)
    keep = np.bincount(parts.ravel()) >= voxels
    keep[0] = False
    return keep[parts]
