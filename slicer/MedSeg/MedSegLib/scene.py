"""Scans out of Slicer's scene as files, and results into it as nodes.

All matrices are 4 x 4 and take voxels i, j, k to millimetres, RAS. "As shown" is under the node's parent transforms.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import vtk

import slicer
from MedSegLib import box
from MedSegLib.trouble import Trouble

UNCERTAINTY_COLOURS = "vtkMRMLColorTableNodeIron"
FLAT = 1e9
"""Condition of a matrix that leaves an axis no length, but for rounding."""


@dataclass(frozen=True)
class Scan:
    """What is known of a volume node without its voxels: name; CT, MR, ... or empty; voxels and mm along i, j, k."""

    name: str
    modality: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]


def described(volume: Any) -> Scan:
    """The volume node as it is shown.

    Raises:
        Trouble: it has no voxels, or several values a voxel.
    """
    refuse_unfit(volume)
    i, j, k = volume.GetImageData().GetDimensions()
    x, y, z = (float(length) for length in np.linalg.norm(own_matrix(volume)[:3, :3], axis=0))
    return Scan(volume.GetName(), _modality(volume), (i, j, k), (x, y, z))


def shown(volume: Any, *, harden: bool = True) -> np.ndarray:
    """Where the volume's voxels are shown.

    Args:
        harden: whether it may be under a transform.

    Raises:
        Trouble: it is under a transform that bends space, or that is not wanted.
    """
    transform = volume.GetParentTransformNode()
    if transform is not None and not harden:
        raise Trouble(
            f"{volume.GetName()} is under the transform {transform.GetName()}.",
            "Harden the transform in the module Transforms or Data, or allow that a hardened copy is sent.",
            "transform",
        )
    return to_world(volume) @ own_matrix(volume)


def stamp(volume: Any) -> tuple[int, bytes]:
    """Is another one once the volume node has other voxels, as of the next image of a sequence, or another place."""
    scalars = volume.GetImageData().GetPointData().GetScalars() if volume.GetImageData() else None
    try:
        place = shown(volume).tobytes()
    except Trouble:  # bent meanwhile
        place = b""
    return scalars.GetMTime() if scalars else 0, place


def write_volume(volume: Any, path: Path, *, harden: bool = True) -> str:
    """Write the volume node as NRRD, without packing, where it is shown; the node itself is not touched.

    Args:
        harden: whether a volume under a transform is written as it is shown, or refused.

    Returns:
        A line for the log, empty where there is nothing to tell.

    Raises:
        Trouble: it cannot be a scan, is under a transform that bends space or that is not wanted, or the disk is full.
    """
    refuse_unfit(volume)
    transform = volume.GetParentTransformNode()
    copy = slicer.vtkMRMLScalarVolumeNode()  # without the name and the attributes, which may say who it is
    copy.SetAndObserveImageData(volume.GetImageData())
    copy.SetIJKToRASMatrix(matrix_of(shown(volume, harden=harden)))
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    storage.SetUseCompression(0)
    if not storage.WriteData(copy) or not path.exists():
        raise Trouble(
            f"{volume.GetName()} could not be written to {path.parent}.",
            "Look whether that disk has room and may be written to; another folder for temporary files can be set in "
            "Slicer's settings.",
            "write",
        )
    if transform is None:
        return ""
    return f"{volume.GetName()}: sent as it is shown, under the transform {transform.GetName()}"


def roi_text(roi: Any, volume: Any) -> str:
    """What `medseg predict --roi` takes: all voxels that the box around the ROI node touches, in the volume as
    `write_volume` writes it. A rotated ROI gets the smallest box along the scan's own axes. Empty: all.

    Raises:
        Trouble: it lies beside the volume, or is not placed yet.
    """
    if not roi.IsA("vtkMRMLMarkupsROINode") or roi.GetNumberOfControlPoints() == 0 or min(roi.GetSize()) <= 0:
        raise Trouble(f"The ROI {roi.GetName()} has no box yet.", "Draw it around the part that you want.", "roi")
    shape = volume.GetImageData().GetDimensions()
    try:
        points = box.corners(array_of(roi.GetObjectToWorldMatrix()), roi.GetSize())
        return box.text(box.around(points, shown(volume), shape), shape)
    except ValueError:
        raise Trouble(
            f"The ROI {roi.GetName()} lies beside the volume {volume.GetName()}.",
            "Move it into the volume, or choose none to segment all of it.",
            "roi",
        ) from None


@contextmanager
def adding(scene: Any) -> Iterator[None]:
    """What is added within is one step of undo, and is removed again if something goes wrong."""
    scene.SaveStateForUndo()
    before = set(_nodes(scene))
    try:
        yield
    except BaseException:
        for node in _nodes(scene):
            if node not in before:
                scene.RemoveNode(node)
        raise
    for node in _nodes(scene):
        if node not in before:
            node.SetUndoEnabled(True)


def add_segmentation(scene: Any, path: Path, name: str, volume: Any) -> Any:
    """Read a .seg.nrrd as a segmentation node on the grid of the volume node, and beside it in the subject hierarchy.
    The file has to be whole, see `local`: Slicer's reader would end Slicer.

    Raises:
        Trouble: it cannot be read.
    """
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", scene.GenerateUniqueName(name))
    _read(slicer.vtkMRMLSegmentationStorageNode(), path, node)
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    node.CreateDefaultDisplayNodes()
    _beside(scene, volume, node)
    return node


def add_map(scene: Any, path: Path, name: str, volume: Any) -> Any:
    """Read an uncertainty map as a scalar volume node, dark where the model was sure.

    Raises:
        Trouble: it cannot be read.
    """
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(name))
    _read(slicer.vtkMRMLVolumeArchetypeStorageNode(), path, node)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID(UNCERTAINTY_COLOURS)
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(0.0, max(float(node.GetImageData().GetScalarRange()[1]), 1e-6))
    _beside(scene, volume, node)
    return node


def refuse_unfit(volume: Any) -> None:
    """Let only volume nodes pass that hold voxels of one value each.

    Raises:
        Trouble: it is none.
    """
    if not volume.IsA("vtkMRMLScalarVolumeNode"):
        raise Trouble(f"{volume.GetName()} is no volume of single values.", "Choose a scalar volume.", "channels")
    if volume.IsA("vtkMRMLLabelMapVolumeNode"):
        raise Trouble(f"{volume.GetName()} is a label map, not a scan.", "Choose the scan itself.", "channels")
    image = volume.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        raise Trouble(f"{volume.GetName()} holds no image.", "Load it again, or choose another volume.", "empty")
    if image.GetNumberOfScalarComponents() != 1 or volume.IsA("vtkMRMLDiffusionTensorVolumeNode"):
        raise Trouble(
            f"{volume.GetName()} has several values in each voxel: a colour image, a field of vectors or tensors, or a "
            "series in time.",
            "Make a scalar volume of one of them (module Vector to Scalar Volume, or Extract component).",
            "channels",
        )


def _modality(volume: Any) -> str:
    """As the subject hierarchy knows it from DICOM; Hounsfield units are CT."""
    if volume.GetScene() is not None:
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(volume.GetScene())
        item = hierarchy.GetItemByDataNode(volume) if hierarchy else 0
        if item:
            name = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMSeriesModalityAttributeName()
            known = hierarchy.GetItemAttribute(item, name)
            if known:
                return str(known)
    units = volume.GetVoxelValueUnits()
    return "CT" if units is not None and units.GetCodeValue() == "[hnsf'U]" else ""


def own_matrix(volume: Any) -> np.ndarray:
    """Of the volume node without its transforms."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return array_of(matrix)


def to_world(node: Any) -> np.ndarray:
    """What the node's parent transforms do, mm to mm.

    Raises:
        Trouble: they bend space, or press it flat.
    """
    transform, matrix = node.GetParentTransformNode(), vtk.vtkMatrix4x4()
    if transform is None:
        return np.eye(4)
    if not transform.IsTransformToWorldLinear():
        raise Trouble(
            f"{node.GetName()} is under the transform {transform.GetName()}, which bends space.",
            "Harden it (module Transforms): the volume is then resampled, and that is yours to decide.",
            "transform",
        )
    transform.GetMatrixTransformToWorld(matrix)
    found = array_of(matrix)
    if not np.linalg.cond(found[:3, :3]) < FLAT:
        raise Trouble(
            f"{node.GetName()} is under the transform {transform.GetName()}, which presses space flat.",
            "Look at its matrix (module Transforms): it scales an axis to nothing.",
            "transform",
        )
    return found


def _read(storage: Any, path: Path, node: Any) -> None:
    # The storage node is not kept: the file is gone soon, and Slicer would offer to save there.
    storage.SetFileName(str(path))
    if not storage.ReadData(node):
        raise Trouble(
            f"The result {path.name} could not be read.", "Run it again; see Slicer's error log.", "result", str(path)
        )


def _beside(scene: Any, volume: Any, node: Any) -> None:
    """Into the folder or study where the volume is."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item = hierarchy.GetItemByDataNode(volume) if hierarchy else 0
    if item:
        own = hierarchy.GetItemByDataNode(node)
        if own:
            hierarchy.SetItemParent(own, hierarchy.GetItemParent(item))
        else:
            hierarchy.CreateItem(hierarchy.GetItemParent(item), node)


def _nodes(scene: Any) -> list[Any]:
    return [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())]


def array_of(matrix: Any) -> np.ndarray:
    """Of a vtkMatrix4x4."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def matrix_of(matrix: np.ndarray) -> Any:
    """As a vtkMatrix4x4."""
    made = vtk.vtkMatrix4x4()
    for row in range(4):
        for column in range(4):
            made.SetElement(row, column, float(matrix[row, column]))
    return made
