"""Reading radiotherapy structure sets (RTSTRUCT): contours in patient space, and the pixels of a scan that they enclose."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom.config

from medseg.boundary import parsing
from medseg.dicom import contours, headers, signature
from medseg.dicom.headers import Frame
from medseg.refusal import Refusal

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
"""Contours that enclose an area; points and open lines do not."""
_Key = tuple[str, int | None]


@dataclass(frozen=True, eq=False)
class Contour:
    """One closed contour.

    Attributes:
        points: (n, 3), LPS mm.
        image: SOP instance UID of the slice that it was drawn on, and frame number or None; ("", None) if not said.
    """

    points: np.ndarray
    image: _Key


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
        dataset: Any = pydicom.dcmread(path)
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
    places = [folder, *_folders(folder), *_folders(folder.parent)]
    files = {
        file: None
        for place in places
        for file in sorted(place.iterdir())
        if file.is_file() and not file.name.startswith(".") and signature.claims_dicom(file) and file != path.resolve()
    }
    frames: list[Frame] = []
    for file in files:
        if headers.instance(file) in found.images:
            frames += headers.read(file).frames
    if not frames:
        raise Refusal(
            path,
            found=f"contours on {len(found.images)} images, none of which is here",
            needed="the scan that the contours were drawn on, which says where its pixels are",
            remedy="put the structure set into the folder of its scan, or into one beside it",
        )
    return frames


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def by_slice(path: Path, roi: Roi, frames: Sequence[Frame]) -> dict[int, list[np.ndarray]]:
    """A region's contours as (n, 2) pixel coordinates (column, row), by the number of the frame that each lies on: the
    one that it names, else the nearest.

    Raises:
        Refusal: a contour that lies on none of the frames.
    """
    named: dict[_Key, int] = {}
    for number, frame in enumerate(frames):
        named[frame.instance.sop_instance_uid, frame.instance.frame] = number
    planes = [Plane.of(frame) for frame in frames]
    reach = _reach_mm(planes)
    found: dict[int, list[np.ndarray]] = defaultdict(list)
    for contour in roi.contours:
        number = named.get(contour.image)
        if number is None:
            number = int(np.argmin([abs(plane.heights_mm(contour.points).mean()) for plane in planes]))
        off_mm = float(np.abs(planes[number].heights_mm(contour.points)).max())
        if off_mm > reach:
            raise Refusal(
                path,
                found=f"a contour of '{roi.name}' {off_mm:.4g} mm away from the slice that it belongs to",
                needed=f"contours on the slices of the scan, to within {reach:.4g} mm",
                remedy="put all slices of the scan beside the structure set, or export it for this scan",
            )
        found[number].append(planes[number].pixels(contour.points))
    return found
