"""A mask of one slice -> closed contours without holes, and contours -> the pixels whose centres they enclose.

Contours run along the edges of pixels: pixel (i, j) covers [i - 0.5, i + 0.5] x [j - 0.5, j + 0.5], so every pixel
centre is half a pixel away from every contour, the enclosed area is that of the pixels, and whoever fills a contour by
pixel centres gets the mask back. Pixels that touch at a corner only have contours of their own.

A hole is joined to the contour around it by a channel of no width along pixel edges ("keyhole"), because a
CLOSED_PLANAR contour cannot have a hole. Filled by parity or by winding number, and contours united or XORed, the mask
is the same.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable

import numpy as np


def trace(mask: np.ndarray) -> list[np.ndarray]:
    """Contours of a boolean (columns, rows) mask: (n, 2) corners each as (column, row), the first one not repeated.

    The corners of the mask's outline come in pairs within each column of pixel corners, and in pairs within each row:
    those pairs are the outline's edges, and following them in turn gives its closed curves.
    """
    lattice = np.pad(np.asarray(mask, dtype=bool), 1)
    corners, across, along = _edges(lattice)
    after, starts = _curves(lattice, corners, across, along)
    added, outer = _join_holes(lattice, corners, after, starts)
    points = np.concatenate([corners, added]) - 1.5  # of the padding one, and half a pixel from centre to corner
    return [points[_walk(after, start)] for start in outer]


def fill(contours: Iterable[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Boolean (columns, rows) of the pixels whose centres lie inside an odd number of the contours.

    Works for any closed polygons, given as (n, 2) of (column, row). A centre exactly on an edge is inside where the
    inside lies at larger columns (or, on an edge along a row, at larger rows), so that shapes that share an edge share
    no pixel. Each edge flips the pixels beyond its crossing with each row of centres; the running parity is the shape.
    """
    columns, rows = size
    flips = np.zeros((columns + 1, rows), dtype=np.uint8)
    for contour in contours:
        (x0, y0), (x1, y1) = contour.T, np.roll(contour, -1, axis=0).T
        first = np.clip(np.ceil(np.minimum(y0, y1)), 0, rows).astype(int)
        count = np.clip(np.ceil(np.maximum(y0, y1)), 0, rows).astype(int) - first
        edge = np.repeat(np.arange(len(count)), count)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        crossing = x0[edge] + (row - y0[edge]) * ((x1 - x0)[edge] / (y1 - y0)[edge])
        column = np.clip(np.ceil(crossing), 0, columns).astype(int)
        np.add.at(flips, (column, row), 1)
    return (np.cumsum(flips[:-1], axis=0, dtype=np.uint8) & 1).astype(bool)


def _edges(lattice: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Corners (n, 2) of the outline in a padded mask, ordered by column and then row; and for each the corner at the
    other end of its edge across (within a column of corners) and of its edge along (within a row of them).

    Corner (i, j) is where the pixels i - 1, i and j - 1, j meet. Where two pixels touch at a corner only, it is there
    twice, once for each of them.
    """
    before, over, under, behind = lattice[:-1, :-1], lattice[:-1, 1:], lattice[1:, :-1], lattice[1:, 1:]
    touching = (before == behind) & (over == under) & (before != over)
    corners = np.argwhere(before ^ over ^ under ^ behind | touching) + 1
    twice = touching[tuple((corners - 1).T)]
    first = np.cumsum(1 + twice) - 1 - twice  # number of each corner, or of the first of two
    crossed = before[tuple((corners[twice] - 1).T)]
    corners = np.repeat(corners, 1 + twice, axis=0)
    # of two in one place the first ends an edge across; along, it goes on around the same pixel
    rank = np.zeros(len(corners), dtype=int)
    rank[first[twice]], rank[first[twice] + 1] = ~crossed, crossed
    return corners, _partners(np.arange(len(corners))), _partners(np.lexsort((rank, corners[:, 0], corners[:, 1])))


def _partners(order: np.ndarray) -> np.ndarray:
    """Partner of each number if the first two of `order` are a pair, the next two, and so on."""
    partner = np.empty_like(order)
    partner[order[::2]], partner[order[1::2]] = order[1::2], order[::2]
    return partner


def _curves(
    lattice: np.ndarray, corners: np.ndarray, across: np.ndarray, along: np.ndarray
) -> tuple[list[int], list[int]]:
    """For each corner the next one of its curve, with the mask on the same side throughout; and the first corner of
    each curve, in order. The pixel behind a curve's first corner is mask if the curve goes around mask, not if it goes
    around a hole."""
    edges = (across.tolist(), along.tolist())
    after, starts = [-1] * len(corners), []
    around_mask = lattice[tuple(corners.T)].tolist()
    for start in range(len(corners)):
        if after[start] >= 0:
            continue
        starts.append(start)
        here, turn = start, 0 if around_mask[start] else 1
        while after[here] < 0:
            after[here] = edges[turn][here]
            here, turn = after[here], 1 - turn
    return after, starts


def _join_holes(
    lattice: np.ndarray, corners: np.ndarray, after: list[int], starts: list[int]
) -> tuple[np.ndarray, list[int]]:
    """Join each hole to the nearest curve before it in its row of corners: the contour around it, or a hole that is
    joined already, because its first corner comes earlier.

    Changes `after`, whose numbers beyond the given corners are those that the channels add.

    Returns:
        Places (n, 2) of the added corners, and the first corner of each contour.
    """
    added: list[tuple[int, int]] = []
    channels: dict[int, list[tuple[int, int]]] = {}  # that leave an edge: its first corner -> (row, last corner)
    width = lattice.shape[1]
    keys = corners @ (width, 1)

    def add(place: tuple[int, int], following: int) -> int:
        added.append(place)
        after.append(following)
        return len(after) - 1

    for start in starts:
        i, j = corners[start].tolist()
        if lattice[i, j]:
            continue
        exit_ = (int(np.flatnonzero(~(lattice[:i, j - 1] & lattice[:i, j]))[-1]) + 1, j)
        edge = int(np.searchsorted(keys, exit_[0] * width + j, side="right")) - 1
        others = channels.setdefault(edge, [])
        leave = edge
        if keys[edge] != exit_[0] * width + j:
            nearest = bisect_left(others, (j, 0))
            previous = others[nearest - 1][1] if nearest else edge
            leave = after[previous] = add(exit_, after[previous])
        back = add(exit_, after[leave])
        after[leave] = add((i, j), after[start])
        after[start] = back
        insort(others, (j, back))
    return np.array(added, dtype=int).reshape(-1, 2), [start for start in starts if lattice[tuple(corners[start])]]


def _walk(after: list[int], start: int) -> list[int]:
    """The corners of a curve from `start` on."""
    found = [start]
    while after[found[-1]] != start:
        found.append(after[found[-1]])
    return found
