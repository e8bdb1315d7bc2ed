"""Fill the holes of each label: background that the label encloses on all sides.

A hole is background from which no path over voxel faces leads out of the label; in an image of one slice, out of its
outline. Other labels inside it, such as a tumour in an organ, stay as they are.
"""

from __future__ import annotations

from functools import partial

import cc3d
import numpy as np

from medseg.labels import LabelTable
from medseg.postprocess import edit_each
from medseg.settings import Settings

NEEDS_MM = False


class Options(Settings):
    labels: tuple[str, ...] = ()
    """Labels to fill; empty for all. They are filled in the order of the names."""


def apply(target: np.ndarray, *, table: LabelTable, spacing_mm: np.ndarray, options: Options) -> np.ndarray:
    """Same shape and type as `target`."""
    margin = tuple(0 if size == 1 else 1 for size in target.shape[1:])
    return edit_each(target, table, options.labels, partial(_filled, margin=margin))


def _filled(mask: np.ndarray, margin: tuple[int, ...]) -> np.ndarray:
    """Everything that is not connected to a margin of background laid around the mask."""
    if not any(margin):
        return mask
    padded = np.pad(mask, [(width, width) for width in margin])
    outside = cc3d.connected_components(~padded, connectivity=6)
    inner = tuple(slice(width, width + size) for width, size in zip(margin, mask.shape, strict=True))
    return (outside != outside[0, 0, 0])[inner]
