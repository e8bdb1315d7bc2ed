"""The proof before release: a written segmentation is read again and held against the scan's headers and the labels.

pydicom parses the file and unpacks its pixels, a few frames at a time; nothing that wrote them takes part. Where a
frame lies and which slice it names is compared with the headers of the scan; which frames there are, and each of their
pixels, with the label map on the original slices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.config import disable_value_validation

from medseg import originals
from medseg.boundary import parsing
from medseg.dicom import objects, seg
from medseg.dicom.frames import Frame
from medseg.dicom.seg_frames import FULL, Kind, chances, stack
from medseg.geometry import LPS_FROM_RAS
from medseg.labels import LabelTable
from medseg.prediction import Prediction
from medseg.refusal import Refusal

HEADER_MM = 1e-6
"""Frames must lie where the slice's header says to within this; a decimal of 16 characters is better."""
PLANE = ((0x00209113, 0x00200032), (0x00209116, 0x00200037), (0x00289110, 0x00280030))
"""Functional groups, and the attributes in them, of a plane: position, orientation, pixel spacing."""
DERIVATION, SOURCES, INSTANCE, FRAME = 0x00089124, 0x00082112, 0x00081155, 0x00081160
PlacedFrame = tuple[tuple[int, int], np.ndarray]
"""((segment, slice), pixels)."""
REMEDY = "choose the nifti or nrrd output, and report this series"
ROUNDING = 1e-4
"""Of a step of a fraction, for the arithmetic in single precision."""


def prove(written: Path, path: Path, prediction: Prediction, kind: Kind, slices: Sequence[Frame]) -> None:
    """Return if the file holds the result: every pixel of every segment at its place in the patient (a Dice of 1), or
    every probability to within half a step.

    Args:
        written: the file.
        path: the name that it is to get.
        slices: the original slices by their headers, in the order of `Source.instances`.

    Raises:
        Refusal: what is there differs; the text says in what.
    """
    with parsing(path, needed="an object that can be read back", remedy=REMEDY), disable_value_validation():
        dataset = pydicom.dcmread(written, stop_before_pixels=True)
        shared = dataset.SharedFunctionalGroupsSequence[0]
        frames = np.array([_plane(group, shared) for group in dataset.PerFrameFunctionalGroupsSequence])
        size = (int(dataset.Rows), int(dataset.Columns))
        numbers = seg.segment_of_each_frame(dataset)
        references = [_reference(group) for group in dataset.PerFrameFunctionalGroupsSequence]
        tracked = {int(item.SegmentNumber): str(item.get("TrackingUID")) for item in dataset.SegmentSequence}
    slice_of = {(slice_.instance.sop_instance_uid, slice_.instance.frame): n for n, slice_ in enumerate(slices)}
    if not set(references) <= set(slice_of):
        raise _differs(path, "a reference to an instance that is not in the scan", "a slice of the scan each")
    on = [slice_of[reference] for reference in references]
    if any(slice_.size != size for slice_ in slices) or not np.abs(frames - _planes(slices)[on]).max() <= HEADER_MM:
        raise _differs(path, "frames that do not lie on their slices", "the position, orientation and size of each")
    _labels_fit(path, slices, originals.affines(prediction.target))
    count = objects.pixels(prediction)
    positions = _positions(path, tracked, prediction, [place for place, pixels in enumerate(count) if pixels])
    places = list(zip(numbers, on, strict=True))
    if len(set(places)) < len(places) or not set(numbers) <= {0, *positions}:
        raise _differs(path, "two frames of one segment and slice, or a frame of none", "each once")
    planes = zip(places, seg.planes(written, dataset), strict=True)
    if kind == "fractional":
        _same_chances(path, planes, prediction, positions)
    elif _same_labels(path, planes, prediction, positions) != count:
        raise _differs(path, "fewer pixels", f"all {sum(count)}, on every labelled slice")


def _reference(group: Any) -> tuple[str, int | None]:
    """(SOP instance UID, frame number) of the slice that a frame names."""
    source = group[DERIVATION].value[0][SOURCES].value[0]
    number = source.get(FRAME)
    return str(source[INSTANCE].value), None if number is None else int(number.value)


def _plane(group: Any, shared: Any) -> list[float]:
    """Position, orientation and pixel spacing of a frame, as its groups have them. By number, because finding tags by
    name takes longer than the rest."""
    values: list[float] = []
    for kind, attribute in PLANE:
        values += map(float, (group.get(kind) or shared[kind]).value[0][attribute].value)
    return values


def _planes(slices: Sequence[Frame]) -> np.ndarray:
    return np.array([[*one.position, *one.row, *one.column, *one.spacing_mm] for one in slices])


def _labels_fit(path: Path, slices: Sequence[Frame], affines: np.ndarray) -> None:
    """The label map was laid on planes that lie where the headers put the slices, to within half a pixel."""
    for slice_, affine in zip(slices, affines, strict=True):
        rows, columns = slice_.size
        plane = np.eye(4)
        plane[:3, 0] = np.array(slice_.row) * slice_.spacing_mm[1]
        plane[:3, 1] = np.array(slice_.column) * slice_.spacing_mm[0]
        plane[:3, 3] = slice_.position
        corners = np.array([[i, j, 0, 1] for i in (0, columns - 1) for j in (0, rows - 1)]).T
        off = np.linalg.norm(((LPS_FROM_RAS @ plane - affine) @ corners)[:3], axis=0).max()
        if not off <= min(slice_.spacing_mm) / 2:
            raise _differs(path, f"labels {off:.2f} mm beside the slice that they are of", "less than half a pixel")


def _positions(
    path: Path, tracked: Mapping[int, str], prediction: Prediction, expected: Sequence[int]
) -> dict[int, int]:
    """Segment number -> position in the label table, by the identifier that each label has in this result."""
    labels = prediction.table.labels
    known = {objects.uid(prediction, f"segment {label.name}"): place for place, label in enumerate(labels)}
    found = {number: known[uid] for number, uid in tracked.items() if uid in known}
    if [found.get(number) for number in range(1, len(expected) + 1)] != list(expected):
        raise _differs(path, f"segments {sorted(tracked)}", "one for each label that was found, in the table's order")
    return found


def _same_labels(
    path: Path, frames: Iterable[PlacedFrame], prediction: Prediction, positions: Mapping[int, int]
) -> list[int]:
    """Pixels of each label in all frames; each frame shows its segment's pixels (or all segments') and no others."""
    laid, table = stack(prediction), prediction.table
    numbers = np.zeros(len(table.labels), int)
    numbers[list(positions.values())] = list(positions)
    count = np.zeros(len(table.labels) + 1, int)  # by segment number
    for (number, n), plane in frames:
        wanted = table.mask(laid[:, n], positions[number]) if number else _numbered(laid[:, n], numbers, table)
        if not np.array_equal(plane, wanted.astype(plane.dtype)):
            raise _differs(
                path, f"other pixels of segment {number or 'any'} on slice {n + 1}", "all that were predicted"
            )
        if number:
            count[number] += np.count_nonzero(plane)
        else:
            count += np.bincount(plane.ravel(), minlength=len(count))
    return [int(count[number]) if number else 0 for number in numbers]


def _numbered(labels: np.ndarray, numbers: np.ndarray, table: LabelTable) -> np.ndarray:
    """(rows, columns) of segment numbers, given that of each label."""
    if table.exclusive:
        return np.array([0, *numbers])[labels[0]]
    return np.max([number * table.mask(labels, position) for position, number in enumerate(numbers)], axis=0)


def _same_chances(
    path: Path, frames: Iterable[PlacedFrame], prediction: Prediction, positions: Mapping[int, int]
) -> None:
    """Each pixel of each frame is its probability to within half a step, and where there is no frame that is 0."""
    step = 0.5 + ROUNDING
    held: dict[int, set[int]] = {position: set() for position in range(len(prediction.table.labels))}
    for number, group in groupby(frames, key=lambda frame: frame[0][0]):
        position = positions[number]
        wanted = chances(prediction, position) * np.float32(FULL)
        for (_, n), plane in group:
            if not np.abs(plane - wanted[n]).max() <= step:
                raise _differs(path, f"other probabilities of segment {number} on slice {n + 1}", "each to half a step")
            held[position].add(n)
    for position, on in held.items():
        likely = chances(prediction, position).max(axis=(1, 2)) * np.float32(FULL) > step
        if not set(np.flatnonzero(likely)) <= on:
            raise _differs(path, f"no frame where {prediction.table.names[position]} is likely", "one on each slice")


def _differs(path: Path, found: str, needed: str) -> Refusal:
    return Refusal(path, found=f"{found}, after reading it back", needed=needed, remedy=REMEDY)
