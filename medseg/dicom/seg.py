"""Reading DICOM segmentation objects: BINARY, FRACTIONAL and LABELMAP, onto the even grid that their frames lie on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom.config
from pydicom.pixels import iter_pixels
from pydicom.pixels.utils import unpack_bits

from medseg.boundary import parsing
from medseg.dicom import archive, geometry, headers, parse
from medseg.dicom.frames import Frame, locate
from medseg.geometry import LPS_FROM_RAS
from medseg.labels import Code
from medseg.refusal import Refusal

REMEDY = "copy or export the file again"
IDENTIFICATION = 0x0062000A
"""SegmentIdentificationSequence."""
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
    """The first DICOM file of a folder (or DICOMDIR, or zip) in which every DICOM file is a segmentation; else None."""
    first = None
    for file in archive.files(folder):
        if headers.sop_class(file) not in headers.SEGMENTATION_CLASSES:
            return None
        first = first or file
    return first


def read(path: Path) -> Segmentation:
    """Read a segmentation object.

    Raises:
        Refusal: damaged, not placed in patient space, or with frames that no one affine can hold.
    """
    with (
        parsing(path, needed="a readable DICOM segmentation", remedy=REMEDY),
        pydicom.config.disable_value_validation(),
    ):
        dataset = parse.all_but_pixels(path)
        frames, unplaced = locate(path, dataset)
        segments = tuple(_segment(item) for item in dataset.SegmentSequence)
        kind = str(dataset.get("SegmentationType", "BINARY"))
        numbers = segment_of_each_frame(dataset)
        scale = 1.0 / float(dataset.MaximumFractionalValue) if kind == "FRACTIONAL" else 0.0
        patient_id = str(dataset.get("PatientID", ""))
        bits = int(dataset.BitsAllocated)
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
    labels = None if kind == "FRACTIONAL" else _label_map(path, dataset, place, shape, bits)
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
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
    common = shared.get(IDENTIFICATION)
    groups = (group.get(IDENTIFICATION) or common for group in dataset.PerFrameFunctionalGroupsSequence)
    return [int(group.value[0][0x0062000B].value) for group in groups]


def _spacing_between_slices(dataset: Any) -> float:
    """Distance of neighbouring slices as the file declares it, 0 if it does not."""
    for group in (*dataset.get("SharedFunctionalGroupsSequence", []), *dataset.PerFrameFunctionalGroupsSequence[:1]):
        for measures in group.get("PixelMeasuresSequence") or []:
            if measures.get("SpacingBetweenSlices") not in (None, ""):
                return abs(float(measures.SpacingBetweenSlices))
    return 0.0


def _grid(path: Path, frames: tuple[Frame, ...], declared_mm: float) -> tuple[list[int], np.ndarray, int]:
    """Slice index of each frame, affine and number of slices. Files leave out empty slices, so gaps of whole slices
    are normal here, and a stack may lean (the affine is sheared then); refused is what fits no even grid."""
    distinct = tuple({_plane(frame): frame for frame in frames}.values())  # segments of a slice lie at one place
    facts = geometry.measure(distinct)
    ordered = [distinct[index] for index in facts.order]
    for affine, indices in _candidates(facts, declared_mm, frames[0].thickness_mm or 0.0):
        if _fits(ordered, affine, indices):
            index_of = {_plane(frame): int(n) for frame, n in zip(ordered, indices, strict=True)}
            return [index_of[_plane(frame)] for frame in frames], affine, int(indices[-1]) + 1
    apart = [step for step in facts.steps_mm if step > geometry.SAME_PLACE_MM] or [0.0]
    raise Refusal(
        path,
        found=f"frames {min(apart):.4g} to {max(apart):.4g} mm apart, turned by {facts.turned_degrees:.1f} degrees",
        needed=f"parallel frames on an even grid, to within {GRID_MM} mm",
        remedy="resample the segmentation onto an even grid first",
    )


def _plane(frame: Frame) -> tuple[tuple[float, ...], ...]:
    return frame.position, frame.row, frame.column, frame.spacing_mm


def _candidates(
    facts: geometry.Geometry, declared_mm: float, thickness_mm: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Affine and slice index of each plane, in order, for the even grids that they may lie on; the likeliest first."""
    heights = np.concatenate([[0.0], np.cumsum(facts.steps_mm)])
    apart = [step for step in facts.steps_mm if step > geometry.SAME_PLACE_MM]
    affine = facts.affine.copy()
    if not apart:
        normal = np.cross(affine[:3, 0], affine[:3, 1])
        affine[:3, 2] = normal / np.linalg.norm(normal) * (declared_mm or thickness_mm)
        yield affine, np.zeros(len(heights), int)
        return
    for spacing in (declared_mm, min(apart)):
        steps = round(heights[-1] / spacing) if spacing > 0 else 0
        if steps:
            affine[:3, 2] = facts.affine[:3, 2] * (len(heights) - 1) / steps
            yield affine, np.rint(heights * steps / heights[-1]).astype(int)


def _fits(planes: Sequence[Frame], affine: np.ndarray, indices: np.ndarray) -> bool:
    """Whether every plane lies where the grid puts it: the first pixel to within `GRID_MM`, none half a pixel off."""
    lps = LPS_FROM_RAS @ affine
    for plane, index in zip(planes, indices, strict=True):
        rows, columns = plane.size
        corners = np.array([[i, j] for i in (0, columns - 1) for j in (0, rows - 1)])
        axes = np.array([plane.row, plane.column]) * np.array(plane.spacing_mm)[::-1, None]
        own = np.array(plane.position) + corners @ axes
        grid = lps[:3, 3] + corners @ lps[:3, :2].T + index * lps[:3, 2]
        off = np.linalg.norm(own - grid, axis=1)
        if not (off[0] <= GRID_MM and off.max() < min(plane.spacing_mm) / 2):
            return False
    return True


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
    path: Path, dataset: Any, place: list[tuple[int, int]], shape: tuple[int, int, int], bits: int
) -> np.ndarray | None:
    """(1, K, rows, columns) of segment numbers, or None if segments overlap. Number 0 takes the pixels' own values, of
    so many `bits`."""
    highest = max(number for _, number in place)
    labels = np.zeros((1, *shape), np.uint8 if highest < 256 and bits <= 8 else np.uint16)
    for (k, number), plane in zip(place, planes(path, dataset), strict=True):
        here = plane > 0
        if (labels[0, k][here] > 0).any():
            return None
        labels[0, k][here] = number or plane[here]
    return labels


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
