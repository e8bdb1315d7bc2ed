"""Where the image planes of a DICOM object lie in space, and what a header says of each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.dicom import marks
from medseg.volume import Instance

LIMIT_MM = 1e6
"""Nothing lies a kilometre from the scanner: larger numbers, NaN and infinity are damage."""
RESCALING = "PixelValueTransformationSequence"
"""Secondary captures of many frames have its attributes in the file itself, for all frames (DICOM PS3.3 A.8.4)."""
LARGEST_SIDE = 65535
"""Rows and Columns have 16 bits."""


@dataclass(frozen=True)
class Frame:
    """One image plane. Lengths in mm, in LPS patient space, exactly as the header has them.

    Attributes:
        position: centre of the first pixel.
        row: direction in which the column number grows, a unit vector as far as the header's digits go.
        column: direction in which the row number grows.
        spacing_mm: between rows, and between columns.
        size: rows, columns.
        thickness_mm: of the slice, or None.
        marks: what may tell it from other frames at its place, by the names in `marks.MARKS`.
        rescaled: whether the header states slope or intercept.
    """

    instance: Instance
    position: tuple[float, float, float]
    row: tuple[float, float, float]
    column: tuple[float, float, float]
    spacing_mm: tuple[float, float]
    size: tuple[int, int]
    slope: float
    intercept: float
    thickness_mm: float | None
    marks: Mapping[str, marks.Value] = field(default_factory=dict, hash=False)
    rescaled: bool = True


def locate(path: Path, dataset: Any) -> tuple[tuple[Frame, ...], str]:
    """Where the frames of a dataset lie: from functional groups, or from the file's own attributes if it is a single
    frame; or none and what is missing."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    count = int(dataset.get("NumberOfFrames") or 1)
    if count < 1:
        return (), f"{count} frames"
    if per_frame is None and count > 1:
        return (), f"{count} frames without a position for each"
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    groups = [(dataset, None)] if per_frame is None else [(item, shared) for item in per_frame]
    if len(groups) != count:
        return (), f"{count} frames but positions for {len(groups)}"
    frames = []
    for number, (own, common) in enumerate(groups, start=1):
        frame = _frame(path, dataset, own, common, None if per_frame is None else number)
        if isinstance(frame, str):
            return (), frame
        frames.append(frame)
    return tuple(frames), ""


def _frame(path: Path, dataset: Any, own: Any, common: Any, number: int | None) -> Frame | str:
    """One frame, from the file's own attributes or from functional groups; or what is missing."""

    def attribute(group: str, name: str) -> Any:
        if number is None:
            return dataset.get(name)
        for functional in (own, common):
            items = functional.get(group) if functional is not None else None
            if items and items[0].get(name) is not None:
                return items[0].get(name)
        return dataset.get(name) if group == RESCALING else None

    vectors = []
    for group, name, length in (
        ("PlanePositionSequence", "ImagePositionPatient", 3),
        ("PlaneOrientationSequence", "ImageOrientationPatient", 6),
        ("PixelMeasuresSequence", "PixelSpacing", 2),
    ):
        value = attribute(group, name)
        if value is None or isinstance(value, str) or len(value) != length:
            return f"no {name}"
        vectors.append(tuple(float(part) for part in value))
        if not all(abs(part) <= LIMIT_MM for part in vectors[-1]):
            return f"{name} {list(vectors[-1])}"
    size = (int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0))
    if not all(1 <= side <= LARGEST_SIDE for side in size):
        return f"{size[0]} rows and {size[1]} columns"
    slope = _number(attribute(RESCALING, "RescaleSlope"))
    intercept = _number(attribute(RESCALING, "RescaleIntercept"))
    if not all(value is None or math.isfinite(value) for value in (slope, intercept)):
        return f"rescale slope {slope} and intercept {intercept}"
    thickness = _number(attribute("PixelMeasuresSequence", "SliceThickness"))
    position, cosines, spacing = vectors
    return Frame(
        instance=Instance(path, str(dataset.get("SOPClassUID", "")), str(dataset.get("SOPInstanceUID", "")), number),
        position=(position[0], position[1], position[2]),
        row=(cosines[0], cosines[1], cosines[2]),
        column=(cosines[3], cosines[4], cosines[5]),
        spacing_mm=(spacing[0], spacing[1]),
        size=size,
        slope=1.0 if slope is None else slope,
        intercept=0.0 if intercept is None else intercept,
        thickness_mm=thickness if thickness is not None and 0 < thickness <= LIMIT_MM else None,
        marks=marks.of_file(dataset) if number is None else marks.of_groups(own, common),
        rescaled=slope is not None or intercept is not None,
    )


def _number(value: Any) -> float | None:
    return None if value in (None, "") else float(value)
