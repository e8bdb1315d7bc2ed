"""Connected parts of labels, with a few voxels of each: what small lesions are drawn by, which have few voxels.

They are stored as rows (label, component, size, i, j, k): position in the label table, number of the component within
the label, its size in voxels, and one of its voxels. Rows are sorted by label and component.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np

from medseg.labels import LabelTable

VOXELS = 64
"""Most that are kept of a component: a patch is centred on one of them."""
MOST = 1000
"""Components of a label that are kept; where noise makes more, some of them."""
CONNECTIVITY = 26


@dataclass(frozen=True, eq=False)
class Components:
    """Components of one label.

    Attributes:
        voxels: (n, 3), component after component.
        starts: (c + 1,) where each component begins, and n.
        sizes: (c,) voxels that each has in the case, of which few may be kept.
    """

    voxels: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray

    def draw(self, generator: np.random.Generator) -> np.ndarray:
        """A voxel (3,) of a component; every component is as likely as any other."""
        component = int(generator.integers(len(self.sizes)))
        return self.voxels[generator.integers(self.starts[component], self.starts[component + 1])]


def find(target: np.ndarray | None, table: LabelTable) -> np.ndarray:
    """Rows (n, 6), int32, of the components of each label in a target (C, i, j, k), by all 26 neighbours."""
    rows = [np.empty((0, 6), np.int32)]
    if target is not None:
        for position, box in table.boxes(target).items():
            rows.append(_of_label(table.mask(target[:, *box], position), position, [side.start for side in box]))
    return np.concatenate(rows)


def grouped(rows: np.ndarray) -> dict[int, Components]:
    """Rows that `find` gave, by label."""
    found = {}
    first = np.flatnonzero(np.diff(rows[:, 0], prepend=-1))
    for own in np.split(rows, first[1:]) if len(rows) else ():
        starts = np.flatnonzero(np.diff(own[:, 1], prepend=-1))
        found[int(own[0, 0])] = Components(own[:, 3:], np.append(starts, len(own)), own[starts, 2])
    return found


def _of_label(mask: np.ndarray, position: int, first: Sequence[int]) -> np.ndarray:
    """Rows of one label, (i, j, k) booleans in the smallest box around it, which begins at the voxel `first`."""
    # a rim, without which cc3d reserves too little for lines of voxels (1 0 1) and fails; numbers go by memory order
    padded = np.ascontiguousarray(np.pad(mask, 1))
    labels, count = cc3d.connected_components(padded, connectivity=CONNECTIVITY, return_N=True)
    boxes = cc3d.statistics(labels)["bounding_boxes"]
    rows = [np.empty((0, 6), np.int32)]
    for number, label in enumerate(_some(count, MOST, [position]) + 1):
        own = labels[boxes[label]] == label
        places = np.flatnonzero(own)
        voxels = np.stack(np.unravel_index(places[_some(len(places), VOXELS, [position, number])], own.shape), axis=1)
        voxels += [start + side.start - 1 for start, side in zip(first, boxes[label], strict=True)]
        about = np.broadcast_to((position, number, len(places)), voxels.shape)
        rows.append(np.concatenate([about, voxels], axis=1).astype(np.int32))
    return np.concatenate(rows)


def _some(count: int, most: int, seed: list[int]) -> np.ndarray:
    """Up to `most` of 0 to `count` - 1, ascending; the same in every run. Even distances would beat against rows."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))
