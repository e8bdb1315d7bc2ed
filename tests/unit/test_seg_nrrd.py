"""Segmentations for 3D Slicer: fields, layers, and what Slicer itself reads where it is installed."""

from __future__ import annotations

import gzip
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg import codes, readers
from medseg.labels import LabelTable
from medseg.outputs import seg_nrrd
from medseg.prediction import Prediction
from medseg.refusal import Refusal
from medseg.volume import Volume
from tests.slicer import judge

TABLE = LabelTable.of({"liver": 5, "left kidney": 9, "right_kidney_tumour": 3, "none of these": 1, "a|b ~c^\n\\d": 300})
REGIONS = LabelTable.of({"WT": [1, 2, 4], "TC": [1, 4], "ET": [4], "apart": [9]}, paint=[2, 1, 4, 7])


def prediction(table: LabelTable = TABLE) -> Prediction:
    target = np.zeros((1 if table.exclusive else 4, 9, 8, 7), np.uint8)
    if table.exclusive:
        target[0, 1:4, 2:7, 3], target[0, 5, 1:3, 2:6], target[0, 8, 7, 6], target[0, 0, 0, 1:3] = 1, 2, 3, 5
    else:
        target[0, 1:8, 1:8, 1:6], target[1, 2:5, 2:6, 2:4], target[2, 3, 3:5, 3] = 1, 1, 1
        target[3, 0, 0] = 1
    volume = Volume(np.zeros((1, 9, 8, 7)), np.diag([-0.8, -0.6, 2.5, 1.0]) + np.eye(4, k=3) * 12)
    return Prediction("c", table, volume.with_array(target), {"model": "unit test", "weights sha256": "0123abcd"})


def fields(path: Path) -> dict[str, str]:
    header = path.read_bytes().split(b"\n\n", 1)[0].decode("utf-8").splitlines()[1:]
    return dict(line.split(":=" if ":=" in line else ": ", 1) for line in header)


def test_fields_of_labels(tmp_path: Path) -> None:
    for name in ("a", "b"):
        seg_nrrd.write(prediction(), tmp_path / f"{name}.seg.nrrd", seg_nrrd.Options())
    assert (tmp_path / "a.seg.nrrd").read_bytes() == (tmp_path / "b.seg.nrrd").read_bytes()
    found = fields(tmp_path / "a.seg.nrrd")
    assert (found["type"], found["sizes"], found["dimension"]) == ("unsigned short", "9 8 7", "3")
    assert found["medseg_weights sha256"] == "0123abcd"
    assert [found[f"Segment{n}_Name"] for n in range(4)] == [
        "liver",
        "left kidney",
        "right_kidney_tumour",
        "a|b ~c^\\n\\\\d",
    ]
    assert "Segment4_ID" not in found  # of the label without voxels
    assert [found[f"Segment{n}_LabelValue"] for n in range(4)] == ["5", "9", "3", "300"]
    assert [found[f"Segment{n}_Extent"] for n in range(3)] == ["1 3 2 6 3 3", "5 5 1 2 2 5", "8 8 7 7 6 6"]
    colours = [[round(float(part) * 255) for part in found[f"Segment{n}_Color"].split()] for n in range(4)]
    assert colours == [list(TABLE.labels[place].colour) for place in (0, 1, 2, 4)]
    types = [found[f"Segment{n}_Tags"].split("~")[2:4] for n in range(3)]
    assert types == [
        ["SCT^10200004^Liver", "^^"],
        ["SCT^64033007^Kidney", "SCT^7771000^Left"],
        ["SCT^108369006^Neoplasm", "^^"],
    ]
    assert found["Segment2_Tags"].split("~")[5:] == ["SCT^64033007^Kidney", "SCT^24028007^Right|"]
    own = found["Segment3_Tags"]
    assert own.startswith("TerminologyEntry:Segmentation category and type") and own.count("~") == 6
    assert own.count("^") == 10 and own.count("|") == 1


def test_regions_lie_in_layers(tmp_path: Path) -> None:
    seg_nrrd.write(prediction(REGIONS), tmp_path / "a.seg.nrrd", seg_nrrd.Options())
    found = fields(tmp_path / "a.seg.nrrd")
    assert (found["sizes"], found["kinds"].split()[0]) == ("3 9 8 7", "list")
    assert found["space directions"].startswith("none (")
    assert [found[f"Segment{n}_Layer"] for n in range(4)] == ["0", "1", "2", "0"]  # the last has room in the first
    back = readers.read(tmp_path / "a.seg.nrrd")
    assert back.channels == REGIONS.names and back.source.notes["segments"] == dict(enumerate(REGIONS.names, start=1))
    np.testing.assert_array_equal(back.array, prediction(REGIONS).target.array)


def test_voxels_lie_where_itk_expects_them(tmp_path: Path) -> None:
    seg_nrrd.write(prediction(), tmp_path / "a.seg.nrrd", seg_nrrd.Options())
    image = sitk.ReadImage(str(tmp_path / "a.seg.nrrd"))
    assert image[8, 7, 6] == 3 and image[0, 0, 1] == 300
    x, y, z = image.TransformIndexToPhysicalPoint((8, 7, 6))
    np.testing.assert_allclose((prediction().target.affine @ [8, 7, 6, 1])[:3], [-x, -y, z], atol=1e-12)
    back = readers.read(tmp_path / "a.seg.nrrd")
    np.testing.assert_array_equal(back.array, prediction().painted().array)
    assert back.source.notes["segments"] == {
        5: "liver",
        9: "left kidney",
        3: "right_kidney_tumour",
        300: "a|b ~c^\n\\d",
    }


def test_nothing_segmented_names_what_was_looked_for(tmp_path: Path) -> None:
    empty = replace(prediction(), target=prediction().target.with_array(np.zeros((1, 9, 8, 7), np.uint8)))
    seg_nrrd.write(empty, tmp_path / "a.seg.nrrd", seg_nrrd.Options())
    found = fields(tmp_path / "a.seg.nrrd")
    assert [found[f"Segment{n}_Extent"] for n in range(5)] == ["0 -1 0 -1 0 -1"] * 5


@pytest.mark.parametrize(("honest", "wrong"), [("_Layer:=0", "_Layer:=7"), ("_LabelValue:=5", "_LabelValue:=liver")])
def test_fields_that_make_no_sense_are_refused(tmp_path: Path, honest: str, wrong: str) -> None:
    seg_nrrd.write(prediction(), tmp_path / "a.seg.nrrd", seg_nrrd.Options())
    content = (tmp_path / "a.seg.nrrd").read_bytes()
    (tmp_path / "a.seg.nrrd").write_bytes(content.replace(honest.encode(), wrong.encode(), 1))
    with pytest.raises(Refusal, match="a name, a number and a layer for every segment"):
        readers.read(tmp_path / "a.seg.nrrd")


IN_SLICER = """
import json, sys
import vtk, slicer
from vtk.util.numpy_support import vtk_to_numpy
scene = slicer.vtkMRMLScene()
node = slicer.vtkMRMLSegmentationNode()
scene.AddNode(node)
storage = slicer.vtkMRMLSegmentationStorageNode()
scene.AddNode(storage)
storage.SetFileName(sys.argv[1])
assert storage.ReadData(node), "not read"
segmentation, found = node.GetSegmentation(), []
for n in range(segmentation.GetNumberOfSegments()):
    segment = segmentation.GetNthSegment(n)
    image = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation(segmentation.GetNthSegmentID(n), image)
    to_world = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(to_world)
    voxels = []
    if image.GetPointData().GetScalars():
        i0, _, j0, _, k0, _ = image.GetExtent()
        x, y, z = image.GetDimensions()
        array = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(z, y, x)
        for k, j, i in zip(*(axis.tolist() for axis in array.nonzero())):
            voxels.append(to_world.MultiplyPoint((i + i0, j + j0, k + k0, 1))[:3])
    tag = vtk.mutable("")
    segment.GetTag("TerminologyEntry", tag)
    found.append({"name": segment.GetName(), "colour": segment.GetColor(), "terminology": str(tag), "voxels": voxels})
print(json.dumps(found))
"""


@judge.needed
@pytest.mark.parametrize("table", [TABLE, REGIONS], ids=["labels", "regions"])
def test_slicer_reads_names_colours_codes_and_voxels(tmp_path: Path, table: LabelTable) -> None:
    made = prediction(table)
    seg_nrrd.write(made, tmp_path / "a.seg.nrrd", seg_nrrd.Options())
    (tmp_path / "read.py").write_text(IN_SLICER, encoding="utf-8")
    done = subprocess.run(
        [judge.PYTHON, str(tmp_path / "read.py"), str(tmp_path / "a.seg.nrrd")],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    shown = list(made.table.boxes(made.target.array))
    assert [segment["name"] for segment in found] == [table.names[position] for position in shown]
    for segment, position in zip(found, shown, strict=True):
        np.testing.assert_allclose(segment["colour"], np.array(table.labels[position].colour) / 255, atol=1e-5)
        coded, entry = codes.of(table.labels[position]), segment["terminology"].split("~")
        assert entry[1].startswith(f"{coded.category.scheme}^{coded.category.value}^")
        assert entry[2].startswith(f"{coded.kind.scheme}^{coded.kind.value}^")
        assert entry[5].startswith(f"SCT^{coded.site.value}^" if coded.site else "^^")
        wanted = np.argwhere(made.mask(position)) @ made.target.affine[:3, :3].T + made.target.affine[:3, 3]
        assert {tuple(np.round(place, 4)) for place in segment["voxels"]} == {tuple(np.round(one, 4)) for one in wanted}


def test_the_voxels_are_a_gzip_stream_of_their_own(tmp_path: Path) -> None:
    seg_nrrd.write(prediction(), tmp_path / "a.seg.nrrd", seg_nrrd.Options())
    data = gzip.decompress((tmp_path / "a.seg.nrrd").read_bytes().split(b"\n\n", 1)[1])
    np.testing.assert_array_equal(np.frombuffer(data, "<u2").reshape(7, 8, 9).T, prediction().painted().array[0])
