"""Volume nodes as files and files as nodes, beside 3D Slicer's own readers; no medseg in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapes
import vtk
from shapes import nodes

import slicer
from MedSegLib import scene as work
from MedSegLib import segments, tables
from MedSegLib.models import Label

IMAGE = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7) - 40
LIVER = Label(1, "liver", (221, 130, 101), "SCT:10200004", "Liver")
SPLEEN = Label(2, "spleen", (157, 108, 162), "SCT:78961009", "Spleen")
VESSEL = Label(7, "Gefäß", (10, 20, 30), "", "")
LABELS = (LIVER, SPLEEN, VESSEL)
ENTRY = "Segmentation category and type~SCT^123037004^Anatomical Structure~{}~^^~Anatomic codes~^^~^^"


def oblique() -> np.ndarray:
    """Left-handed, three voxel sizes, tilted about all axes."""
    turn = turned(20, 35, -15)
    turn[:3, :3] = turn[:3, :3] * (-0.7, 1.1, 3.3)
    turn[:3, 3] = (10.123456789, -20, 30)
    return turn


def turned(*degrees: float) -> np.ndarray:
    made = vtk.vtkTransform()
    made.RotateX(degrees[0])
    made.RotateY(degrees[1])
    made.RotateZ(degrees[2])
    return np.array([[made.GetMatrix().GetElement(i, j) for j in range(4)] for i in range(4)])


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(I, J, K) voxels and the matrix to RAS of an unpacked NRRD, by its own header."""
    header, voxels = path.read_bytes().split(b"\n\n", 1)
    fields = dict(line.split(": ", 1) for line in header.decode().splitlines() if re.match(r"[a-z ]+: ", line))
    assert (fields["space"], fields["encoding"]) == ("left-posterior-superior", "raw")
    kinds = {"short": "<i2", "float": "<f4", "double": "<f8", "unsigned char": "u1", "unsigned short": "<u2"}
    columns = re.findall(r"\(([^)]*)\)", f"{fields['space directions']} {fields['space origin']}")
    lps = np.eye(4)
    lps[:3] = np.array([[float(part) for part in column.split(",")] for column in columns]).T
    sizes = [int(size) for size in fields["sizes"].split()]
    array = np.frombuffer(voxels, kinds[fields["type"]]).reshape(sizes[::-1]).T
    return array, np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps


def balls(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Two that share voxels."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    centres = {"liver": (1.5, 2, 3), "Gefäß": (2.5, 3, 3)}
    return {name: (((index - centre) ** 2).sum(-1) < 4).astype(np.uint8) for name, centre in centres.items()}


def read_back(scene: Any, path: Path, volume: Any) -> Any:
    """By Slicer's own reader."""
    return work.add_segmentation(scene, path, "zurück", volume)


def tell(trouble: Any) -> str:
    return str(trouble.value.failure)


@pytest.mark.parametrize("kind", ["<i2", "<f4", "<f8", "u1", "<u2"])
def test_voxels_and_places_of_all_orders_of_axes_are_those_of_the_node(scene: Any, kind: str, tmp_path: Path) -> None:
    image = (IMAGE + (0 if kind[-2] in "if" else 40)).astype(kind)
    turns = list(shapes.orders(image, oblique()))
    for array, affine in turns if kind == "<i2" else turns[:1]:
        path = tmp_path / "Schädel.nrrd"
        assert work.write_volume(shapes.volume(scene, array, affine), path) == ""
        voxels, place = read(path)
        assert (voxels == array).all()
        assert np.allclose(place, affine, rtol=0, atol=1e-12)


def test_what_is_no_scan_is_refused_in_words(scene: Any, tmp_path: Path) -> None:
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "leer")
    colour = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "Foto")
    picture = vtk.vtkImageData()
    picture.SetDimensions(4, 4, 1)
    picture.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    colour.SetAndObserveImageData(picture)
    for node, words in (
        (empty, "leer holds no image. Load it again"),
        (colour, "Foto has several values in each voxel"),
        (scene.AddNewNodeByClass("vtkMRMLModelNode", "Netz"), "Netz is no volume of single values"),
        (scene.AddNewNodeByClass("vtkMRMLSequenceNode", "Herz"), "Herz is no volume of single values"),
    ):
        with pytest.raises(work.Trouble) as trouble:
            work.write_volume(node, tmp_path / "x.nrrd")
        assert words in tell(trouble)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_told(scene: Any, tmp_path: Path) -> None:
    (tmp_path / "Datei").write_text("a file where a folder should be")
    with pytest.raises(work.Trouble) as trouble:
        work.write_volume(shapes.volume(scene, IMAGE, oblique()), tmp_path / "Datei" / "x.nrrd")
    assert "could not be written" in tell(trouble)


def test_a_volume_under_a_transform_is_written_where_it_is_shown_and_stays_as_it_is(scene: Any, tmp_path: Path) -> None:
    volume, world = shapes.volume(scene, IMAGE, oblique()), turned(5, 10, 40)
    world[:3, 3] = (100, -7, 3)
    shapes.transform(scene, world, volume)
    before = volume.GetMTime()
    said = work.write_volume(volume, tmp_path / "x.nrrd")
    assert said == "Schädel CT: sent as it is shown, under the transform Verschiebung"
    assert np.allclose(read(tmp_path / "x.nrrd")[1], world @ oblique(), rtol=0, atol=1e-9)
    assert volume.GetMTime() == before
    assert volume.GetParentTransformNode() is not None


def test_a_transform_that_is_not_wanted_or_bends_space_is_refused(scene: Any, tmp_path: Path) -> None:
    volume = shapes.volume(scene, IMAGE, oblique())
    shapes.transform(scene, np.eye(4), volume)
    with pytest.raises(work.Trouble) as trouble:
        work.write_volume(volume, tmp_path / "x.nrrd", harden=False)
    assert "is under the transform Verschiebung. Harden the transform" in tell(trouble)
    bent = scene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "Atmung")
    spline = vtk.vtkThinPlateSplineTransform()
    bent.SetAndObserveTransformToParent(spline)
    volume.SetAndObserveTransformNodeID(bent.GetID())
    with pytest.raises(work.Trouble) as trouble:
        work.write_volume(volume, tmp_path / "x.nrrd")
    assert "Atmung, which bends space" in tell(trouble)


def test_a_transform_that_presses_space_flat_is_refused(scene: Any, tmp_path: Path) -> None:
    volume = shapes.volume(scene, IMAGE, oblique())
    shapes.transform(scene, turned(5, 10, 40) @ np.diag((1, 0, 1, 1)), volume)
    with pytest.raises(work.Trouble) as trouble:
        work.write_volume(volume, tmp_path / "x.nrrd")
    assert "Verschiebung, which presses space flat" in tell(trouble) and not list(tmp_path.iterdir())


def test_what_the_check_wants_to_know_of_a_volume(scene: Any) -> None:
    volume = shapes.volume(scene, IMAGE, oblique())
    scan = work.described(volume)
    assert (scan.name, scan.modality, scan.shape) == ("Schädel CT", "", (5, 6, 7))
    assert np.allclose(scan.spacing_mm, (0.7, 1.1, 3.3))
    units = slicer.vtkCodedEntry()
    units.SetValueSchemeMeaning("[hnsf'U]", "UCUM", "Hounsfield unit")
    volume.SetVoxelValueUnits(units)
    assert work.described(volume).modality == "CT"
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), volume)
    hierarchy.SetItemAttribute(item, "DICOM.Modality", "MR")
    assert work.described(volume).modality == "MR"


def roi(scene: Any, centre: np.ndarray, size: tuple[float, float, float]) -> Any:
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Kasten")
    node.SetCenter(*centre)
    node.SetSize(*size)
    return node


def test_a_roi_is_the_voxels_that_it_touches(scene: Any) -> None:
    affine = np.diag([-2.0, 2.0, 3.0, 1.0])
    volume = shapes.volume(scene, IMAGE, affine)
    box = roi(scene, affine[:3, :3] @ (2, 2.5, 3), (2 * 2, 2 * 2, 3 * 1))  # i 1 to 3, j 1.5 to 3.5, k 2.5 to 3.5
    assert work.roi_text(box, volume) == "1:4,2:4,3:4"
    assert work.roi_text(roi(scene, np.zeros(3), (200, 200, 200)), volume) == ""
    assert work.roi_text(roi(scene, affine[:3, :3] @ (0, 0, 6), (2, 2, 2)), volume) == "0:1,0:1,6:7"
    with pytest.raises(work.Trouble) as trouble:
        work.roi_text(roi(scene, np.array([500.0, 0, 0]), (5, 5, 5)), volume)
    assert tell(trouble).startswith("The ROI Kasten lies beside the volume Schädel CT. Move it")
    with pytest.raises(work.Trouble) as trouble:
        work.roi_text(scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Neu"), volume)
    assert "has no box yet" in tell(trouble)


def test_a_turned_roi_under_a_transform_on_a_tilted_volume(scene: Any) -> None:
    """Every voxel whose centre Slicer itself finds in the ROI is in the box, and each side of it is close to one."""
    image = np.zeros((24, 26, 10), np.int16)
    volume = shapes.volume(scene, image, oblique())
    box = roi(scene, np.zeros(3), (6, 4, 9))
    middle, world = turned(20, 0, 30), turned(0, 25, 0) @ np.diag([1.5, 1.0, 0.7, 1.0])
    middle[:3, 3] = np.linalg.inv(world)[:3, :3] @ (oblique() @ (12, 13, 5, 1))[:3]
    box.SetAndObserveObjectToNodeMatrix(shapes.matrix(middle))
    shapes.transform(scene, world, box)
    points = shapes.centres(image.shape, oblique())
    held = np.array([box.IsPointInROIWorld(list(point)) for point in points]).reshape(image.shape)
    assert held.sum() > 50
    inside = np.argwhere(held)
    spans = [tuple(map(int, span.split(":"))) for span in work.roi_text(box, volume).split(",")]
    for (first, after), low, high in zip(spans, inside.min(0), inside.max(0), strict=True):
        assert low - 2 <= first <= low
        assert high < after <= high + 3


def test_segments_of_a_person_become_a_file_on_the_grid_of_the_scan(scene: Any, tmp_path: Path) -> None:
    """Overlapping and cropped ones, for all orders of axes; Slicer reads back what was there."""
    truth, points = balls(IMAGE.shape), shapes.centres(IMAGE.shape, oblique())
    turned_round = [list(shapes.orders(mask, oblique())) for mask in truth.values()]
    for (liver, affine), (vessel, _) in zip(*turned_round, strict=True):
        volume = shapes.volume(scene, liver.astype(np.int16), affine)
        node = shapes.segmentation(scene, volume, {"liver": liver, "Gefäß": vessel})
        written = segments.write_labels(node, volume, tmp_path / "ä.seg.nrrd", labels=LABELS)
        assert (written.unknown, written.missing) == ((), ("spleen",))
        again = read_back(scene, tmp_path / "ä.seg.nrrd", volume)
        for name, mask in truth.items():
            assert (shapes.at(again, name, points) == (mask == 1).ravel()).all()
        for made in (volume, node, again):
            scene.RemoveNode(made)


def test_segments_that_share_voxels_of_one_map_stay_apart(scene: Any, tmp_path: Path) -> None:
    """As results come, and as Slicer keeps what does not overlap; of those that are not wanted nothing is written."""
    volume, masks = shapes.volume(scene, IMAGE, oblique()), balls(IMAGE.shape)
    masks["Gefäß"] &= 1 - masks["liver"]
    three = {**masks, "spleen": (np.arange(7) == 6) * np.ones(IMAGE.shape, np.uint8)}
    first, second = tmp_path / "1.seg.nrrd", tmp_path / "2.seg.nrrd"
    segments.write_labels(shapes.segmentation(scene, volume, three), volume, first, labels=LABELS)
    shared = read_back(scene, first, volume)
    assert len(segments.layers(shared, [one.key for one in segments.segments(shared)])) == 1
    voxel_ml = 0.7 * 1.1 * 3.3 / 1000
    assert tables.counted(shared) == pytest.approx({name: mask.sum() * voxel_ml for name, mask in three.items()})
    segments.write_labels(shared, volume, second, labels=(SPLEEN, VESSEL))
    again = read_back(scene, second, volume)
    assert shapes.differing(again, 2 * three["spleen"] + 7 * masks["Gefäß"], oblique(), {"spleen": 2, "Gefäß": 7}) == {
        "spleen": 0,
        "Gefäß": 0,
    }
    assert again.GetSegmentation().GetNumberOfSegments() == 2


def test_segments_get_the_numbers_names_and_colours_of_the_model(scene: Any, tmp_path: Path) -> None:
    volume, masks = shapes.volume(scene, IMAGE, oblique()), balls(IMAGE.shape)
    node = shapes.segmentation(
        scene, volume, {"LIVER": masks["liver"], "Milz": masks["Gefäß"], "Knochen": masks["liver"]}
    )
    tag = slicer.vtkSegment.GetTerminologyEntryTagName()
    node.GetSegmentation().GetNthSegment(1).SetTag(tag, ENTRY.format("SCT^78961009^Spleen"))
    written = segments.write_labels(node, volume, tmp_path / "x.seg.nrrd", labels=LABELS)
    assert (written.unknown, written.missing) == (("Knochen",), ("Gefäß",))
    content = read_back(scene, tmp_path / "x.seg.nrrd", volume).GetSegmentation()
    found = [content.GetNthSegment(n) for n in range(content.GetNumberOfSegments())]
    assert [(one.GetName(), one.GetLabelValue()) for one in found] == [("liver", 1), ("spleen", 2)]
    assert np.allclose([one.GetColor() for one in found], np.array([LIVER.colour, SPLEEN.colour]) / 255, atol=1e-5)
    assert segments.segments(node)[1].code == "SCT:78961009"


def test_a_segmentation_without_any_of_the_labels_is_refused(scene: Any, tmp_path: Path) -> None:
    volume = shapes.volume(scene, IMAGE, oblique())
    node = shapes.segmentation(scene, volume, {"Knochen": balls(IMAGE.shape)["liver"]})
    with pytest.raises(work.Trouble) as trouble:
        segments.write_labels(node, volume, tmp_path / "x.seg.nrrd", labels=LABELS)
    assert "No segment of Korrektur is one of liver, spleen, Gefäß." in tell(trouble)


@pytest.mark.parametrize("together", [True, False])
def test_segments_follow_transforms_as_the_scan_does(scene: Any, together: bool, tmp_path: Path) -> None:
    """Either both are under it, or the segmentation was made on the volume as it is shown."""
    truth, world = balls(IMAGE.shape), turned(5, 10, 40)
    world[:3, 3] = (100, -7, 3)
    volume = shapes.volume(scene, IMAGE, oblique())
    drawn_on = volume if together else shapes.volume(scene, IMAGE, world @ oblique(), "gehärtet")
    node = shapes.segmentation(scene, drawn_on, truth)
    shapes.transform(scene, world, *([volume, node] if together else [volume]))
    for as_shown, grid in ((True, world @ oblique()), (False, oblique())):
        path = tmp_path / f"{as_shown}.seg.nrrd"
        segments.write_labels(node, volume, path, as_shown=as_shown)
        again = read_back(scene, path, volume)
        for name, mask in truth.items():
            assert (shapes.at(again, name, shapes.centres(IMAGE.shape, grid)) == (mask == 1).ravel()).all()


def test_volumes_are_counted_in_ml_under_transforms_too(scene: Any) -> None:
    volume, masks = shapes.volume(scene, IMAGE, oblique()), balls(IMAGE.shape)
    node = shapes.segmentation(scene, volume, masks)
    voxel_ml = 0.7 * 1.1 * 3.3 / 1000
    expected = {name: mask.sum() * voxel_ml for name, mask in masks.items()}
    assert tables.counted(node) == pytest.approx(expected)
    shapes.transform(scene, np.diag([2.0, 1.0, 1.0, 1.0]), node)
    assert tables.counted(node) == pytest.approx({name: 2 * ml for name, ml in expected.items()})
    table = tables.add_volumes(scene, "Volumina", expected).GetTable()
    assert [table.GetColumnName(n) for n in range(2)] == ["Structure", "Volume [ml]"]
    rows = {table.GetValue(n, 0).ToString(): table.GetValue(n, 1).ToDouble() for n in range(2)}
    assert rows == pytest.approx(expected)


def test_a_result_that_cannot_be_read_leaves_the_scene_as_it_was(scene: Any, tmp_path: Path) -> None:
    volume = shapes.volume(scene, IMAGE, oblique())
    (tmp_path / "x.seg.nrrd").write_bytes(b"not a segmentation")
    before = [node.GetID() for node in nodes(scene)]
    with pytest.raises(work.Trouble) as trouble, work.adding(scene):
        tables.add_volumes(scene, "Volumina", {"liver": 1.0})
        work.add_segmentation(scene, tmp_path / "x.seg.nrrd", "Leber", volume)
    assert "The result x.seg.nrrd could not be read" in tell(trouble)
    assert [node.GetID() for node in nodes(scene)] == before


def test_one_step_of_undo_takes_back_all_that_was_added(scene: Any, tmp_path: Path) -> None:
    volume = shapes.volume(scene, IMAGE, oblique())
    path = tmp_path / "x.seg.nrrd"
    segments.write_labels(shapes.segmentation(scene, volume, balls(IMAGE.shape)), volume, path)
    scene.SetUndoOn()
    before = [node.GetID() for node in nodes(scene)]
    with work.adding(scene):
        work.add_segmentation(scene, path, "Leber", volume)
        tables.add_volumes(scene, "Volumina", {"liver": 1.0})
    assert len(nodes(scene)) == len(before) + 3  # the display of the segmentation is the third
    scene.Undo()
    assert [node.GetID() for node in nodes(scene)] == before


def test_a_result_lies_beside_its_volume(scene: Any, tmp_path: Path) -> None:
    volume, path = shapes.volume(scene, IMAGE, oblique()), tmp_path / "x.seg.nrrd"
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "2026")
    hierarchy.CreateItem(study, volume)
    segments.write_labels(shapes.segmentation(scene, volume, balls(IMAGE.shape)), volume, path)
    node = work.add_segmentation(scene, path, "Leber", volume)
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volume
    assert node.GetStorageNode() is None  # else Slicer would offer to save to a folder that is gone
    assert node.GetDisplayNode().GetVisibility()
