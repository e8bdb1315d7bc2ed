"""Surfaces as binary glTF 2.0 (.glb), a named and coloured node for each label, in metres with the head up."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from medseg.atomic import replacing
from medseg.mesh import Surface, refuse_flat, surfaces
from medseg.prediction import Prediction
from medseg.settings import Settings

SUFFIX = ".glb"
WRITES = "labels"
READ_BACK_BY = None
GLTF_FROM_RAS = np.array([[-1, 0, 0], [0, 0, 1], [0, 1, 0]]) / 1000
"""glTF's y is up and its z forward, in metres: x runs to the left, y to the head, z to the front of the patient."""
FLOAT, UNSIGNED, CORNERS, TRIANGLES = 5126, 5125, 34962, 34963
"""The specification's numbers for types of values, and for what a part of the data is for."""


class Options(Settings):
    """How voxels become a surface."""

    smooth: int = Field(default=0, ge=0)
    """Passes of Taubin smoothing, which keeps the volume. 0 leaves the steps of voxels; 10 to 20 take them away."""


check = refuse_flat


def write(prediction: Prediction, path: Path, options: Options) -> None:
    """Write the surfaces of all labels that have voxels into one scene.

    Raises:
        Refusal: a photograph, which has no third dimension.
    """
    scene: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "medseg"},
        "scene": 0,
        "scenes": [{}],
    }
    parts: list[bytes] = []
    for surface in surfaces(prediction, path, options.smooth):
        _add(scene, parts, surface)
    data = b"".join(parts)
    if data:
        scene["buffers"] = [{"byteLength": len(data)}]
    text = json.dumps(scene, ensure_ascii=False).encode("utf-8")
    chunks = _chunk(b"JSON", text + b" " * (-len(text) % 4)) + (_chunk(b"BIN\0", data) if data else b"")
    with replacing(path) as temporary:
        temporary.write_bytes(struct.pack("<4sLL", b"glTF", 2, 12 + len(chunks)) + chunks)


def _add(scene: dict[str, Any], parts: list[bytes], surface: Surface) -> None:
    """A node with its mesh and material, and the mesh's numbers."""
    corners = (surface.corners @ GLTF_FROM_RAS.T).astype("<f4")
    attributes = {"POSITION": _numbers(scene, parts, corners, FLOAT, CORNERS)}
    indices = _numbers(scene, parts, surface.triangles.astype("<u4").reshape(-1, 1), UNSIGNED, TRIANGLES)
    colour = [*(_linear(part / 255) for part in surface.label.colour), 1.0]
    material = {
        "name": surface.label.name,
        "pbrMetallicRoughness": {"baseColorFactor": colour, "metallicFactor": 0.0, "roughnessFactor": 0.8},
    }
    number = len(scene.setdefault("meshes", []))
    scene.setdefault("materials", []).append(material)
    primitive = {"attributes": attributes, "indices": indices, "material": number}
    scene["meshes"].append({"name": surface.label.name, "primitives": [primitive]})
    scene.setdefault("nodes", []).append({"name": surface.label.name, "mesh": number})
    scene["scenes"][0].setdefault("nodes", []).append(number)


def _numbers(scene: dict[str, Any], parts: list[bytes], values: np.ndarray, kind: int, use: int) -> int:
    """Append an array of 4-byte numbers to the data; returns the number of its accessor."""
    start = sum(map(len, parts))
    parts.append(values.tobytes())
    views, accessors = (scene.setdefault(name, []) for name in ("bufferViews", "accessors"))
    views.append({"buffer": 0, "byteOffset": start, "byteLength": values.nbytes, "target": use})
    accessors.append(
        {
            "bufferView": len(views) - 1,
            "componentType": kind,
            "count": len(values),
            "type": "VEC3" if values.shape[1] == 3 else "SCALAR",
            "min": values.min(axis=0).tolist(),
            "max": values.max(axis=0).tolist(),
        }
    )
    return len(accessors) - 1


def _linear(part: float) -> float:
    """glTF's colours are linear; those of label tables are sRGB (IEC 61966-2-1)."""
    return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack("<L4s", len(data), kind) + data
