"""Fill the holes of each label: background that the label encloses on all sides.

A hole is background from which no path over voxel faces leads out of the label; in an image of one slice, out of its
outline. Other labels inside it, such as a tumour in an organ, stay as they are.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array, csgraph

from medseg.labels import LabelTable
from medseg.pieces import Pieces
from medseg.postprocess import channels
from medseg.settings import Settings

NEEDS_MM = False


class Options(Settings):
    labels: tuple[str, ...] = ()
    """Labels to fill; empty for all. They are filled in the order of the names."""


def apply(target: np.ndarray, *, table: LabelTable, spacing_mm: np.ndarray, options: Options) -> np.ndarray:
    """`target`, filled in place. What two labels enclose goes to the one that is named first."""
    for channel, values in channels(target, table, options.labels):
        if max(channel.shape) > 1:
            found = Pieces(channel, None, connectivity=6)
            owner = _owners(found, values)
            found.paint(owner, owner > 0)
    return target


def _owners(found: Pieces, values: list[int]) -> np.ndarray:
    """For each piece of background the first of the values that encloses it, else 0."""
    owner = np.zeros_like(found.values)
    free = _free(found)
    shut = ~free & (found.values == 0)
    shut[0] = False
    if not shut.any():
        return owner
    pairs = found.pairs[~free[found.pairs].all(axis=1)]
    place = np.where(free, 0, np.cumsum(~free))  # all that is free is one place, the outside
    ends, kinds, count = place[pairs], found.values[pairs], int(place.max()) + 1
    for value in values:
        passable = (kinds != value).all(axis=1)
        graph = coo_array((np.ones(passable.sum(), bool), tuple(ends[passable].T)), (count, count))
        reached = csgraph.connected_components(graph, directed=False)[1]
        owner[shut & (owner == 0) & (reached[place] != reached[0])] = value
    return owner


def _free(found: Pieces) -> np.ndarray:
    """Pieces from which there is a way out whichever single label is in the way: those at the outside, and those beside
    free background or beside free pieces of two labels. What is left is little, so that labels can be tried in turn."""
    free = found.open.copy()
    free[0] = True
    both = np.concatenate([found.pairs, found.pairs[:, ::-1]])
    while len(both):
        way, inner = both[free[both[:, 0]] & ~free[both[:, 1]]].T
        lowest, highest = np.full(len(free), np.iinfo(np.int64).max), np.zeros(len(free), np.int64)
        np.minimum.at(lowest, inner, found.values[way])
        np.maximum.at(highest, inner, found.values[way])
        fresh = ~free & ((lowest == 0) | (lowest < highest))
        if not fresh.any():
            break
        free |= fresh
    return free
