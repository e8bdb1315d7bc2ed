"""Connected pieces of label maps of any length: found slab by slab along k, and joined where slabs share a plane."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
from scipy.sparse import coo_array, csgraph

from medseg import scratch

SLAB = 2**22
"""Voxels that are worked on at once, or one plane and the next: some 50 MB."""


@dataclass(frozen=True)
class _Slab:
    """Planes, of which the last is the next slab's first, and where the numbers of their parts begin."""

    planes: slice
    own: int
    base: int
    count: int


class Pieces:
    """Connected voxels of equal value, which lie on any number of slabs.

    Pieces are numbered from 1 in the order of their first voxels, by k, then j, then i; 0 is what was not looked at.

    Attributes:
        sizes: (n + 1,) voxels of each.
        values: (n + 1,) what is in them.
        open: (n + 1,) whether it lies at the outside of the box around everything but 0, along an axis longer than 1.
        pairs: (m, 2) pieces that share a voxel's face; only if everything is looked at.
    """

    def __init__(self, values: np.ndarray, wanted: Sequence[int] | None, *, connectivity: int):
        """
        Args:
            values: unsigned (I, J, K), in memory or on disk; what `paint` changes.
            wanted: values to look at; None: all of them, 0 too.
            connectivity: 6, 18 or 26 neighbours of a voxel.
        """
        self._values = values[_box(values)]
        self._long = [size > 1 for size in values.shape]
        self._wanted, self._connectivity = wanted, connectivity
        self._slabs: list[_Slab] = []
        self._latest: tuple[_Slab, np.ndarray] | None = None
        self._find()

    def paint(self, values: np.ndarray, changed: np.ndarray) -> None:
        """Give pieces another value, in place: `values[n]` to each piece n > 0 of which `changed[n]` says so."""
        for slab in self._slabs:
            pieces = self._piece[slab.base : slab.base + slab.count + 1]
            goes = changed[pieces]
            goes[0] = False  # what was not looked at
            if not goes.any():
                continue
            labels = self._latest[1] if self._latest and self._latest[0] is slab else self._labels(slab.planes)[0]
            labels = labels[..., : slab.own]  # the plane that is shared must stay until the next slab has seen it
            _, lengths, ids = _runs(labels)
            planes = self._values[..., slab.planes][..., : slab.own].T
            hit = np.repeat(goes[ids], lengths).reshape(planes.shape)
            new = np.repeat(values.astype(planes.dtype)[pieces][ids], lengths).reshape(planes.shape)
            np.copyto(planes, new, where=hit)
            scratch.let_go(self._values)

    def _find(self) -> None:
        sizes: list[np.ndarray] = [np.zeros(1)]
        values, firsts, outside = [np.zeros(1, np.int64)], [np.full(1, -1)], [np.zeros(1, bool)]
        joints, pairs = [np.zeros((0, 2), np.int64)], [np.zeros((0, 2), np.int64)]
        base, below = 0, np.zeros(0)
        for planes, own in self._planes():
            labels, coded, count = self._labels(planes)
            slab = _Slab(planes, own, base, count)
            self._slabs.append(slab)
            self._latest = slab, labels
            starts, lengths, ids = _runs(labels)
            area = labels[..., 0].size
            first = np.zeros(count + 1, np.int64)
            first[ids[::-1]] = starts[::-1]  # of several that are assigned, the last one stays
            firsts.append(first[1:] + planes.start * area)
            values.append(coded.T.reshape(-1)[first[1:]].astype(np.int64) - (self._wanted is None))
            lengths = np.minimum(lengths, np.maximum(own * area - starts, 0))
            sizes.append(np.bincount(ids, lengths, count + 1)[1:])
            outside.append(self._outside(labels, planes, count)[1:])
            if len(below):
                joints.append(_distinct(below, _numbers(labels[..., 0], base)))
            below = _numbers(labels[..., -1], base)
            if self._wanted is None:
                pairs.append(_touching(labels) + base)
            base += count
        self._piece = _joined(np.concatenate(joints), np.concatenate(firsts))
        count = int(self._piece.max()) + 1
        self.sizes = np.bincount(self._piece, np.concatenate(sizes), count).astype(np.int64)
        self.values = np.zeros(count, np.int64)
        self.values[self._piece] = np.concatenate(values)
        self.open = np.zeros(count, bool)
        self.open[self._piece[np.concatenate(outside)]] = True
        self.pairs = self._piece[np.concatenate(pairs)]

    def _planes(self) -> Iterator[tuple[slice, int]]:
        """Planes of a slab, and how many of them are its own."""
        area, depth = self._values[..., :1].size, self._values.shape[2]
        step = max(1, SLAB // max(area, 1))
        for start in range(0, depth, step):
            yield slice(start, min(start + step + 1, depth)), min(step, depth - start)
            scratch.let_go(self._values)

    def _labels(self, planes: slice) -> tuple[np.ndarray, np.ndarray, int]:
        """Parts of pieces in some planes, numbered from 1; what was looked at, 0 elsewhere; and how many parts there
        are. In memory, i is fastest."""
        stored = self._values[..., planes].T
        if self._wanted is None:
            coded = stored + np.uint32(1) if stored.dtype.itemsize > 1 else stored + np.uint16(1)
        else:
            coded = np.array(stored, order="C")
            top = max(self._wanted, default=0)
            every = set(self._wanted) >= set(range(1, top + 1))
            coded[coded > top if every else ~np.isin(coded, self._wanted)] = 0
        coded = coded.T
        labels, count = cc3d.connected_components(coded, connectivity=self._connectivity, return_N=True)
        return labels, coded, int(count)

    def _outside(self, labels: np.ndarray, planes: slice, count: int) -> np.ndarray:
        """Whether each part lies at the outside."""
        ends = [labels[0], labels[-1]] * self._long[0] + [labels[:, 0], labels[:, -1]] * self._long[1]
        if self._long[2] and planes.start == 0:
            ends.append(labels[..., 0])
        if self._long[2] and planes.stop == self._values.shape[2]:
            ends.append(labels[..., -1])
        found = np.zeros(count + 1, bool)
        for end in ends:
            found[end] = True
        return found


def _box(values: np.ndarray) -> tuple[slice, ...]:
    """Around everything but 0."""
    across = np.zeros(values.shape[:2], bool)
    along = np.zeros(values.shape[2], bool)
    for k in range(values.shape[2]):
        filled = values[..., k] != 0
        along[k] = filled.any()
        across |= filled
        scratch.let_go(values)
    ends = [np.flatnonzero(line) for line in (across.any(1), across.any(0), along)]
    return tuple(slice(int(line[0]), int(line[-1]) + 1) if len(line) else slice(0, 0) for line in ends)


def _runs(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Starts and lengths of stretches of one number, i fastest, and the numbers."""
    flat = labels.T.reshape(-1)
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    return starts, np.diff(starts, append=flat.size), flat[starts]


def _numbers(plane: np.ndarray, base: int) -> np.ndarray:
    """Of parts among those of all slabs."""
    return np.where(plane, plane + np.int64(base), 0).T.reshape(-1)


def _touching(labels: np.ndarray) -> np.ndarray:
    """(m, 2) numbers that share a face."""
    flat, found, stride = labels.T.reshape(-1), [], 1
    for size in labels.shape:
        where = np.flatnonzero(flat[:-stride] != flat[stride:])
        where = where[where // stride % size != size - 1]  # the last of a row is no neighbour of the next row's first
        found.append(_distinct(flat[where], flat[where + stride]))
        stride *= size
    return np.concatenate(found)


def _distinct(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(m, 2) distinct pairs of (n,) and (n,)."""
    codes = one.astype(np.uint64) << np.uint64(32) | other.astype(np.uint64)
    codes = codes[np.flatnonzero(np.diff(codes, prepend=~codes[:1]))]  # neighbours mostly say the same
    codes = np.unique(codes)
    return np.stack([codes >> np.uint64(32), codes & np.uint64(2**32 - 1)], axis=1).astype(np.int64)


def _joined(ends: np.ndarray, firsts: np.ndarray) -> np.ndarray:
    """The number of the piece to which each part belongs, by where the first of its parts begins."""
    count = len(firsts)
    graph = coo_array((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), (count, count))
    pieces, piece = csgraph.connected_components(graph, directed=False)
    begins = np.full(pieces, np.iinfo(np.int64).max)
    np.minimum.at(begins, piece, firsts)
    return np.argsort(np.argsort(begins))[piece]
