"""Surfaces as binary PLY (.ply), all labels in one file, coloured and numbered, in LPS millimetres."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import Field

from medseg.atomic import replacing
from medseg.geometry import LPS_FROM_RAS
from medseg.mesh import Surface, refuse_flat, surfaces
from medseg.prediction import Prediction
from medseg.settings import Settings

SUFFIX = ".ply"
WRITES = "labels"
READ_BACK_BY = None
CORNER = np.dtype([("place", "<f4", 3), ("colour", "u1", 3), ("label", "<u2")])
TRIANGLE = np.dtype([("count", "u1"), ("corners", "<i4", 3)])


class Options(Settings):
    """How voxels become a surface."""

    smooth: int = Field(default=0, ge=0)
    """Passes of Taubin smoothing, which keeps the volume. 0 leaves the steps of voxels; 10 to 20 take them away."""


check = refuse_flat


def write(prediction: Prediction, path: Path, options: Options) -> None:
    """Write the surfaces of all labels that have voxels. Each corner has its label's colour and, as the property
    `label`, its number; comments say which name the number has.

    3D Slicer takes PLY as LPS and reads the comment "SPACE=LPS".

    Raises:
        Refusal: a photograph, which has no third dimension.
    """
    found = list(surfaces(prediction, path, options.smooth))
    first = np.cumsum([0, *(len(surface.corners) for surface in found)])
    with replacing(path) as temporary, temporary.open("wb") as handle:
        handle.write("\n".join([*_header(found), ""]).encode("utf-8"))
        for surface in found:
            corners = np.zeros(len(surface.corners), dtype=CORNER)
            corners["place"] = surface.corners @ LPS_FROM_RAS[:3, :3]
            corners["colour"], corners["label"] = surface.label.colour, surface.label.index
            handle.write(corners.tobytes())
        for surface, start in zip(found, first, strict=False):
            triangles = np.zeros(len(surface.triangles), dtype=TRIANGLE)
            triangles["count"], triangles["corners"] = 3, surface.triangles + start
            handle.write(triangles.tobytes())


def _header(found: list[Surface]) -> list[str]:
    names = [f"comment label {surface.label.index} {' '.join(surface.label.name.split())}" for surface in found]
    return [
        "ply",
        "format binary_little_endian 1.0",
        "comment medseg SPACE=LPS",
        *names,
        f"element vertex {sum(len(surface.corners) for surface in found)}",
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {colour}" for colour in ("red", "green", "blue")),
        "property ushort label",
        f"element face {sum(len(surface.triangles) for surface in found)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
