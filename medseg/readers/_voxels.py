"""The voxels of a file, of which no second copy is made: mapped where they lie, or unpacked to where they will stay."""

from __future__ import annotations

import gzip
import math
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from isal import igzip, igzip_lib

from medseg import scratch
from medseg.boundary import refuse_absurd
from medseg.refusal import Refusal

GZIP = b"\x1f\x8b"
BEHIND_BYTES = 2**24
"""What may follow the voxels (MGH's tags, padding) without the header's saying so."""
CHUNK_BYTES = 2**21
"""Read and converted at once: it stays in the processor's cache."""


@dataclass(frozen=True)
class Stored:
    """What a header says of the voxels.

    Attributes:
        shape: first axis fastest.
        dtype: as stored, byte order included.
        offset: bytes before the first voxel.
        slope, intercept: values are stored * slope + intercept as float32; None: they are as stored.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    slope: float | None = None
    intercept: float = 0.0

    @property
    def expected(self) -> int:
        """Bytes of voxels."""
        return math.prod(map(int, self.shape)) * self.dtype.itemsize

    @property
    def kind(self) -> np.dtype:
        """Type in memory: long double differs between machines, and nothing downstream takes it."""
        if self.slope is not None:
            return np.dtype(np.float32)
        return np.dtype(np.float64) if self.dtype.itemsize > 8 else self.dtype.newbyteorder("=")

    def values(self, raw: np.ndarray) -> np.ndarray:
        """Of stored voxels; scaled in double precision."""
        return raw if self.slope is None else raw.astype(np.float64) * self.slope + self.intercept


def start(path: Path, count: int) -> bytes:
    """The first `count` bytes of the file, decompressed."""
    with path.open("rb") as handle, _unpacked(path, handle) as stream:
        return stream.read(count)


def load(path: Path, data_path: Path, stored: Stored) -> np.ndarray:
    """(C, I, J, K), read-only where the file is mapped: one that is neither compressed nor scaled, in this machine's
    byte order. All else goes piece by piece into an array from `scratch`, and gzip's checksum is compared.

    Args:
        path: what refusals name.
        data_path: where the voxels are.

    Raises:
        Refusal: not real numbers, more than four axes, truncated, damaged, or of an absurd size.
    """
    if stored.dtype.kind not in "iuf":
        raise Refusal(
            path,
            found=f"voxels of type {stored.dtype}",
            needed="integer or real voxels",
            remedy="convert colours or complex numbers to one real channel each",
        )
    if not stored.shape or min(stored.shape) < 1 or stored.offset < 0:
        raise _too_few(path, stored, 0)
    shape = _channels_first(path, stored.shape)
    with data_path.open("rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        packed = _is_packed(handle)
        if packed:
            refuse_absurd(data_path, stored.offset + stored.expected, size, "voxels")
        elif size < stored.offset + stored.expected:
            raise _too_few(path, stored, size - stored.offset)
        elif stored.slope is None and stored.dtype == stored.kind:
            return _mapped(handle, stored, shape)
        with _unpacked(data_path, handle) as stream:
            _pass_over(stream, stored.offset)
            array, found = _filled(stream, stored, shape)
            if found < stored.expected:
                raise _too_few(path, stored, found)
            if packed:
                _to_its_end(data_path, stream, stored)
    return array


def _is_packed(handle: BinaryIO) -> bool:
    magic = handle.read(len(GZIP))
    handle.seek(0)
    return magic == GZIP


@contextmanager
def _unpacked(path: Path, handle: BinaryIO) -> Iterator[BinaryIO]:
    """The file as it was before gzip, if it is packed."""
    if not _is_packed(handle):
        yield handle
        return
    try:
        with igzip.IGzipFile(fileobj=handle, mode="rb") as stream:
            yield stream  # type: ignore[misc]  # it is one by all that it does
    except (EOFError, igzip_lib.IsalError, gzip.BadGzipFile) as error:  # type: ignore[misc]  # its stub is wrong
        raise Refusal(
            path,
            found=f"a damaged or truncated gzip stream of {os.fstat(handle.fileno()).st_size} bytes ({error})",
            needed="a complete file",
            remedy="copy or download it again",
        ) from error


def _mapped(handle: BinaryIO, stored: Stored, shape: tuple[int, ...]) -> np.ndarray:
    raw = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    channels, *axes = shape
    return np.ndarray((channels, *axes[::-1]), stored.dtype, buffer=raw, offset=stored.offset).transpose(0, 3, 2, 1)


def _filled(stream: BinaryIO, stored: Stored, shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """The voxels, and how many bytes of them there were."""
    array = scratch.zeros(shape, stored.kind, slowest=2)
    flat = array.transpose(0, 3, 2, 1).reshape(-1)  # a view: in the order of the file
    as_stored = stored.slope is None and stored.dtype == stored.kind
    step = CHUNK_BYTES // stored.dtype.itemsize
    for first in range(0, flat.size, step):
        part = flat[first : first + step]
        raw = part if as_stored else np.empty(part.shape, stored.dtype)
        found = stream.readinto(raw.view(np.uint8))  # type: ignore[attr-defined]
        if found < raw.nbytes:
            return array, first * stored.dtype.itemsize + found
        if not as_stored:
            part[:] = stored.values(raw)
    return array, stored.expected


def _pass_over(stream: BinaryIO, count: int) -> None:
    while count > 0 and (found := len(stream.read(min(count, CHUNK_BYTES)))):
        count -= found


def _to_its_end(path: Path, stream: BinaryIO, stored: Stored) -> None:
    """Decompress what is left, because the checksum is behind it."""
    behind = 0
    while found := len(stream.read(CHUNK_BYTES)):
        behind += found
        if behind > BEHIND_BYTES:
            claimed = stored.offset + stored.expected
            raise Refusal(
                path,
                found=f"more than {claimed + BEHIND_BYTES} bytes, of which the header explains {claimed}",
                needed="a file of the size that its header says",
                remedy="check the header, or copy or download the file again",
            )


def _channels_first(path: Path, stored: tuple[int, ...]) -> tuple[int, ...]:
    """(I, J[, K[, C]]) or (I, J, K, 1, C) as ITK writes vectors -> (C, I, J, K)."""
    shape = [int(size) for size in stored]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) == 5 and shape[3] == 1:
        del shape[3]
    if len(shape) > 4:
        raise Refusal(
            path,
            found=f"{len(shape)} axes {tuple(shape)}",
            needed="three axes, or four with the channels last",
            remedy="split the file along its extra axes",
        )
    shape += [1] * (4 - len(shape))
    return shape[3], *shape[:3]


def _too_few(path: Path, stored: Stored, found: int) -> Refusal:
    return Refusal(
        path,
        found=f"{max(found, 0)} bytes of voxels for shape {tuple(map(int, stored.shape))} of {stored.dtype}",
        needed=f"{stored.expected} bytes",
        remedy="the file is truncated or its header damaged; copy or download it again",
    )
