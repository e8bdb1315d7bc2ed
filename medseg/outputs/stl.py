"""Surfaces as binary STL (.stl.zip), a file for each label, in LPS millimetres."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
from pydantic import Field

from medseg.atomic import replacing
from medseg.geometry import LPS_FROM_RAS
from medseg.mesh import Surface, refuse_flat, surfaces
from medseg.prediction import Prediction
from medseg.settings import Settings

SUFFIX = ".stl.zip"
WRITES = "labels"
READ_BACK_BY = None
TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
LONGEST = 60
"""Letters of a label's name in that of its file: in UTF-8 four times as many bytes, of which file systems take 255."""
EARLIEST = (1980, 1, 1, 0, 0, 0)
"""A zip's first possible date: the same surfaces make the same bytes."""


class Options(Settings):
    """How voxels become a surface."""

    smooth: int = Field(default=0, ge=0)
    """Passes of Taubin smoothing, which keeps the volume. 0 leaves the steps of voxels; 10 to 20 take them away."""


check = refuse_flat


def write(prediction: Prediction, path: Path, options: Options) -> None:
    """Write `<number>_<name>.stl` for each label that has voxels, into one zip, because STL knows one nameless shape.

    3D Slicer takes STL as LPS and reads the "SPACE=LPS" in the header.

    Raises:
        Refusal: a photograph, which has no third dimension.
    """
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for surface in surfaces(prediction, path, options.smooth):
            name = re.sub(r"[^\w.-]+", "_", surface.label.name)[:LONGEST]
            archive.writestr(zipfile.ZipInfo(f"{surface.label.index}_{name}.stl", EARLIEST), _stl(surface))


def _stl(surface: Surface) -> bytes:
    corners = (surface.corners @ LPS_FROM_RAS[:3, :3])[surface.triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    triangles = np.zeros(len(corners), dtype=TRIANGLE)
    triangles["corners"] = corners
    triangles["normal"] = np.divide(normals, lengths, out=np.zeros_like(normals), where=lengths > 0)
    # an STL that began with "solid" would be taken for one of text
    return b"medseg SPACE=LPS".ljust(80) + np.uint32(len(triangles)).astype("<u4").tobytes() + triangles.tobytes()
