"""Scans as volume nodes, and what lies where in millimetres: without a word of the extension's own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

import slicer

NUMBERS = {"liver": 1, "spleen": 2, "Gefäß": 7}


def nodes(scene: Any) -> list[Any]:
    return [scene.GetNthNode(number) for number in range(scene.GetNumberOfNodes())]


def matrix(array: np.ndarray) -> Any:
    made = vtk.vtkMatrix4x4()
    made.DeepCopy(array.ravel().tolist())
    return made


def volume(scene: Any, array: np.ndarray, affine: np.ndarray, name: str = "Schädel CT") -> Any:
    """A scalar volume node of an (I, J, K) array."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    image = vtk.vtkImageData()
    image.SetDimensions(*array.shape)
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(array.T).ravel(), deep=True))
    node.SetAndObserveImageData(image)
    node.SetIJKToRASMatrix(matrix(affine))
    return node


def transform(scene: Any, world: np.ndarray, *nodes: Any) -> Any:
    """A linear transform node above the nodes."""
    made = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Verschiebung")
    made.SetMatrixTransformToParent(matrix(world))
    for node in nodes:
        node.SetAndObserveTransformNodeID(made.GetID())
    return made


def segmentation(scene: Any, volume: Any, masks: dict[str, np.ndarray], name: str = "Korrektur") -> Any:
    """A segmentation node with a segment for each (I, J, K) mask on the volume's grid, cropped as Slicer crops it."""
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    to_ras = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(to_ras)
    for label, mask in masks.items():
        found = np.argwhere(mask)
        low, high = found.min(0), found.max(0)
        box = mask[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))]
        image = slicer.vtkOrientedImageData()
        image.SetExtent(*(int(end) for pair in zip(low, high, strict=True) for end in pair))
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        scalars = vtk_to_numpy(image.GetPointData().GetScalars())
        scalars[:] = np.ascontiguousarray(box.T).ravel()
        image.SetImageToWorldMatrix(to_ras)
        node.AddSegmentFromBinaryLabelmapRepresentation(image, label, [0.1, 0.2, 0.3])
    return node


def orders(array: np.ndarray, affine: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The same scan stored in each of the 48 orders of its axes."""
    for axes in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            turn = np.zeros((4, 4))
            turn[3, 3] = 1
            for new, (old, sign) in enumerate(zip(axes, signs, strict=True)):
                turn[old, new] = sign
                turn[old, 3] = 0 if sign > 0 else array.shape[old] - 1
            flips = tuple(slice(None, None, sign) for sign in signs)
            yield np.ascontiguousarray(array.transpose(axes)[flips]), affine @ turn


def at(segmentation: Any, segment: str, points: np.ndarray) -> np.ndarray:
    """Whether the segment of this name covers the points (n, 3) in RAS mm."""
    content = segmentation.GetSegmentation()
    image = slicer.vtkOrientedImageData()
    segmentation.GetBinaryLabelmapRepresentation(content.GetSegmentIdBySegmentName(segment), image)
    to_world = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(to_world)
    back = np.linalg.inv(np.array([[to_world.GetElement(i, j) for j in range(4)] for i in range(4)]))
    places = points @ back[:3, :3].T + back[:3, 3]
    found = np.rint(places).astype(int)
    assert np.abs(places - found).max() < 1e-3, "the segments lie on another grid"
    first = np.array(image.GetExtent()[::2])
    sizes = np.array(image.GetDimensions())
    inside = ((found >= first) & (found < first + sizes)).all(1)
    voxels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(sizes[::-1])
    held = np.zeros(len(points), bool)
    i, j, k = (found[inside] - first).T
    held[inside] = voxels[k, j, i] != 0
    return held


def centres(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """RAS mm of all voxels of a grid, (n, 3), the last axis fastest."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 3)
    return index @ affine[:3, :3].T + affine[:3, 3]


def differing(segmentation: Any, labels: np.ndarray, affine: np.ndarray, numbers: dict[str, int]) -> dict[str, int]:
    """In how many voxels each segment differs from a label map (I, J, K), looked up in RAS; those that the segment has
    beside the map's grid count, too."""
    points, wrong = centres(labels.shape, affine), {}
    for name, number in numbers.items():
        held = at(segmentation, name, points)
        image = slicer.vtkOrientedImageData()
        key = segmentation.GetSegmentation().GetSegmentIdBySegmentName(name)
        segmentation.GetBinaryLabelmapRepresentation(key, image)
        everywhere = np.count_nonzero(vtk_to_numpy(image.GetPointData().GetScalars()))
        wrong[name] = int((held != (labels == number).ravel()).sum()) + int(everywhere - held.sum())
    return wrong
