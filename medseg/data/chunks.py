"""Arrays on disk in compressed chunks: a patch reads those chunks that it meets, and each is checked as it is read.

Beside `<name>.chunks`, the compressed chunks one after another, is `<name>.index.npy`: where each ends and its CRC-32.
A chunk holds all channels of a box of voxels. Nothing is kept open between two readings, so an array may be pickled,
shared by threads and forked processes, and its file replaced on any system.
"""

from __future__ import annotations

import io
import itertools
import math
import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from isal.isal_zlib import crc32
from numcodecs import blosc

from medseg.plan import Sizes
from medseg.refusal import Refusal

BYTES = 1 << 17
"""Of a channel in a chunk: smaller chunks are too many for Python, larger ones read more that is not asked for."""
CODEC, LEVEL = b"lz4", 5
blosc.use_threads = False  # their order would show in the bytes, and what loads data has processes
INDEX = np.dtype([("stop", "<u8"), ("crc", "<u4")])
AHEAD = getattr(os, "posix_fadvise", None)
"""Asks the system for several ranges at once, where it can; without it, a cold disk is waited for row by row."""

Ranges = Sequence[tuple[int, int]]
"""First and stop along each axis."""


@dataclass(frozen=True, eq=False)
class Chunked:
    """A stored array (C, i, j, k), read-only, sliced as numpy's are. Each slicing reads the disk and gives an array.

    Attributes:
        path: of the chunks.
        shape, dtype: of the array.
        chunk: (i, j, k) of a whole chunk; those at the far borders are as large as what is left.
        stops: int64 (chunks + 1); chunk n lies from stops[n] to stops[n + 1]. They are in C order.
        sums: uint32 (chunks), CRC-32 of the compressed bytes.
    """

    path: Path
    shape: tuple[int, int, int, int]
    dtype: np.dtype
    chunk: Sizes
    stops: np.ndarray
    sums: np.ndarray

    ndim = 4

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("a stored array is read from disk, which is always a copy")
        whole = self._box([(0, size) for size in self.shape])
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Basic indexing: whole numbers, slices with any step, `...`.

        Raises:
            IndexError: beyond the array, or anything else than these.
            Refusal: the file is damaged or cannot be read.
        """
        ranges, left = _split(key, self.shape)
        box = self._box(ranges)
        return box if left is None else box[left]

    def _box(self, ranges: Ranges) -> np.ndarray:
        """Contiguous copy of a box."""
        box = np.empty([stop - first for first, stop in ranges], self.dtype)
        if box.size:
            try:
                with self.path.open("rb") as file:
                    self._fill(box, ranges, file)
            except OSError as error:
                raise Refusal(
                    self.path,
                    found=f"a prepared case that cannot be read ({error.strerror})",
                    needed="a file that stays where it is while it is used",
                    remedy="see that the disk is there, and run `medseg prepare` again",
                ) from error
        return box

    def _fill(self, box: np.ndarray, ranges: Ranges, file: BinaryIO) -> None:
        lines = [_spans(*one) for one in zip(ranges[1:], self.chunk, self.shape[1:], strict=True)]
        grid, last = [-(-size // side) for size, side in zip(self.shape[1:], self.chunk, strict=True)], lines[2]
        rows = [
            (i, j, (i.number * grid[1] + j.number) * grid[2] + last[0].number) for i, j in itertools.product(*lines[:2])
        ]
        bounds = [self.stops[first : first + len(last) + 1].tolist() for *_, first in rows]
        if AHEAD:
            for edges in bounds:
                AHEAD(file.fileno(), edges[0], edges[-1] - edges[0], os.POSIX_FADV_WILLNEED)
        channels, room = slice(*ranges[0]), np.empty(self.shape[0] * math.prod(self.chunk), self.dtype)
        for (i, j, first), edges in zip(rows, bounds, strict=True):
            file.seek(edges[0])
            row = memoryview(file.read(edges[-1] - edges[0]))
            for n, k in enumerate(last):
                packed = row[edges[n] - edges[0] : edges[n + 1] - edges[0]]
                if crc32(packed) != self.sums[first + n]:
                    raise self._damaged()
                sides = (self.shape[0], i.length, j.length, k.length)
                values = room[: math.prod(sides)]
                blosc.decompress(packed, values)
                box[:, i.into, j.into, k.into] = values.reshape(sides)[channels, i.out, j.out, k.out]

    def _damaged(self) -> Refusal:
        return Refusal(
            self.path,
            found="a damaged chunk, whose bytes are not those that were written",
            needed="the file as it was prepared",
            remedy=f"delete the folder {self.path.parent.name} and run `medseg prepare` again",
        )


class _Span(NamedTuple):
    """A chunk along one axis: its number, its length, where its part goes in a box, and which part that is."""

    number: int
    length: int
    into: slice
    out: slice


def _spans(ends: tuple[int, int], side: int, size: int) -> list[_Span]:
    """Chunks that lie within `ends` of an axis, in whole or in part."""
    spans = []
    for number in range(ends[0] // side, -(-ends[1] // side)):
        start, length = number * side, min(side, size - number * side)
        low, high = max(start, ends[0]), min(start + length, ends[1])
        spans.append(_Span(number, length, slice(low - ends[0], high - ends[0]), slice(low - start, high - start)))
    return spans


def write(folder: Path, name: str, array: np.ndarray) -> dict[str, Any]:
    """Store an array (C, i, j, k) as two new files; equal arrays give equal bytes.

    Takes the memory of a slab of chunks beside the array, which may itself lie on disk.

    Returns:
        What `read` needs beside the files, for JSON.
    """
    chunk = _chunk(array.shape, BYTES // array.itemsize)
    save(folder / f"{name}.index.npy", np.array(_pack(folder / f"{name}.chunks", array, chunk), INDEX))
    return {"shape": list(array.shape), "dtype": array.dtype.str, "chunk": list(chunk)}


def read(folder: Path, name: str, described: dict[str, Any]) -> Chunked:
    """A stored array; of its values nothing is read yet."""
    index = np.load(folder / f"{name}.index.npy")
    stops = np.concatenate([[0], index["stop"]]).astype(np.int64)
    shape, chunk = tuple(described["shape"]), tuple(described["chunk"])
    return Chunked(folder / f"{name}.chunks", shape, np.dtype(described["dtype"]), chunk, stops, index["crc"].copy())


def save(path: Path, array: np.ndarray) -> None:
    """Write a small .npy file. `np.save` into a file would hide why it failed."""
    content = io.BytesIO()
    np.save(content, array)
    path.write_bytes(content.getbuffer())


def _pack(path: Path, array: np.ndarray, chunk: Sizes) -> list[tuple[int, int]]:
    """Write the chunks; where each ends, and its CRC-32."""
    rows, stop = list[tuple[int, int]](), 0
    _, *starts = (range(0, size, side) for size, side in zip(array.shape[1:], chunk, strict=True))
    with path.open("wb") as file:
        for i in range(0, array.shape[1], chunk[0]):
            slab = np.ascontiguousarray(array[:, i : i + chunk[0]])
            for j, k in itertools.product(*starts):
                piece = np.ascontiguousarray(slab[:, :, j : j + chunk[1], k : k + chunk[2]])
                packed = blosc.compress(piece, CODEC, LEVEL)
                file.write(packed)
                stop += len(packed)
                rows.append((stop, crc32(packed)))
    return rows


def _chunk(shape: Sequence[int], voxels: int) -> Sizes:
    """Sides of a chunk: as near to a cube as the array allows, so that slices and thin stacks have no tiny ones."""
    left, sides = voxels, [1, 1, 1]
    for number, axis in enumerate(sorted(range(3), key=lambda axis: shape[1 + axis])):
        sides[axis] = max(1, min(shape[1 + axis], round(left ** (1 / (3 - number)))))
        left //= sides[axis]
    return sides[0], sides[1], sides[2]


def _split(key: Any, shape: Sequence[int]) -> tuple[Ranges, tuple[Any, ...] | None]:
    """The box that a basic index reads, and the index to apply to it; None where the box is the answer."""
    keys = list(key) if isinstance(key, tuple) else [key]
    gaps = [number for number, one in enumerate(keys) if one is Ellipsis]
    at = gaps[0] if gaps else len(keys)
    given = len(keys) - len(gaps)
    if len(gaps) > 1 or given > len(shape):
        raise IndexError(f"{len(keys)} indices for {len(shape)} axes")
    keys[at : at + len(gaps)] = [slice(None)] * (len(shape) - given)
    ranges, left = zip(*(_range(one, size) for one, size in zip(keys, shape, strict=True)), strict=True)
    return ranges, None if all(one == slice(None) for one in left) else left


def _range(key: Any, size: int) -> tuple[tuple[int, int], Any]:
    """Of one axis: what to read, and what to take of that."""
    if isinstance(key, slice):
        places = range(*key.indices(size))
        if not places:
            return (0, 0), slice(None)
        low, high = sorted((places[0], places[-1]))
        return (low, high + 1), slice(None) if places.step == 1 else slice(None, None, places.step)
    if isinstance(key, bool) or not hasattr(key, "__index__"):
        raise IndexError(f"a stored array is indexed by whole numbers, slices and ..., not by {type(key).__name__}")
    place = range(size)[operator.index(key)]
    return (place, place + 1), 0
