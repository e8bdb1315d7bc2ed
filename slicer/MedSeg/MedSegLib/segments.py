"""Segmentation nodes as files: what a person has corrected, on the grid of the scan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
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
NEAR = 1e-3
"""Voxels: what is no further outside is so by rounding."""


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
    """What became of a segmentation.

    Attributes:
        unknown: names of segments that are no label of the model, and so are not in the file.
        missing: names of labels that have no segment.
        cut: by name of the segment, how many of its voxels lie outside of the volume, and so are not in the file.
        lost: names of segments of which nothing is in the file, though there are voxels of them.
    """

    unknown: tuple[str, ...]
    missing: tuple[str, ...]
    cut: Mapping[str, int]
    lost: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that the user ought to read: what was drawn and is not in the file."""
        found = []
        if self.unknown:
            found.append(f"Left out, since the model has no such label: {', '.join(self.unknown)}.")
        if self.cut:
            counts = ", ".join(f"{name} ({count} voxels)" for name, count in self.cut.items())
            found.append(f"Cut off, since it lies outside of the volume: {counts}.")
        if self.lost:
            found.append(f"Nothing is left on the voxels of the volume of {', '.join(self.lost)}.")
        return tuple(found)


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
        Trouble: no segment is one of the labels, two have one name, nothing of them lies in the volume, or one of the
            nodes is under a transform that bends space.
    """
    refuse_unfit(volume)
    every = segments(segmentation)
    match = labelfile.matched(every, labels) if labels else None
    numbers = match.numbers if match else {one.key: n for n, one in enumerate(every, start=1)}
    _refuse_unclear(segmentation.GetName(), every, numbers, labels)
    grid = shown(volume) if as_shown else own_matrix(volume)
    place = to_world(segmentation) if as_shown else np.linalg.inv(to_world(volume)) @ to_world(segmentation)
    shape = volume.GetImageData().GetDimensions()
    maps, drawn, left, cut = [], Counter[str](), Counter[str](), Counter[str]()
    for layer in layers(segmentation, [one.key for one in every if one.key in numbers]):
        laid = layer.on_grid(place, grid, shape)
        maps.append(laid.numbered(numbers))
        drawn.update(layer.counted())
        left.update(laid.counted())
        cut.update(layer.beyond(place, grid, shape))
    if any(drawn.values()) and not any(left.values()):
        raise Trouble(
            f"{segmentation.GetName()} lies beside the volume {volume.GetName()}: not one voxel of it is within.",
            "Choose the volume that it was drawn on.",
            "grids-differ",
        )
    names, by_number = {label.number: label for label in labels}, {numbers.get(one.key): one for one in every}
    kept = {n: _as_label(by_number[n], names.get(n)) for n in sorted(numbers.values())}
    labelfile.write(path, maps or [np.zeros(shape[::-1], np.uint8)], kept, grid)
    titles = {one.key: one.name for one in every}
    return Written(
        match.unknown if match else (),
        match.missing if match else (),
        {titles[key]: count for key, count in cut.items() if count},
        tuple(titles[key] for key, count in drawn.items() if count and not left[key]),
    )


def _refuse_unclear(name: str, every: Sequence[Segment], numbers: Mapping[str, int], labels: Sequence[Label]) -> None:
    if not every:
        raise Trouble(f"{name} has no segments.", "Choose another segmentation.", "labels")
    if not numbers:
        raise Trouble(
            f"No segment of {name} is one of {', '.join(label.name for label in labels)}.",
            "Give the segments the names that the model uses, in the Segment Editor.",
            "labels",
        )
    wanted = {label.name.casefold() for label in labels}
    counts = Counter(one.name.casefold() if labels else one.name for one in every)
    twice = [same for same, count in counts.items() if count > 1 and (same in wanted or not labels)]
    if twice:
        raise Trouble(
            f"{name} has {counts[twice[0]]} segments called '{twice[0]}'.",
            "Give each a name of its own in the Segment Editor, or make one of them (effect Logical operators, Add).",
            "labels",
        )


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
        if whole.dtype.kind == "i" and whole.min(initial=0) < 0:
            whole = np.maximum(whole, 0)  # numbers of segments begin at 1, and these would be looked up from behind
        return whole.reshape(self.image.GetDimensions()[::-1])

    def counted(self) -> dict[str, int]:
        """Voxels of each segment, by key."""
        return self._counted(plane.ravel() for plane in self.voxels)

    def _counted(self, pieces: Iterable[np.ndarray]) -> dict[str, int]:
        most = max(self.values.values())
        counts = np.zeros(most + 1, np.int64)
        for piece in pieces:  # all at once, eight bytes of each voxel would be made first
            counts += np.bincount(piece, minlength=most + 1)[: most + 1]
        return {key: int(counts[value]) for key, value in self.values.items()}

    def numbered(self, numbers: Mapping[str, int]) -> np.ndarray:
        """(K, J, I) of the segments' numbers in place of their values, and 0 where there is none of them."""
        voxels = self.voxels
        table = np.zeros(max(int(voxels.max(initial=0)), *self.values.values()) + 1, np.uint16)
        for key, value in self.values.items():
            table[value] = numbers[key]
        return table[voxels]

    def on_grid(self, place: np.ndarray, grid: np.ndarray, shape: tuple[int, int, int]) -> Layer:
        """The same on a grid, with the values of the nearest voxels where the image has another.

        Args:
            place: where the image is moved to before, mm to mm.
            grid: voxels i, j, k of the grid to mm.
            shape: of the grid, i, j, k.
        """
        here, there, out = (slicer.vtkOrientedImageData() for _ in range(3))
        here.ShallowCopy(self.image)
        here.SetImageToWorldMatrix(matrix_of(place @ self._matrix()))
        there.SetExtent(*(end for size in shape for end in (0, size - 1)))
        there.AllocateScalars(here.GetScalarType(), 1)
        there.SetImageToWorldMatrix(matrix_of(grid))
        # not padded: an image that reaches beyond the grid would make the grid larger, and begin at another voxel
        slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
            here, there, out, False, False
        )
        return Layer(out, self.values)

    def beyond(self, place: np.ndarray, grid: np.ndarray, shape: tuple[int, int, int]) -> dict[str, int]:
        """Voxels of each segment, by key, whose centres lie outside of a grid; see `on_grid`."""
        index, size = np.linalg.inv(grid) @ place @ self._matrix(), np.array(shape)[:, None]
        extent = self.image.GetExtent()

        def out(i: np.ndarray, j: np.ndarray, k: np.ndarray) -> np.ndarray:
            at = index[:3] @ np.stack([i + extent[0], j + extent[2], k + extent[4], np.ones(len(i))])
            return ((at < -0.5 - NEAR) | (at > size - 0.5 + NEAR)).any(0)

        last = np.array(self.image.GetDimensions()) - 1
        corners = np.array([[n & 1, n >> 1 & 1, n >> 2] for n in range(8)]) * last
        if not out(*corners.T).any():  # as it mostly is
            return {}

        def pieces() -> Iterator[np.ndarray]:
            for k, plane in enumerate(self.voxels):
                j, i = np.nonzero(plane)
                yield plane[j, i][out(i, j, np.full(len(i), k))]

        return self._counted(pieces())

    def _matrix(self) -> np.ndarray:
        """Voxels to mm."""
        matrix = vtk.vtkMatrix4x4()
        self.image.GetImageToWorldMatrix(matrix)
        return array_of(matrix)


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
