"""Segmentations that reach beyond the scan, or hold what cannot be told apart; no medseg in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapes
import vtk
from vtk.util.numpy_support import vtk_to_numpy

import slicer
from MedSegLib import nrrd, segments, tables
from MedSegLib import scene as work
from MedSegLib.cases import SavedCase
from MedSegLib.models import Label
from MedSegLib.panel import loop
from MedSegLib.work import DONE, Outcome

LABELS = (Label(1, "liver", (255, 0, 0), "", ""), Label(2, "spleen", (0, 255, 0), "", ""))
WHOLE, AFFINE = (30, 28, 26), np.diag([1.0, 1.0, 2.0, 1.0])


def ball(centre: tuple[int, int, int], radius: int) -> np.ndarray:
    index = np.stack(np.meshgrid(*map(np.arange, WHOLE), indexing="ij"), -1)
    return np.linalg.norm(index - np.array(centre), axis=-1) < radius


def moved(start: tuple[float, ...]) -> np.ndarray:
    affine = AFFINE.copy()
    affine[:3, 3] = AFFINE[:3, :3] @ start
    return affine


def numbers(path: Path) -> np.ndarray:
    """(I, J, K) of a file in one layer."""
    (layer,) = nrrd.voxels(nrrd.header(path))
    return layer


@pytest.mark.parametrize("as_shown", [True, False])
@pytest.mark.parametrize("start", [(8, 7, 6), (0, 0, 0), (8, 0, 13)], ids=["low", "high", "both"])
@pytest.mark.parametrize("names", [("liver",), ("liver", "spleen")], ids=len)
def test_what_reaches_beyond_a_cropped_scan_is_cut_off_and_told(
    scene: Any, names: tuple[str, ...], start: tuple[int, int, int], as_shown: bool, tmp_path: Path
) -> None:
    size, masks = (16, 14, 13), {"liver": ball((10, 10, 12), 8), "spleen": ball((18, 20, 13), 3)}
    masks = {name: masks[name] for name in names}
    masks["liver"] = masks["liver"] & ~masks.get("spleen", np.False_)
    drawn_on = shapes.volume(scene, np.zeros(WHOLE, np.int16), AFFINE, "ganz")
    volume = shapes.volume(scene, np.zeros(size, np.int16), moved(start), "Ausschnitt")
    node = shapes.segmentation(scene, drawn_on, masks)
    written = segments.write_labels(node, volume, tmp_path / "x.seg.nrrd", labels=LABELS, as_shown=as_shown)
    box = tuple(slice(a, a + b) for a, b in zip(start, size, strict=True))
    wanted = {name: mask[box] for name, mask in masks.items()}
    cut = {name: int(mask.sum() - wanted[name].sum()) for name, mask in masks.items()}
    assert cut["liver"] > 0
    assert written.cut == {name: count for name, count in cut.items() if count}
    assert f"liver ({cut['liver']} voxels)" in " ".join(written.notes)
    expected = sum(number * wanted[name] for number, name in enumerate(names, start=1))
    assert numbers(tmp_path / "x.seg.nrrd").shape == size
    assert (numbers(tmp_path / "x.seg.nrrd") == expected).all()


def test_who_saves_a_case_hears_what_was_cut_off() -> None:
    said: list[tuple[str, str]] = []
    saved = SavedCase("case-1", "P1", None, (), 3, 2)
    notes = segments.Written(("Knochen",), (), {"liver": 7}, ()).notes
    loop._saved(Outcome(DONE, facts={"saved": saved}), notes, lambda *heard: said.append(heard))
    ((level, text),) = said
    assert level == "look"
    assert "no such label: Knochen. Cut off, since it lies outside of the volume: liver (7 voxels)." in text


def test_a_segment_of_which_nothing_is_left_is_told(scene: Any, tmp_path: Path) -> None:
    """One lies outside, and one between the voxels of a coarser scan."""
    drawn_on = shapes.volume(scene, np.zeros(WHOLE, np.int16), AFFINE, "ganz")
    coarse = shapes.volume(scene, np.zeros((6, 6, 6), np.int16), AFFINE @ np.diag([4.0, 4, 4, 1]), "grob")
    dot = np.zeros(WHOLE, bool)
    dot[6, 6, 6] = True
    masks = {"liver": ball((8, 8, 8), 6), "spleen": dot}
    written = segments.write_labels(
        shapes.segmentation(scene, drawn_on, masks), coarse, tmp_path / "x.seg.nrrd", labels=LABELS
    )
    assert (written.lost, written.cut) == (("spleen",), {})
    assert written.notes == ("Nothing is left on the voxels of the volume of spleen.",)
    masks["spleen"] = ball((27, 25, 23), 2)
    written = segments.write_labels(
        shapes.segmentation(scene, drawn_on, masks), coarse, tmp_path / "x.seg.nrrd", labels=LABELS
    )
    assert (written.lost, list(written.cut)) == (("spleen",), ["spleen"])


@pytest.mark.parametrize("start", [(600, 0, 0), (-31, 0, 0), (0, 0.4, -500)])
def test_a_segmentation_beside_the_scan_is_refused(scene: Any, start: tuple[float, ...], tmp_path: Path) -> None:
    drawn_on = shapes.volume(scene, np.zeros(WHOLE, np.int16), AFFINE, "Patient A")
    other = shapes.volume(scene, np.zeros(WHOLE, np.int16), moved(start), "Patient B")
    node = shapes.segmentation(scene, drawn_on, {"liver": ball((10, 10, 12), 8)})
    with pytest.raises(work.Trouble, match="Korrektur lies beside the volume Patient B: not one voxel of it is within"):
        segments.write_labels(node, other, tmp_path / "x.seg.nrrd", labels=LABELS)
    assert not (tmp_path / "x.seg.nrrd").exists()


def renamed(scene: Any, *names: str) -> Any:
    """A segmentation node with a segment of 1, 2, ... voxels for each name, and the volume that it lies on."""
    volume = shapes.volume(scene, np.zeros(WHOLE, np.int16), AFFINE)
    masks = {}
    for number in range(len(names)):
        masks[str(number)] = np.zeros(WHOLE, bool)
        masks[str(number)][: number + 1, 2 * number, 5] = True
    node = shapes.segmentation(scene, volume, masks)
    for number, name in enumerate(names):
        node.GetSegmentation().GetNthSegment(number).SetName(name)
    return node, volume


def test_two_segments_of_one_name_are_refused_where_they_are_wanted(scene: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.seg.nrrd"
    node, volume = renamed(scene, "liver", "spleen", "Liver")
    with pytest.raises(work.Trouble, match="Korrektur has 2 segments called 'liver'"):
        segments.write_labels(node, volume, path, labels=LABELS)
    assert segments.write_labels(node, volume, path).notes == ()  # their names differ
    node, volume = renamed(scene, "Gefäß", "liver", "Gefäß")
    assert segments.write_labels(node, volume, path, labels=LABELS).unknown == ("Gefäß", "Gefäß")
    with pytest.raises(work.Trouble, match="2 segments called 'Gefäß'"):
        segments.write_labels(node, volume, path)


def test_volumes_of_segments_of_one_name_are_rows_of_their_own(scene: Any) -> None:
    node, _ = renamed(scene, "liver", "spleen", "liver", "liver")
    voxel_ml = 2 / 1000
    assert tables.counted(node) == pytest.approx(
        {"liver": voxel_ml, "spleen": 2 * voxel_ml, "liver (2)": 3 * voxel_ml, "liver (3)": 4 * voxel_ml}
    )


def test_voxels_below_zero_belong_to_no_segment(scene: Any, tmp_path: Path) -> None:
    """Other programs use them for what is not known."""
    volume = shapes.volume(scene, np.zeros(WHOLE, np.int16), AFFINE)
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Korrektur")
    image = slicer.vtkOrientedImageData()
    image.SetExtent(0, 29, 0, 27, 0, 25)
    image.AllocateScalars(vtk.VTK_SHORT, 1)
    image.SetImageToWorldMatrix(shapes.matrix(AFFINE))
    voxels = vtk_to_numpy(image.GetPointData().GetScalars())
    voxels[:] = 0
    voxels[5:25] = -1
    voxels[100:107] = 1
    node.AddSegmentFromBinaryLabelmapRepresentation(image, "liver", [0.1, 0.2, 0.3])
    assert tables.counted(node) == pytest.approx({"liver": 7 * 2 / 1000})
    segments.write_labels(node, volume, tmp_path / "x.seg.nrrd", labels=LABELS)
    assert int(np.count_nonzero(numbers(tmp_path / "x.seg.nrrd"))) == 7


def test_a_label_map_is_no_scan(scene: Any, tmp_path: Path) -> None:
    node = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "alte Labels")
    image = vtk.vtkImageData()
    image.SetDimensions(3, 3, 3)
    image.AllocateScalars(vtk.VTK_SHORT, 1)
    node.SetAndObserveImageData(image)
    for act in (lambda: work.described(node), lambda: work.write_volume(node, tmp_path / "x.nrrd")):
        with pytest.raises(work.Trouble, match="alte Labels is a label map, not a scan"):
            act()
