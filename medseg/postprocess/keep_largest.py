"""Keep the largest connected component of each label; the others become background."""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np

from medseg.labels import LabelTable
from medseg.postprocess import components, edit_each
from medseg.settings import Settings

NEEDS_MM = False


class Options(Settings):
    labels: tuple[str, ...] = ()
    """Labels to clean; empty for all."""
    connectivity: Literal[6, 18, 26] = 26
    """Neighbours of a voxel: by face, by face and edge, or also by corner."""


def apply(target: np.ndarray, *, table: LabelTable, spacing_mm: np.ndarray, options: Options) -> np.ndarray:
    """Same shape and type as `target`. Of components of equal size, one is kept."""
    return edit_each(target, table, options.labels, partial(_largest, connectivity=options.connectivity))


def _largest(mask: np.ndarray, connectivity: int) -> np.ndarray:
    parts = components(mask, connectivity)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return parts == sizes.argmax()
