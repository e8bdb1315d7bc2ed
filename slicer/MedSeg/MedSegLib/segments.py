"""Segmentation nodes as files: what a person has corrected, on the grid of the scan."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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

LABEL_MAP = "Binary labelmap"


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
            colours. Without any: all segments, numbered from 1.
        as_shown: the grid is that of `write_volume`; else the one that the volume has without its transforms, as its
            DICOM files have it.

    Raises:
        Trouble: no segment is one of the labels, or one of the nodes is under a transform that bends space.
    """
    refuse_unfit(volume)
    every = segments(segmentation)
    match = labelfile.matched(every, labels) if labels else None
    numbers = match.numbers if match else {one.key: n for n, one in enumerate(every, start=1)}
    if not every:
        raise Trouble(f"{segmentation.GetName()} has no segments.", "Choose another segmentation.", "labels")
    if not numbers:
        raise Trouble(
            f"No segment of {segmentation.GetName()} is one of {', '.join(label.name for label in labels)}.",
            "Give the segments the names that the model uses, in the Segment Editor.",
            "labels",
        )
    grid = shown(volume) if as_shown else own_matrix(volume)
    place = to_world(segmentation) if as_shown else np.linalg.inv(to_world(volume)) @ to_world(segmentation)
    shape = volume.GetImageData().GetDimensions()
    wanted = layers(segmentation, [one.key for one in every if one.key in numbers])
    maps = [layer.numbered(numbers, layer.on_grid(place, grid, shape)) for layer in wanted]
    names, by_number = {label.number: label for label in labels}, {numbers.get(one.key): one for one in every}
    kept = {n: _as_label(by_number[n], names.get(n)) for n in sorted(numbers.values())}
    labelfile.write(path, maps or [np.zeros(shape[::-1], np.uint8)], kept, grid)
    return Written(match.unknown, match.missing) if match else Written((), ())


def _as_label(segment: Segment, label: Label | None) -> Segment:
    if label is None:
        return segment
    red, green, blue = (part / 255 for part in label.colour)
    return Segment(segment.key, label.name, (red, green, blue), segment.terminology)


@dataclass(frozen=True)
class Layer:
    """Voxels that several segments share, as Slicer keeps them.

    Attributes:
        image: vtkOrientedImageData of values.
        values: of the segments, by key.
    """

    image: Any
    values: dict[str, int]

    @property
    def voxels(self) -> np.ndarray:
        """(K, J, I) on the image's own extent."""
        flat = vtk_to_numpy(self.image.GetPointData().GetScalars())
        whole = flat if flat.dtype.kind in "iu" else flat.astype(np.int32)  # a map that came from elsewhere
        return whole.reshape(self.image.GetDimensions()[::-1])

    def numbered(self, numbers: Mapping[str, int], voxels: np.ndarray) -> np.ndarray:
        """The voxels with the segments' numbers in place of their values, and 0 where there is none of them."""
        table = np.zeros(max(int(voxels.max(initial=0)), *self.values.values()) + 1, np.uint16)
        for key, value in self.values.items():
            table[value] = numbers[key]
        return table[voxels]

    def on_grid(self, place: np.ndarray, grid: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """(K, J, I) values on a grid, those of the nearest voxels where the image has another.

        Args:
            place: where the image is moved to before, mm to mm.
            grid: voxels i, j, k of the grid to mm.
            shape: of the grid, i, j, k.
        """
        here, there, out = (slicer.vtkOrientedImageData() for _ in range(3))
        here.ShallowCopy(self.image)
        before = vtk.vtkMatrix4x4()
        here.GetImageToWorldMatrix(before)
        here.SetImageToWorldMatrix(matrix_of(place @ array_of(before)))
        there.SetExtent(*(end for size in shape for end in (0, size - 1)))
        there.AllocateScalars(here.GetScalarType(), 1)
        there.SetImageToWorldMatrix(matrix_of(grid))
        slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(here, there, out, False, True)
        return Layer(out, self.values).voxels


def layers(segmentation: Any, keys: Collection[str]) -> list[Layer]:
    """Where the segments with these keys are; of a segment without voxels there is none.

    Raises:
        Trouble: the segmentation holds no voxels, but surfaces.
    """
    if not segmentation.GetSegmentation().ContainsRepresentation(LABEL_MAP):
        raise Trouble(
            f"{segmentation.GetName()} holds no voxels, but surfaces or contours.",
            "Create its binary labelmap in the module Segmentations, under Representations.",
            "segments",
        )
    found: dict[Any, Layer] = {}  # by image: segments that share one are together
    for key in keys:
        image = segmentation.GetBinaryLabelmapInternalRepresentation(key)
        if image is not None and not image.IsEmpty():
            value = segmentation.GetSegmentation().GetSegment(key).GetLabelValue()
            found.setdefault(image, Layer(image, {})).values[key] = value
    return list(found.values())
