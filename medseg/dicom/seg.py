"""Reading DICOM segmentation objects: BINARY, FRACTIONAL and LABELMAP, onto the even grid that their frames lie on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom.config
from pydicom.pixels import iter_pixels
from pydicom.pixels.utils import unpack_bits

from medseg.boundary import parsing
from medseg.dicom import geometry, headers, signature
from medseg.dicom.headers import Frame
from medseg.labels import Code
from medseg.refusal import Refusal

REMEDY = "copy or export the file again"
PIXEL_DATA = bytes.fromhex("e07f1000")
GRID_MM = 0.05
"""Frames may lie this far from an even grid; segmentations of other makers round their positions."""


@dataclass(frozen=True)
class Segment:
    """One entry of the segment sequence."""

    number: int
    label: str
    code: Code | None


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A segmentation object in space.

    Attributes:
        array: (1, I, J, K) segment numbers; or (S, I, J, K), one channel per segment, if segments overlap (uint8 of 0
            and 1) or hold fractions (float32, 0 to 1).
        affine: voxel index -> RAS+ mm. K covers the frames that are there: empty slices beyond them were never stored.
        patient_id: as in the file.
    """

    array: np.ndarray
    affine: np.ndarray
    segments: tuple[Segment, ...]
    patient_id: str

    def mask(self, position: int) -> np.ndarray:
        """Boolean (I, J, K) of `segments[position]`."""
        if len(self.array) == len(self.segments) > 1 or self.array.dtype.kind == "f":
            return self.array[position] > 0
        return self.array[0] == self.segments[position].number


def only_segmentation(folder: Path) -> Path | None:
    """The first DICOM file of a folder in which every DICOM file is a segmentation; else None."""
    first = None
    for file in signature.files(folder):
        if headers.sop_class(file) not in headers.SEGMENTATION_CLASSES:
            return None
        first = first or file
    return first


def read(path: Path) -> Segmentation:
    """Read a segmentation object.

    Raises:
        Refusal: damaged, not placed in patient space, or with frames that lie on no even grid.
    """
    with (
        parsing(path, needed="a readable DICOM segmentation", remedy=REMEDY),
        pydicom.config.disable_value_validation(),
    ):
        dataset: Any = pydicom.dcmread(path, stop_before_pixels=True)
        frames, unplaced = headers.planes(path, dataset)
        segments = tuple(_segment(item) for item in dataset.SegmentSequence)
        kind = str(dataset.get("SegmentationType", "BINARY"))
        numbers = segment_of_each_frame(dataset)
        scale = 1.0 / float(dataset.MaximumFractionalValue) if kind == "FRACTIONAL" else 0.0
        patient_id = str(dataset.get("PatientID", ""))
        declared_mm = _spacing_between_slices(dataset) if frames else 0.0
    if unplaced or len(numbers) != len(frames):
        raise Refusal(
            path,
            found=unplaced or f"{len(frames)} frames but segments for {len(numbers)}",
            needed="frames with a position in patient space and a segment",
            remedy="segmentations of photographs and projection images cannot be placed; use another format",
        )
    indices, affine, depth = _grid(path, frames, declared_mm)
    place = [(int(index), number) for index, number in zip(indices, numbers, strict=True)]
    shape = (depth, *frames[0].size)
    labels = None if kind == "FRACTIONAL" else _label_map(path, dataset, place, shape)
    stack = labels if labels is not None else _channels(path, dataset, place, (len(segments), *shape), segments, scale)
    return Segmentation(stack.transpose(0, 3, 2, 1), affine, segments, patient_id)


def _segment(item: Any) -> Segment:
    codes = item.get("SegmentedPropertyTypeCodeSequence")
    code = None
    if codes:
        parts = (codes[0].get(name, "") for name in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning"))
        code = Code(*(str(part) for part in parts))
    return Segment(int(item.SegmentNumber), str(item.get("SegmentLabel", "")), code)


def segment_of_each_frame(dataset: Any) -> list[int]:
    """Segment number per frame, from the frame's own functional group or the shared one; 0 in a label map."""
    if dataset.get("SegmentationType") == "LABELMAP":
        return [0] * len(dataset.PerFrameFunctionalGroupsSequence)
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [{}])[0]
    return [
        int(
            (group.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence"))[0][
                0x0062000B
            ].value
        )
        for group in dataset.PerFrameFunctionalGroupsSequence
    ]


def _spacing_between_slices(dataset: Any) -> float:
    """Distance of neighbouring slices as the file declares it, 0 if it does not."""
    for group in (*dataset.get("SharedFunctionalGroupsSequence", []), *dataset.PerFrameFunctionalGroupsSequence[:1]):
        for measures in group.get("PixelMeasuresSequence") or []:
            if measures.get("SpacingBetweenSlices") not in (None, ""):
                return abs(float(measures.SpacingBetweenSlices))
    return 0.0


def _grid(path: Path, frames: tuple[Frame, ...], declared_mm: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Slice index of each frame, affine and number of slices. Files leave out empty slices, so gaps of whole slices
    are normal here; what is refused is anything that fits no even grid."""
    facts = geometry.measure(frames)
    order = np.array(facts.order)
    heights = np.concatenate([[0.0], np.cumsum(facts.steps_mm)])
    span = heights[-1]
    apart = [step for step in facts.steps_mm if step > geometry.SAME_PLACE_MM]
    along = facts.affine[:3, 2] * (len(frames) - 1)
    indices = np.zeros(len(frames), dtype=int)
    affine = facts.affine.copy()
    if not apart:
        normal = np.cross(affine[:3, 0], affine[:3, 1])
        affine[:3, 2] = normal / np.linalg.norm(normal) * (declared_mm or frames[0].thickness_mm or 0.0)
        return indices, affine, 1
    for spacing in (declared_mm, min(apart)):
        if spacing <= 0 or round(span / spacing) < 1:
            continue
        count = round(span / spacing)
        nearest = np.rint(heights * count / span)
        if np.abs(heights - nearest * span / count).max() <= GRID_MM and facts.tilt_degrees < 1 and not facts.odd:
            indices[order] = nearest.astype(int)
            affine[:3, 2] = along / count
            return indices, affine, count + 1
    raise Refusal(
        path,
        found=f"frames {min(apart):.4g} to {max(apart):.4g} mm apart, turned by {facts.turned_degrees:.1f} degrees",
        needed=f"parallel frames on an even grid, to within {GRID_MM} mm",
        remedy="resample the segmentation onto an even grid first",
    )


def planes(path: Path, dataset: Any) -> Iterator[np.ndarray]:
    """Decoded frames (rows, columns) of a file, a few at a time: all of them would take many times a label map.

    Args:
        dataset: the file's own, read without pixels.

    Raises:
        Refusal: they cannot be decoded, or some are missing.
    """
    with parsing(path, needed="pixels that can be decoded", remedy=REMEDY):
        syntax = dataset.file_meta.TransferSyntaxUID
        packed = int(dataset.BitsAllocated) == 1 and not syntax.is_compressed and syntax.is_little_endian
    if packed:
        yield from _unpacked(path, dataset)
        return
    source = iter_pixels(path)
    while True:
        with parsing(path, needed="pixels that can be decoded", remedy=REMEDY):
            plane = next(source, None)
        if plane is None:
            return
        yield plane


def _unpacked(path: Path, dataset: Any) -> Iterator[np.ndarray]:
    """Frames of one bit a pixel, packed without a gap, so that one may begin inside a byte, which pydicom 3.0's
    `iter_pixels` does not expect. Eight of them fill whole bytes."""
    with parsing(path, needed="pixels that can be decoded", remedy=REMEDY):
        shape = (int(dataset.Rows), int(dataset.Columns))
        size, count = shape[0] * shape[1], int(dataset.get("NumberOfFrames") or 1)
    with path.open("rb") as handle:
        with parsing(path, needed="pixels that can be decoded", remedy=REMEDY):
            pydicom.dcmread(handle, stop_before_pixels=True, specific_tags=["Rows"])
            head = handle.read(8 if dataset.file_meta.TransferSyntaxUID.is_implicit_VR else 12)
        here, length = path.stat().st_size - handle.tell(), -(-size * count // 8)
        if head[:4] != PIXEL_DATA or here < length:
            raise Refusal(
                path,
                found=f"{max(here, 0)} bytes of pixels",
                needed=f"{length} bytes for {count} frames of {shape[0]} x {shape[1]} bits",
                remedy="the file is truncated; copy or export it again",
            )
        for first in range(0, count, 8):
            block = min(8, count - first)
            with parsing(path, needed="pixels that can be decoded", remedy=REMEDY):
                bits = unpack_bits(handle.read(-(-size * block // 8)))[: size * block]
            yield from bits.reshape(block, *shape)


def _label_map(
    path: Path, dataset: Any, place: list[tuple[int, int]], shape: tuple[int, int, int]
) -> np.ndarray | None:
    """(1, K, rows, columns) of segment numbers, or None if segments overlap. Number 0 takes the pixels' own values."""
    labels = np.zeros((1, *shape), dtype=np.uint16)
    for (k, number), plane in zip(place, planes(path, dataset), strict=True):
        here = plane > 0
        if (labels[0, k][here] > 0).any():
            return None
        labels[0, k][here] = number or plane[here]
    return labels.astype(np.uint8) if labels.max() < 256 else labels


def _channels(
    path: Path,
    dataset: Any,
    place: list[tuple[int, int]],
    shape: tuple[int, int, int, int],
    segments: tuple[Segment, ...],
    scale: float,
) -> np.ndarray:
    """(S, K, rows, columns): 0 and 1, or pixels times `scale` for fractions (`scale` > 0)."""
    order = {segment.number: position for position, segment in enumerate(segments)}
    stack = np.zeros(shape, dtype=np.float32 if scale else np.uint8)
    for (k, number), plane in zip(place, planes(path, dataset), strict=True):
        if number not in order:
            raise Refusal(
                path,
                found=f"a frame of segment {number}, which is not described",
                needed="a description of every segment",
                remedy="export the segmentation again",
            )
        stack[order[number], k] = plane * scale if scale else plane > 0
    return stack
