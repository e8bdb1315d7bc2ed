"""Reading radiotherapy structure sets (RTSTRUCT): contours in patient space, and where they lie on a scan's slices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom.config

from medseg.boundary import parsing
from medseg.dicom import headers, parse, signature
from medseg.dicom.frames import Frame
from medseg.refusal import Refusal

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
"""Contours that enclose an area; points and open lines do not."""


@dataclass(frozen=True, eq=False)
class Contour:
    """One closed contour.

    Attributes:
        points: (n, 3), LPS mm.
        image: SOP instance UID of the slice that it was drawn on, and frame number or None; ("", None) if not said.
    """

    points: np.ndarray
    image: tuple[str, int | None]


@dataclass(frozen=True)
class Roi:
    """One region; `contours` is empty if nothing encloses an area."""

    number: int
    name: str
    contours: tuple[Contour, ...]


@dataclass(frozen=True)
class StructureSet:
    """The regions of one object, and the SOP instance UIDs of the images that it refers to."""

    rois: tuple[Roi, ...]
    images: frozenset[str]
    patient_id: str


def read(path: Path) -> StructureSet:
    """Read a structure set.

    Raises:
        Refusal: damaged, cut off, or no structure set.
    """
    with (
        parsing(path, needed="a readable DICOM structure set", remedy="copy or export the file again"),
        pydicom.config.disable_value_validation(),
    ):
        dataset = parse.whole(path)
        drawn = {int(item.ReferencedROINumber): item for item in dataset.get("ROIContourSequence") or ()}
        names = {int(item.ROINumber): str(item.get("ROIName") or "") for item in dataset.StructureSetROISequence}
        rois = tuple(
            Roi(number, name or f"ROI {number}", tuple(_contours(drawn[number])) if number in drawn else ())
            for number, name in names.items()
        )
        observed = {int(item.ReferencedROINumber) for item in dataset.get("RTROIObservationsSequence") or ()}
        images = frozenset(_referenced(dataset)) | {each.image[0] for roi in rois for each in roi.contours} - {""}
        patient_id = str(dataset.get("PatientID", ""))
    if not observed:
        raise Refusal(
            path,
            found=f"{len(rois)} regions without an observation, which come last in the file",
            needed="a complete structure set",
            remedy="copy or export the file again",
        )
    return StructureSet(rois, images, patient_id)


def _contours(item: Any) -> Iterator[Contour]:
    for entry in item.get("ContourSequence") or ():
        if str(entry.ContourGeometricType) not in CLOSED:
            continue
        # the bytes as they are: pydicom's decimal objects would take a hundred times the memory
        text = entry.get_item("ContourData").value
        points = np.array(text.split(b"\\") if isinstance(text, bytes) else text, dtype=np.float64).reshape(-1, 3)
        if len(points) != int(entry.NumberOfContourPoints) or not np.isfinite(points).all():
            raise ValueError(f"{len(points)} points where {entry.NumberOfContourPoints} finite ones are declared")
        image = (entry.get("ContourImageSequence") or [None])[0]
        frame = None if image is None else image.get("ReferencedFrameNumber")
        uid = "" if image is None else str(image.ReferencedSOPInstanceUID)
        yield Contour(points, (uid, None if frame is None else int(frame)))


def _referenced(dataset: Any) -> Iterator[str]:
    for place in dataset.get("ReferencedFrameOfReferenceSequence") or ():
        for study in place.get("RTReferencedStudySequence") or ():
            for series in study.get("RTReferencedSeriesSequence") or ():
                for image in series.get("ContourImageSequence") or ():
                    yield str(image.ReferencedSOPInstanceUID)


def scan(path: Path, found: StructureSet) -> list[Frame]:
    """The frames of the images that a structure set refers to, looked for where exports put them: in its own folder, in
    the folders in there, and in those beside its own.

    Raises:
        Refusal: none of them is there.
    """
    folder = path.resolve().parent
    frames: dict[tuple[str, int | None], Frame] = {}
    for place in (folder, *_inside(folder, Path.is_dir), *_inside(folder.parent, Path.is_dir)):
        if found.images <= {uid for uid, _ in frames}:
            break
        for file in _inside(place, Path.is_file):
            for frame in _frames(file):
                if frame.instance.sop_instance_uid in found.images:
                    frames.setdefault((frame.instance.sop_instance_uid, frame.instance.frame), frame)
    if not frames:
        raise Refusal(
            path,
            found=f"contours on {len(found.images)} images, none of which is here",
            needed="the scan that the contours were drawn on, which says where its pixels are",
            remedy="put the structure set into the folder of its scan, or into one beside it",
        )
    return list(frames.values())


def _inside(folder: Path, kind: Callable[[Path], bool]) -> list[Path]:
    """Visible files, or folders, directly in a folder; none if it may not be read, which the search can do without."""
    try:
        return sorted(entry for entry in folder.iterdir() if kind(entry) and not entry.name.startswith("."))
    except OSError:
        return []


def _frames(file: Path) -> tuple[Frame, ...]:
    """Of a neighbour that may be anything; if it is a damaged slice of the scan, its contours will be missed."""
    try:
        return headers.read(file).frames if signature.is_dicom(file) else ()
    except (Refusal, OSError):
        return ()


def by_slice(path: Path, roi: Roi, frames: Sequence[Frame]) -> dict[int, list[np.ndarray]]:
    """A region's contours by the number of the frame that each lies on: the one that it names, else the nearest.

    Returns:
        Contours as (n, 3): column and row in pixels, 0 at the centre of the first, and distance from the slice in mm.

    Raises:
        Refusal: a contour further from its slice than half the distance to the next one.
    """
    to_pixels = np.stack([_to_pixels(frame) for frame in frames])
    named = {(frame.instance.sop_instance_uid, frame.instance.frame): n for n, frame in enumerate(frames)}
    reach_mm = _reach_mm(to_pixels, frames)
    found: dict[int, list[np.ndarray]] = defaultdict(list)
    for contour in roi.contours:
        number = named.get(contour.image)
        if number is None:
            number = int(np.abs(to_pixels[:, 2, :3] @ contour.points.mean(axis=0) + to_pixels[:, 2, 3]).argmin())
        placed = contour.points @ to_pixels[number, :, :3].T + to_pixels[number, :, 3]
        off_mm = float(np.abs(placed[:, 2]).max())
        if off_mm > reach_mm:
            raise Refusal(
                path,
                found=f"a contour of '{roi.name}' {off_mm:.4g} mm away from its slice",
                needed=f"contours on slices that are here, to within {reach_mm:.4g} mm",
                remedy="put every slice of the scan beside the structure set, or export it for this scan",
            )
        found[number].append(placed)
    return found


def _to_pixels(frame: Frame) -> np.ndarray:
    """(3, 4): LPS mm -> column, row, and mm along the normal of the slice."""
    row, column = (np.array(axis) / np.linalg.norm(axis) for axis in (frame.row, frame.column))
    axes = np.stack([row * frame.spacing_mm[1], column * frame.spacing_mm[0], np.cross(row, column)], axis=1)
    inverse = np.linalg.inv(axes)
    return np.column_stack([inverse, -inverse @ np.array(frame.position)])


def _reach_mm(to_pixels: np.ndarray, frames: Sequence[Frame]) -> float:
    """Half the usual distance of neighbouring slices along their normal; of one slice, half its thickness."""
    positions = np.array([frame.position for frame in frames])
    steps = np.diff(np.unique((positions @ to_pixels[0, 2, :3]).round(2)))
    return float(np.median(steps)) / 2 if steps.size else (frames[0].thickness_mm or 1.0) / 2
