"""Decoding and rescaling the pixels of a series."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom.config

from medseg.boundary import parsing
from medseg.dicom.headers import Frame
from medseg.refusal import Refusal


def load(frames: Sequence[Frame]) -> np.ndarray:
    """Pixels of frames, rescaled by each frame's own slope and intercept.

    Args:
        frames: in slice order, all of one size.

    Returns:
        (columns, rows, slices); int16, or int32 where the values need it, when every slope and intercept is a whole
        number, else float32. A view of an array in slice order, so that one slice is contiguous in memory.
    """
    rows, columns = frames[0].size
    whole = all(frame.slope.is_integer() and frame.intercept.is_integer() for frame in frames)
    stack: np.ndarray | None = None
    for path, group in groupby(enumerate(frames), key=lambda item: item[1].instance.path):
        stored = _decode(path)
        if stored.dtype.kind == "f" or stored.dtype.itemsize > 2:
            whole = False  # 32-bit integers would not fit into int32 after rescaling
        if stack is None:
            stack = np.empty((len(frames), rows, columns), dtype=np.int32 if whole else np.float32)
        elif stack.dtype.kind == "i" and not whole:
            stack = stack.astype(np.float32)
        for k, frame in group:
            plane = _plane(path, stored, frame)
            if whole:
                np.add(plane.astype(np.int64) * int(frame.slope), int(frame.intercept), out=stack[k], casting="unsafe")
            else:
                stack[k] = plane.astype(np.float64) * frame.slope + frame.intercept
    if stack is None:
        raise ValueError("no frames")
    if stack.dtype == np.int32 and stack.min() >= -(2**15) and stack.max() < 2**15:
        stack = stack.astype(np.int16)
    return stack.transpose(2, 1, 0)


def _decode(path: Path) -> np.ndarray:
    """Stored values of a file: (rows, columns) or (frames, rows, columns)."""
    with (
        parsing(path, needed="pixels that can be decoded", remedy="copy or export the file again, uncompressed"),
        pydicom.config.disable_value_validation(),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message=".*excess padding to be removed", module="pydicom")  # harmless
        dataset: Any = pydicom.dcmread(path)
        return dataset.pixel_array


def _plane(path: Path, stored: np.ndarray, frame: Frame) -> np.ndarray:
    number = frame.instance.frame
    if number is not None and stored.ndim == 3 and number <= len(stored):
        stored = stored[number - 1]
    if stored.shape != frame.size:
        raise Refusal(
            path,
            found=f"pixels of shape {stored.shape}",
            needed=f"{frame.size[0]} rows and {frame.size[1]} columns, as the header says",
            remedy="copy or export the file again",
        )
    return stored
