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

from medseg import originals
from medseg.boundary import parsing
from medseg.dicom import headers, objects, seg
from medseg.dicom.headers import Frame
from medseg.dicom.seg_frames import FULL, Kind, chances, stack
from medseg.geometry import LPS_FROM_RAS
from medseg.prediction import Prediction
from medseg.refusal import Refusal

HEADER_MM = 1e-6
"""Frames must lie where the slice's header says to within this; a decimal of 16 characters is better."""
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
    with parsing(path, needed="an object that can be read back", remedy=REMEDY):
        dataset = pydicom.dcmread(written, stop_before_pixels=True)
        frames, unplaced = headers.planes(written, dataset)
        numbers = seg.segment_of_each_frame(dataset)
        references = [_reference(group) for group in dataset.PerFrameFunctionalGroupsSequence]
        tracked = {int(item.SegmentNumber): str(item.get("TrackingUID")) for item in dataset.SegmentSequence}
    if unplaced:
        raise _differs(path, unplaced, "frames that lie in the patient")
    slice_of = {(slice_.instance.sop_instance_uid, slice_.instance.frame): n for n, slice_ in enumerate(slices)}
    if not set(references) <= set(slice_of):
        raise _differs(path, "a reference to an instance that is not in the scan", "a slice of the scan each")
    on = [slice_of[reference] for reference in references]
    _same_planes(path, frames, [slices[n] for n in on])
    _labels_fit(path, slices, originals.affines(prediction.target))
    positions = _positions(path, tracked, prediction)
    places = list(zip(numbers, on, strict=True))
    if len(set(places)) < len(places) or not set(numbers) <= {0, *positions}:
        raise _differs(path, "two frames of one segment and slice, or a frame of none", "each once")
    compare = _same_chances if kind == "fractional" else _same_labels
    compare(path, zip(places, seg.planes(written, dataset), strict=True), prediction, positions)


def _reference(group: Any) -> tuple[str, int | None]:
    """(SOP instance UID, frame number) of the slice that a frame names."""
    source = group.DerivationImageSequence[0].SourceImageSequence[0]
    number = source.get("ReferencedFrameNumber")
    return str(source.ReferencedSOPInstanceUID), None if number is None else int(number)


def _same_planes(path: Path, frames: Sequence[Frame], slices: Sequence[Frame]) -> None:
    """Every frame lies where the header of the slice that it names puts that slice."""
    found, needed = (np.array([_plane(frame) for frame in each]) for each in (frames, slices))
    if found.shape != needed.shape or not np.abs(found - needed).max() <= HEADER_MM:
        raise _differs(path, "frames that do not lie on their slices", "the position, orientation and size of each")


def _plane(frame: Frame) -> list[float]:
    return [*frame.position, *frame.row, *frame.column, *frame.spacing_mm, *frame.size]


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


def _positions(path: Path, tracked: Mapping[int, str], prediction: Prediction) -> dict[int, int]:
    """Segment number -> position in the label table, by the identifier that each label has in this result."""
    labels = prediction.table.labels
    known = {objects.uid(prediction, f"segment {label.name}"): place for place, label in enumerate(labels)}
    found = {number: known[uid] for number, uid in tracked.items() if uid in known}
    expected = objects.segments(prediction)
    if [found.get(number) for number in range(1, len(expected) + 1)] != expected:
        raise _differs(path, f"segments {sorted(tracked)}", "one for each label that was found, in the table's order")
    return found


def _same_labels(
    path: Path, frames: Iterable[PlacedFrame], prediction: Prediction, positions: Mapping[int, int]
) -> None:
    """Each frame shows its segment's pixels and no others, and together they are all that there are."""
    laid, table = stack(prediction), prediction.table
    count = [0] * len(table.labels)
    for (number, n), plane in frames:
        for one in [number] if number else np.flatnonzero(np.bincount(plane.ravel())[1:]) + 1:
            mask = plane > 0 if number else plane == one
            position = positions.get(int(one))
            if position is None or not np.array_equal(mask, table.mask(laid[:, n], position)):
                raise _differs(
                    path, f"other pixels of segment {one} on slice {n + 1}", "every pixel that was predicted"
                )
            count[position] += int(np.count_nonzero(mask))
    if count != objects.pixels(prediction):
        raise _differs(path, f"{sum(count)} pixels", f"all {sum(objects.pixels(prediction))}, on every labelled slice")


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
