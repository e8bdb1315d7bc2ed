"""Segmentation nodes as files: what a person has corrected, on the grid of the scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import vtk
from vtk.util.numpy_support import vtk_to_numpy

import slicer
from MedSegLib import labelfile
from MedSegLib.labelfile import Segment
from MedSegLib.models import Label
from MedSegLib.scene import array_of, matrix_of, own_matrix, refuse_unfit, shown, to_world
from MedSegLib.trouble import Trouble


def segments(segmentation: Any) -> tuple[Segment, ...]:
    """What the segmentation node holds, in its order."""
    content, found = segmentation.GetSegmentation(), []
    for n in range(content.GetNumberOfSegments()):
        one = content.GetNthSegment(n)
        red, green, blue = one.GetColor()
        terminology = vtk.reference("")
        has = one.GetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), terminology)
        entry = str(terminology) if has else ""
        found.append(Segment(content.GetNthSegmentID(n), one.GetName(), (red, green, blue), entry))
    return tuple(found)


@dataclass(frozen=True)
class Written:
    """What became of a segmentation: names of segments that are no label of the model and so are not in the file, and
    of labels that have no segment."""

    unknown: tuple[str, ...]
    missing: tuple[str, ...]


def write_labels(
    segmentation: Any, volume: Any, path: Path, *, labels: Sequence[Label] = (), as_shown: bool = True
) -> Written:
    """Write the segmentation node as .seg.nrrd that covers the grid of the volume node.

    Args:
        labels: of a model: segments are matched to them by name, else by code, and get their numbers, names and
            colours. None: all segments, numbered from 1.
        as_shown: the grid is that of `write_volume`; else the one that the volume has without its transforms, as its
            DICOM files have it.

    Raises:
        Trouble: no segment is one of the labels, or one of the nodes is under a transform that bends space.
    """
    refuse_unfit(volume)
    every = segments(segmentation)
    match = labelfile.matched(every, labels) if labels else None
    numbers = match.numbers if match else {one.key: n for n, one in enumerate(every, start=1)}
    if not numbers:
        raise Trouble(
            f"No segment of {segmentation.GetName()} is one of {', '.join(one.name for one in labels) or 'any name'}.",
            "Give the segments the names that the model uses, in the Segment Editor.",
            "labels",
        )
    grid = shown(volume) if as_shown else own_matrix(volume)
    place = to_world(segmentation) if as_shown else np.linalg.inv(to_world(volume)) @ to_world(segmentation)
    masks = {one.key: _on_grid(segmentation, one, place, volume, grid) for one in every if one.key in numbers}
    by_number = {numbers[one.key]: one for one in every if one.key in numbers}
    names = {label.number: label for label in labels}
    kept = {n: _as_label(by_number[n], names[n]) if labels else by_number[n] for n in sorted(by_number)}
    labelfile.write(path, masks, kept, grid)
    return Written(match.unknown, match.missing) if match else Written((), ())


def _as_label(segment: Segment, label: Label) -> Segment:
    red, green, blue = (part / 255 for part in label.colour)
    return Segment(segment.key, label.name, (red, green, blue), segment.terminology)


def _on_grid(segmentation: Any, segment: Segment, place: np.ndarray, volume: Any, grid: np.ndarray) -> np.ndarray:
    """(K, J, I) of 0 and 1 on the grid, nearest voxels where the segment lies on another."""
    here, there, out = (slicer.vtkOrientedImageData() for _ in range(3))
    segmentation.GetBinaryLabelmapRepresentation(segment.key, here)
    i, j, k = volume.GetImageData().GetDimensions()
    if here.IsEmpty():
        return np.zeros((k, j, i), np.uint8)
    before = vtk.vtkMatrix4x4()
    here.GetImageToWorldMatrix(before)
    here.SetImageToWorldMatrix(matrix_of(place @ array_of(before)))
    there.SetExtent(0, i - 1, 0, j - 1, 0, k - 1)
    there.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    there.SetImageToWorldMatrix(matrix_of(grid))
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(here, there, out, False, True)
    return mask(out).reshape(k, j, i)


def mask(image: Any) -> np.ndarray:
    """Voxels of an image of one segment, 0 and 1, in its own order; none of an empty one."""
    scalars = None if image.IsEmpty() else image.GetPointData().GetScalars()
    return np.zeros(0, np.uint8) if scalars is None else (vtk_to_numpy(scalars) != 0).astype(np.uint8)
