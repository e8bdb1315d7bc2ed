"""NRRD as it is written: a header in words, and voxels that come piece by piece."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medseg.atomic import replacing
from medseg.geometry import LPS_FROM_RAS
from medseg.packing import packed

TYPES = {"uint8": "unsigned char", "uint16": "unsigned short"}


def write(path: Path, lines: Sequence[str], pieces: Iterable[np.ndarray]) -> None:
    """Write a compressed file. The same voxels make the same bytes.

    Args:
        lines: the header, the signature first.
        pieces: the voxels in the order of the file: the first axis fastest.
    """
    with replacing(path) as temporary, temporary.open("wb") as raw:
        raw.write("\n".join([*lines, "", ""]).encode("utf-8"))
        with packed(raw) as handle:
            for piece in pieces:
                handle.write(np.ascontiguousarray(piece.T, piece.dtype.newbyteorder("<")).data)


def header(shape: tuple[int, ...], kind: Any, affine: np.ndarray) -> list[str]:
    """Lines for (L, I, J, K) voxels in LPS space; several layers are an axis before the others.

    Args:
        kind: uint8 or uint16.
        affine: voxel index -> RAS+ mm.
    """
    several = shape[0] > 1
    sizes = shape if several else shape[1:]
    lps = LPS_FROM_RAS @ affine
    axes = ["({:.17g},{:.17g},{:.17g})".format(*lps[:3, column]) for column in range(4)]
    return [
        "NRRD0004",
        f"type: {TYPES[np.dtype(kind).name]}",
        f"dimension: {len(sizes)}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, sizes))}",
        f"space directions: {'none ' if several else ''}{' '.join(axes[:3])}",
        f"kinds: {'list ' if several else ''}domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {axes[3]}",
    ]
