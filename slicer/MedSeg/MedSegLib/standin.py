"""An image of a scan's size that shows nobody, for trying out whether the scan would fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

BLOCK = 1 << 20
"""Voxels that are written at once."""


def write(
    path: Path,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    stopped: Callable[[], bool] = lambda: False,
) -> Path:
    """Write noise as NRRD: no voxel of a patient goes to the disk for a check. All of it is as bright as tissue, since
    models pass over air: the time and the memory that are found are the most that the scan can take.

    Args:
        shape, spacing_mm: along the axes i, j, k.
        stopped: asked now and then whether to give up; the file is then cut short.

    Raises:
        OSError: the disk is full, or cannot be written to.
    """
    directions = " ".join(
        "(" + ",".join(f"{size:.9g}" if row == column else "0" for column in range(3)) + ")"
        for row, size in enumerate(spacing_mm)
    )
    header = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\n"
        f"sizes: {' '.join(map(str, shape))}\nspace directions: {directions}\nkinds: domain domain domain\n"
        "endian: little\nencoding: raw\nspace origin: (0,0,0)\n\n"
    )
    noise = np.random.default_rng(0).integers(0, 200, BLOCK, np.int16).astype("<i2").tobytes()
    left = 2 * shape[0] * shape[1] * shape[2]
    with path.open("wb") as file:
        file.write(header.encode("ascii"))
        while left > 0 and not stopped():
            file.write(noise[:left])
            left -= len(noise)
    return path
