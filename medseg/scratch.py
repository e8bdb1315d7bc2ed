"""Arrays that may be larger than memory: below a size in memory, above it in a file that no other program sees."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class _Place:
    folder: Path | None
    above: float


_maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
"""Those of the arrays on disk that are alive."""
_maps_lock = threading.Lock()
"""One thread may make an array while another goes through them."""
_place: ContextVar[_Place | None] = ContextVar("scratch", default=None)


@contextmanager
def on_disk(folder: Path | None, *, above: float) -> Iterator[None]:
    """Within it, arrays of more than `above` bytes that `zeros` makes lie in unnamed files in `folder` (None: where the
    system keeps temporary files), which are gone when the arrays are, or when the process ends, however it ends."""
    token = _place.set(_Place(folder, above))
    try:
        yield
    finally:
        _place.reset(token)


def zeros(shape: Sequence[int], kind: Any, *, slowest: int = 0) -> np.ndarray:
    """A new array of zeros, in memory or on disk as `on_disk` says.

    Args:
        shape: (C, I, J, K).
        kind: a numpy type.
        slowest: which of the axes I, J, K (0 to 2) lies furthest apart in memory, within a channel. What goes through
            the array along this axis touches each part of the file once.

    Raises:
        OSError: no room on the disk; it is reserved at once, because a full disk would end the process later on.
    """
    order = [0, 1 + slowest, *(1 + axis for axis in (2, 1, 0) if axis != slowest)]
    if slowest == 0:
        order = [0, 1, 2, 3]
    base = _zeros([shape[axis] for axis in order], np.dtype(kind))
    return base.transpose([order.index(axis) for axis in range(4)])


def _zeros(shape: list[int], kind: np.dtype) -> np.ndarray:
    size = math.prod(shape) * kind.itemsize
    place = _place.get()
    if place is None or size <= place.above:
        return np.zeros(shape, kind)
    if place.folder is not None:
        place.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=place.folder) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
        array = np.memmap(file, kind, "r+", shape=tuple(shape))
    with _maps_lock:
        _maps.add(array._mmap)  # type: ignore[attr-defined]
    return array


def threshold() -> float:
    """Bytes above which `zeros` takes the disk here; infinite where it never does."""
    place = _place.get()
    return math.inf if place is None else place.above


def let_go(array: np.ndarray) -> None:
    """Tell the system that what is in memory of an array on disk is not needed now; does nothing to one in memory, nor
    to one whose changes are in memory alone (`mode="c"`): they would be lost."""
    while isinstance(array, np.ndarray):  # in the end there is a map of a file, bytes, or nothing
        if isinstance(array, np.memmap) and array.mode == "c":
            return
        array = array.base  # type: ignore[assignment]
    if isinstance(array, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        array.madvise(mmap.MADV_DONTNEED)


def let_go_all() -> None:
    """The same for all arrays on disk that `zeros` made."""
    if hasattr(mmap, "MADV_DONTNEED"):
        with _maps_lock:
            alive = list(_maps)
        for one in alive:
            one.madvise(mmap.MADV_DONTNEED)
