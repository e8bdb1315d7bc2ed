"""Decoding and rescaling the pixels of a series, several slices at a time."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom.config
from pydicom import uid
from pydicom.pixels import get_decoder

from medseg import scratch
from medseg.boundary import parsing, refuse_absurd
from medseg.cores import available_cores
from medseg.dicom import codec, parse
from medseg.dicom.frames import Frame
from medseg.progress import counting
from medseg.refusal import Refusal

WORKERS = 8
"""Threads at most. What they share is Python's lock: parsing holds it, reading files, JPEG and JPEG 2000 do not."""
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
REMEDY = "copy or export the file again, uncompressed"


def load(frames: Sequence[Frame]) -> np.ndarray:
    """Pixels of frames, rescaled by each frame's own slope and intercept.

    Values are what was stored: MONOCHROME1 is not inverted and padding is not replaced. The result does not depend on
    how many threads decode. Memory: the result, and a few slices (of a multi-frame file, the file).

    Args:
        frames: in slice order, all of one size.

    Returns:
        (columns, rows, slices); int16, or int32 where the values need it, when every slope and intercept is a whole
        number, else float32. A view of an array in slice order, so that one slice is contiguous in memory.

    Raises:
        Refusal: pixels that cannot be decoded, or are not of the size that the header says.
    """
    whole = all(frame.slope.is_integer() and frame.intercept.is_integer() for frame in frames)
    stack: np.ndarray | None = None
    with _quiet(), counting("reading slices", total=len(frames)) as done:
        for k, plane in _in_order(_jobs(frames, whole)):
            wanted = np.dtype(np.float32) if plane.dtype.kind == "f" or not whole else plane.dtype
            if stack is None:
                stack = _empty(len(frames), frames[0].size, wanted)
            elif stack.dtype != np.promote_types(stack.dtype, wanted):
                narrow, stack = stack, _empty(len(frames), frames[0].size, wanted)
                stack[:k] = narrow[:k]
            stack[k] = plane
            done()
    if stack is None:
        raise ValueError("no frames")
    return stack.transpose(2, 1, 0)


def _empty(count: int, size: tuple[int, int], kind: np.dtype) -> np.ndarray:
    """(slices, rows, columns), in memory or on disk."""
    return scratch.zeros((1, size[1], size[0], count), kind, slowest=2)[0].transpose(2, 1, 0)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """pydicom's switches and Python's filters of warnings belong to the process, so that threads must not turn them."""
    with pydicom.config.disable_value_validation(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pydicom")  # harmless padding, odd UIDs; what matters is raised
        yield


Stored = Callable[[int], np.ndarray]
"""Number of a frame, from 0, -> its stored values (rows, columns)."""
Job = Callable[[], tuple[int, np.ndarray]]
"""Decodes one slice: its number and its plane."""


def _jobs(frames: Sequence[Frame], whole: bool) -> Iterator[Job]:
    """One a slice; a file of many frames is opened once, when its first slice is due."""
    by_path: dict[Path, list[tuple[int, Frame]]] = {}
    for k, frame in enumerate(frames):
        by_path.setdefault(frame.instance.path, []).append((k, frame))
    for path, members in by_path.items():
        if len(members) == 1:
            yield partial(_alone, path, *members[0], whole)
            continue
        stored = opened(path)
        for k, frame in members:
            yield partial(_decoded, path, stored, k, frame, whole)


def _in_order(jobs: Iterator[Job]) -> Iterator[tuple[int, np.ndarray]]:
    """Results in the order of `jobs`, which run a few ahead of what is asked for."""
    workers = min(WORKERS, available_cores())
    ahead: deque[Future[tuple[int, np.ndarray]]] = deque()
    with ThreadPoolExecutor(workers, "medseg-pixels") as pool:
        try:
            for job in jobs:
                ahead.append(pool.submit(job))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _alone(path: Path, k: int, frame: Frame, whole: bool) -> tuple[int, np.ndarray]:
    return _decoded(path, opened(path), k, frame, whole)


def _decoded(path: Path, stored: Stored, k: int, frame: Frame, whole: bool) -> tuple[int, np.ndarray]:
    """Number and rescaled plane of a slice, in the smallest of int16, int32 and float32 that holds it."""
    with parsing(path, needed="pixels that can be decoded", remedy=REMEDY, code="pixels"):
        plane = stored(0 if frame.instance.frame is None else frame.instance.frame - 1)
    if plane.shape != frame.size:
        raise Refusal(
            path,
            found=f"pixels of shape {plane.shape}",
            needed=f"{frame.size[0]} rows and {frame.size[1]} columns, as the header says",
            remedy="copy or export the file again",
            code="pixels",
        )
    if whole and plane.dtype.kind != "f":
        slope, intercept = int(frame.slope), int(frame.intercept)
        ends = [int(value) * slope + intercept for value in (plane.min(), plane.max())]
        for kind in (np.int16, np.int32):
            if min(ends) >= np.iinfo(kind).min and max(ends) <= np.iinfo(kind).max:
                return k, (plane.astype(np.int64) * slope + intercept).astype(kind)
    return k, (plane.astype(np.float64) * frame.slope + frame.intercept).astype(np.float32)


def opened(path: Path) -> Stored:
    """Parse a file and say how its frames are got at."""
    with parsing(path, needed="pixels that can be decoded", remedy=REMEDY, code="pixels"):
        dataset = parse.whole(path)
        frames = int(dataset.get("NumberOfFrames") or 1)
        layout = codec.layout(dataset)
        keyword = next((name for name in PIXELS if name in dataset), None)
        if keyword is None:
            raise ValueError("a header without pixels")
    claimed = math.prod((layout.rows, layout.columns, frames, max(layout.allocated, 8) // 8))
    refuse_absurd(path, claimed, path.stat().st_size, "pixels")
    with parsing(path, needed="pixels that can be decoded", remedy=REMEDY, code="pixels"):
        if uid.UID(layout.syntax).is_encapsulated:
            coded = codec.streams(dataset.PixelData, frames)
            return lambda number: codec.decode(coded[number], layout)
        if int(dataset.get("SamplesPerPixel") or 1) != 1:
            raise ValueError("colour pixels")
        return partial(_native, dataset, layout, floats=keyword != "PixelData")


def _native(dataset: Any, layout: codec.Frame, number: int, *, floats: bool) -> np.ndarray:
    """Frame of a file that is not compressed."""
    samples, _ = get_decoder(layout.syntax).as_array(dataset, index=number, raw=True, correct_unused_bits=False)
    if floats or layout.allocated == 1:
        return samples
    native = samples if samples.dtype.isnative else samples.astype(samples.dtype.newbyteorder("="))
    return codec.settle(native, layout.stored, layout.high, layout.signed)
