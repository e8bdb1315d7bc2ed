"""Vessel paths: shares of random paths along true vessels that the prediction breaks, or follows at the right length.

Two pixels are drawn from one connected centre line of the truth. The path between them is *infeasible* if they do not
lie in one connected piece of the prediction (probability above one half). Else it is *correct* if its length along the
true centre line is 0.9 to 1.1 times the length between the nearest pixels of the predicted one, or if these are one and
the same pixel. What is neither takes a detour. The labels are arteries, veins and all vessels; a row gives the mean
share over the cases that have such a vessel, nan where none has. Infeasible paths are better when fewer.
Unit: none, 0 to 1.
Source: Araujo et al. 2019, "A deep learning design for improving topology coherence in blood vessel segmentation",
MICCAI; as in RRWNet, doi:10.1016/j.eswa.2024.124970.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from pydantic import Field
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from medseg.labels import IGNORE
from medseg.metrics import vessel_maps
from medseg.prediction import Evidence
from medseg.settings import Settings

OVER = "set"
UNIT = ""
HIGHER_IS_BETTER = True
INTERVAL = False
FOUND = 0.5
"""Probability above which a pixel is a vessel."""
LENGTHS = (0.9, 1.1)
"""True length over predicted length of a correct path."""


class Options(Settings):
    paths: int = Field(default=100, ge=1)
    """Of each label in each case."""
    seed: int = Field(default=0, ge=0)
    """Of the random pixels; each case starts anew."""


def compute(cases: Sequence[Evidence], *, names: tuple[str, ...], options: Options) -> dict[str, float]:
    """A number a row.

    Raises:
        Refusal: the labels are not three, or the cases no pictures.
    """
    shares: dict[str, list[float]] = {f"{name}: {what}": [] for name in names for what in ("infeasible", "correct")}
    for case in cases:
        truth, chances = vessel_maps(case)
        inside = truth[2] != IGNORE
        generator = random.Random(options.seed)
        for name, there, chance in zip(names, truth == 1, chances, strict=True):
            if there.any():
                infeasible, correct = _count(there, (chance > FOUND) & inside, options.paths, generator)
                shares[f"{name}: infeasible"].append(infeasible / options.paths)
                shares[f"{name}: correct"].append(correct / options.paths)
    return {row: float(np.mean(values)) if values else float("nan") for row, values in shares.items()}


class CentreLine:
    """The skeleton of a mask as a graph of pixels and their eight neighbours.

    Attributes:
        points: (n, 2) row and column.
        pieces: (n,) number of the connected piece that each pixel belongs to.
    """

    def __init__(self, mask: np.ndarray):
        from skimage.morphology import skeletonize

        line = skeletonize(mask)
        self.points = np.argwhere(line)
        number = np.full(np.add(line.shape, 2), -1)
        number[1:-1, 1:-1][line] = np.arange(len(self.points))
        first, second, length = [], [], []
        for step in ((0, 1), (1, 0), (1, 1), (1, -1)):
            other = number[tuple((self.points + 1 + step).T)]
            near = np.flatnonzero(other >= 0)
            first.append(near)
            second.append(other[near])
            length.append(np.full(len(near), np.hypot(*step)))
        edges = (np.concatenate(length), (np.concatenate(first), np.concatenate(second)))
        self._graph = sparse.csr_array(edges, shape=(len(self.points),) * 2)
        self.pieces = csgraph.connected_components(self._graph, directed=False)[1]

    def length(self, start: int, stop: int) -> float:
        """In pixels, of the shortest way along the line; inf where there is none."""
        if self.pieces[start] != self.pieces[stop]:
            return float("inf")
        return float(csgraph.dijkstra(self._graph, directed=False, indices=start)[stop])

    def nearest(self, point: np.ndarray, among: np.ndarray) -> int:
        """Position of the nearest of some of its pixels."""
        return int(among[np.square(self.points[among] - point).sum(axis=1).argmin()])


def _count(truth: np.ndarray, predicted: np.ndarray, paths: int, generator: random.Random) -> tuple[int, int]:
    """Infeasible and correct paths of one structure. The order of draws is that of RRWNet's original."""
    pieces, _ = ndimage.label(predicted, np.ones((3, 3)))
    ours, theirs = CentreLine(truth), CentreLine(predicted)
    piece_of_line = pieces[tuple(theirs.points.T)]
    infeasible = correct = 0
    for _ in range(paths):
        start = generator.randint(0, len(ours.points) - 1)
        reachable = np.flatnonzero(ours.pieces == ours.pieces[start])
        stop = int(reachable[generator.randint(0, len(reachable) - 1)])
        ends = ours.points[[start, stop]]
        met = pieces[tuple(ends.T)]
        if met[0] != met[1] or met[0] == 0:
            infeasible += 1
            continue
        among = np.flatnonzero(piece_of_line == met[0])
        near = [theirs.nearest(end, among) for end in ends]
        if near[0] == near[1]:
            correct += 1
            continue
        ratio = ours.length(start, stop) / theirs.length(*near)
        correct += LENGTHS[0] <= ratio <= LENGTHS[1]
    return infeasible, correct
