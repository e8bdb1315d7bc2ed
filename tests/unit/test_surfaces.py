"""Surfaces: closed, the right way out, where the labels are, and as large; and what the three formats say."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medseg import mesh
from medseg.labels import LabelTable
from medseg.outputs import glb, ply, stl
from medseg.prediction import Prediction
from medseg.refusal import Refusal
from medseg.volume import Volume

TABLE = LabelTable.of({"ball": 5, "nothing": 2, "at the border": 300})
AFFINES = {
    "RAS": np.array([[0.8, 0, 0, 12.0], [0, 0.6, 0, -7.5], [0, 0, 1.5, 40], [0, 0, 0, 1]]),
    "LPS": np.array([[-0.8, 0, 0, 12.0], [0, -0.6, 0, -7.5], [0, 0, 1.5, 40], [0, 0, 0, 1]]),
    "LAS": np.array([[-0.8, 0, 0, 12.0], [0, 0.6, 0, -7.5], [0, 0, 1.5, 40], [0, 0, 0, 1]]),
    "oblique": np.array([[0.1, 0.55, 0.2, 3.0], [-0.75, 0.1, 0.3, 9.0], [0.1, -0.2, 1.4, -80], [0, 0, 0, 1]]),
}
CENTRE_MM, RADIUS_MM = np.array([22.0, 19.0, 12.0]), 9.0
"""From the corner of the grid, along its axes."""


def prediction(affine: np.ndarray = AFFINES["RAS"]) -> Prediction:
    """A ball (1), and a block that reaches three faces of the grid (3)."""
    index = np.stack(np.meshgrid(*map(np.arange, (60, 64, 17)), indexing="ij"), axis=-1)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    target = (np.linalg.norm(index * spacing - CENTRE_MM, axis=-1) <= RADIUS_MM).astype(np.uint8)
    target[50:, 60:, 12:] = 3
    return Prediction("c", TABLE, Volume(target[None], affine), {"model": "unit test"})


def found(made: Prediction, smooth: int = 0) -> list[mesh.Surface]:
    return list(mesh.surfaces(made, Path("a"), smooth))


@pytest.mark.parametrize("smooth", [0, 10])
@pytest.mark.parametrize("name", AFFINES)
def test_surfaces_are_closed_outward_and_as_large_as_their_labels(name: str, smooth: int) -> None:
    made = prediction(AFFINES[name])
    voxel_mm3 = abs(np.linalg.det(made.target.affine[:3, :3]))
    surfaces = found(made, smooth)
    assert [surface.label.name for surface in surfaces] == ["ball", "at the border"]
    for surface, number in zip(surfaces, (1, 3), strict=True):
        edges = np.concatenate([surface.triangles[:, [n, (n + 1) % 3]] for n in range(3)])
        forth, back = ({tuple(edge) for edge in each.tolist()} for each in (edges, edges[:, ::-1]))
        assert len(forth) == len(edges) and forth == back  # two triangles an edge, in opposite directions
        counted_mm3 = np.count_nonzero(made.target.array == number) * voxel_mm3
        assert surface.volume_mm3 == pytest.approx(counted_mm3, rel=0.02 if number == 1 else 0.15)


@pytest.mark.parametrize("name", AFFINES)
def test_a_ball_is_where_it_was(name: str) -> None:
    affine = AFFINES[name]
    ball = found(prediction(affine))[0]
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    centre = affine[:3, 3] + axes @ CENTRE_MM
    distances = np.linalg.norm((ball.corners - centre) @ np.linalg.inv(axes).T, axis=1)
    assert np.abs(distances - RADIUS_MM).max() < 1.5 / 2 + 0.1  # half the longest side of a voxel
    np.testing.assert_allclose(ball.corners.mean(axis=0), centre, atol=0.3)


def test_one_voxel_is_an_octahedron() -> None:
    target = np.zeros((1, 3, 3, 3), np.uint8)
    target[0, 1, 1, 1] = 1
    (surface,) = found(Prediction("c", TABLE, Volume(target, np.diag([2.0, 2, 2, 1]))))
    np.testing.assert_allclose(np.linalg.norm(surface.corners - 2, axis=1), 1)
    assert (len(surface.corners), len(surface.triangles)) == (6, 8) and surface.volume_mm3 == pytest.approx(4 / 3)


def area_mm2(surface: mesh.Surface) -> float:
    a, b, c = (surface.corners[surface.triangles[:, n]] for n in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def test_smoothing_takes_steps_away_and_keeps_the_volume() -> None:
    rough, smooth = (found(prediction(), passes)[0] for passes in (0, 15))
    ball_mm2 = 4 * np.pi * RADIUS_MM**2
    assert area_mm2(rough) > 1.1 * ball_mm2 and area_mm2(smooth) < 1.02 * ball_mm2
    assert smooth.volume_mm3 == pytest.approx(rough.volume_mm3, rel=0.01)
    assert np.abs(smooth.corners - rough.corners).max() < 1.5 / 2


def test_stl_is_a_zip_of_one_file_a_label(tmp_path: Path) -> None:
    made = prediction(AFFINES["oblique"])
    for name in ("a", "b"):
        stl.write(made, tmp_path / f"{name}.stl.zip", stl.Options())
    assert (tmp_path / "a.stl.zip").read_bytes() == (tmp_path / "b.stl.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.stl.zip") as archive:
        assert archive.namelist() == ["5_ball.stl", "300_at_the_border.stl"]
        content = archive.read("5_ball.stl")
    (count,) = struct.unpack("<L", content[80:84])
    assert b"SPACE=LPS" in content[:80] and not content.startswith(b"solid") and len(content) == 84 + 50 * count
    surface = found(made)[0]
    assert count == len(surface.triangles)
    for n in (0, count // 2, count - 1):
        numbers = np.array(struct.unpack("<12f", content[84 + 50 * n : 84 + 50 * n + 48])).reshape(4, 3)
        expected = surface.corners[surface.triangles[n]] * (-1, -1, 1)
        np.testing.assert_allclose(numbers[1:], expected, atol=1e-4)
        normal = np.cross(expected[1] - expected[0], expected[2] - expected[0])
        np.testing.assert_allclose(numbers[0], normal / np.linalg.norm(normal), atol=1e-4)


def test_ply_tells_labels_apart(tmp_path: Path) -> None:
    made = prediction(AFFINES["oblique"])
    ply.write(made, tmp_path / "a.ply", ply.Options())
    head, data = (tmp_path / "a.ply").read_bytes().split(b"end_header\n", 1)
    lines = head.decode("utf-8").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"] and "comment medseg SPACE=LPS" in lines
    assert "comment label 5 ball" in lines and "comment label 300 at the border" in lines
    corners, triangles = (int(re.search(rf"element {name} (\d+)", head.decode())[1]) for name in ("vertex", "face"))
    surfaces = found(made)
    assert corners == sum(len(surface.corners) for surface in surfaces)
    stream, seen = io.BytesIO(data), 0
    vertices = [struct.unpack("<3f3BH", stream.read(17)) for _ in range(corners)]
    faces = [struct.unpack("<B3i", stream.read(13)) for _ in range(triangles)]
    assert stream.read() == b"" and {face[0] for face in faces} == {3}
    for surface in surfaces:
        own = vertices[seen : seen + len(surface.corners)]
        np.testing.assert_allclose([one[:3] for one in own], surface.corners * (-1, -1, 1), atol=1e-4)
        assert {one[3:] for one in own} == {(*surface.label.colour, surface.label.index)}
        seen += len(own)
    last = surfaces[-1].triangles + len(surfaces[0].corners)
    np.testing.assert_array_equal([face[1:] for face in faces[-len(last) :]], last)


def test_glb_has_a_node_for_each_label(tmp_path: Path) -> None:
    made = prediction(AFFINES["oblique"])
    glb.write(made, tmp_path / "a.glb", glb.Options())
    content = (tmp_path / "a.glb").read_bytes()
    magic, version, length, size, kind = struct.unpack("<4sLLL4s", content[:20])
    assert (magic, version, length, kind) == (b"glTF", 2, len(content), b"JSON") and size % 4 == 0
    scene = json.loads(content[20 : 20 + size])
    assert content[24 + size : 28 + size] == b"BIN\0"
    data = content[28 + size :]
    assert scene["buffers"] == [{"byteLength": len(data)}] and scene["asset"]["version"] == "2.0"
    surfaces = found(made)
    nodes = [scene["nodes"][number] for number in scene["scenes"][scene["scene"]]["nodes"]]
    assert [node["name"] for node in nodes] == [surface.label.name for surface in surfaces]

    def numbers(accessor: int, kind: str) -> np.ndarray:
        view = scene["bufferViews"][scene["accessors"][accessor]["bufferView"]]
        assert view["byteOffset"] % 4 == 0
        return np.frombuffer(data[view["byteOffset"] : view["byteOffset"] + view["byteLength"]], kind).reshape(-1, 3)

    for node, surface in zip(nodes, surfaces, strict=True):
        (primitive,) = scene["meshes"][node["mesh"]]["primitives"]
        corners = numbers(primitive["attributes"]["POSITION"], "<f4")
        right, anterior, superior = surface.corners.T / 1000
        np.testing.assert_allclose(corners, np.column_stack([-right, superior, anterior]), atol=1e-6)
        np.testing.assert_array_equal(numbers(primitive["indices"], "<u4"), surface.triangles)
        a, b, c = (corners[surface.triangles[:, n]].astype(float) for n in range(3))
        volume = np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6
        assert volume * 1e9 == pytest.approx(surface.volume_mm3, rel=1e-3)  # outward there too
        accessor = scene["accessors"][primitive["attributes"]["POSITION"]]
        assert accessor["min"] == corners.min(axis=0).tolist() and accessor["max"] == corners.max(axis=0).tolist()
        colour = scene["materials"][primitive["material"]]["pbrMetallicRoughness"]["baseColorFactor"]
        shown = [12.92 * part if part <= 0.0031308 else 1.055 * part ** (1 / 2.4) - 0.055 for part in colour[:3]]
        np.testing.assert_allclose(np.array(shown) * 255, surface.label.colour, atol=1e-6)


@pytest.mark.parametrize("output", [stl, ply, glb], ids=["stl", "ply", "glb"])
def test_nothing_segmented_is_a_file_without_surfaces(tmp_path: Path, output) -> None:
    empty = replace(prediction(), target=prediction().target.with_array(np.zeros((1, 4, 5, 6), np.uint8)))
    path = tmp_path / f"a{output.SUFFIX}"
    output.write(empty, path, output.Options())
    if output is stl:
        assert zipfile.ZipFile(path).namelist() == []
    elif output is ply:
        assert b"element vertex 0" in path.read_bytes() and path.read_bytes().endswith(b"end_header\n")
    else:
        assert json.loads(path.read_bytes()[20:])["scenes"] == [{}]


@pytest.mark.parametrize("output", [stl, ply, glb], ids=["stl", "ply", "glb"])
def test_a_photograph_has_no_surface(tmp_path: Path, output) -> None:
    photograph = Prediction("c", TABLE, Volume(np.ones((1, 4, 5, 1), np.uint8), np.diag([-1.0, -1, 1, 1]), unit="px"))
    with pytest.raises(Refusal, match="a scan, whose labels have a surface"):
        output.write(photograph, tmp_path / f"a{output.SUFFIX}", output.Options())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("output", [stl, ply, glb], ids=["stl", "ply", "glb"])
def test_smoothing_is_a_setting_of_each_format(tmp_path: Path, output) -> None:
    contents = []
    for number, smooth in enumerate((0, 0, 5)):
        path = tmp_path / f"{number}{output.SUFFIX}"
        output.write(prediction(), path, output.Options(smooth=smooth))
        contents.append(path.read_bytes())
    assert contents[0] == contents[1] != contents[2]


def test_files_of_long_names_can_be_unpacked(tmp_path: Path) -> None:
    made = Prediction(
        "c", LabelTable.of({"肝" * 100: 1, "🫀" * 100: 2}), Volume(np.array([[[[1, 0], [0, 2]]]], np.uint8), np.eye(4))
    )
    stl.write(made, tmp_path / "a.stl.zip", stl.Options())
    zipfile.ZipFile(tmp_path / "a.stl.zip").extractall(tmp_path / "unpacked")
    assert len(list((tmp_path / "unpacked").iterdir())) == 2
