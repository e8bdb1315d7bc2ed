"""Clean-up of predicted labels: one file a step with `Options` and `apply`; here is what they share."""

from __future__ import annotations

from collections.abc import Callable

import cc3d
import numpy as np
from scipy.ndimage import find_objects

from medseg.labels import LabelTable
from medseg.plugins import nearest
from medseg.refusal import Refusal


def edit_each(
    target: np.ndarray, table: LabelTable, labels: tuple[str, ...], change: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """A copy of a network target (see `LabelTable.encode`) in which `change` has been applied to each label by itself.

    `change` gets the label's boolean mask, cut to its bounding box, and returns one of the same shape. What it takes
    away becomes background; what it adds is painted over background only, so that no other label loses a voxel.

    Args:
        labels: names; empty for all.

    Raises:
        Refusal: a name that is not in the table.
    """
    edited = target.copy()
    # Found once: a change stays inside its label's box, so no other label's box can grow by it.
    boxes = [find_objects(channel) for channel in target]
    for name in labels or table.names:
        if name not in table.names:
            raise Refusal(
                f"postprocess label {name}",
                found=f"'{name}'",
                needed="the name of a label of this task",
                remedy=nearest(name, table.names),
            )
        position = table.names.index(name)
        channel, value = (0, position + 1) if table.exclusive else (position, 1)
        box = boxes[channel][value - 1] if value <= len(boxes[channel]) else None
        if box is not None:
            _edit(edited[channel][box], value, change)
    return edited


def _edit(values: np.ndarray, value: int, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change the mask `values == value` in place."""
    before = values == value
    after = change(before)
    values[before & ~after] = 0
    values[after & (values == 0)] = value


def components(mask: np.ndarray, connectivity: int) -> np.ndarray:
    """Connected components of a boolean (I, J, K), numbered from 1; 0 outside.

    They are found within a margin of background: cc3d 4.1 stops with an error at a line of voxels with gaps, for which
    it expects fewer components than there are.
    """
    return cc3d.connected_components(np.pad(mask, 1), connectivity=connectivity)[1:-1, 1:-1, 1:-1]
