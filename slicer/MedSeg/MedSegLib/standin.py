"""An empty image of a scan's size, for trying out whether the scan would fit."""

from __future__ import annotations

from pathlib import Path


def write(path: Path, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Path:
    """Write zeros as NRRD: no voxel of a patient goes to the disk for a check, and it takes no time, since files grow
    by empty space on nearly all disks.

    Args:
        shape, spacing_mm: along the axes i, j, k.

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
    ).encode("ascii")
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + 2 * shape[0] * shape[1] * shape[2])
    return path
