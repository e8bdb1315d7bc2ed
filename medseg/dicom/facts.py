"""What the headers of a series say about it, for rules that choose between series and for people."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.dicom.geometry import SAME_PLACE_MM

if TYPE_CHECKING:  # importing it would import pydicom
    from medseg.dicom.frames import Frame
    from medseg.dicom.headers import Header

PLANES = ("sagittal", "coronal", "axial")
"""By the axis of patient space to which the normal of the slices is nearest."""
DAY_S = 24 * 3600


@dataclass(frozen=True)
class Facts:
    """What the headers say of one volume, which is a series or a part of one (`stacks.split`). Text is empty, and a
    number None, where they say nothing.

    Attributes:
        volume: what tells it from the other volumes of its series ("b = 800"); empty if it is the only one.
        volume_number: of them, from 1; 0 if it is the only one.
        unfit: why it is no scan at all: a segmentation, a report, pictures without a place.
        image_type: of most of its images.
        slices: places with a slice; `images` can be more, where nothing tells phases or copies apart.
        spacing_mm: median distance of neighbouring slices.
        plane: axial, coronal, sagittal; mixed, if there are several.
        delay_s: from the beginning of the injection to the first image.
        acquired: date and time of the first image, for sorting.
    """

    uid: str
    study_uid: str = ""
    patient_id: str = ""
    number: str = ""
    volume: str = ""
    volume_number: int = 0
    modality: str = ""
    description: str = ""
    protocol: str = ""
    study: str = ""
    body_part: str = ""
    agent: str = ""
    kernel: str = ""
    acquired: str = ""
    sop_class_uid: str = ""
    unfit: str = ""
    image_type: tuple[str, ...] = ()
    images: int = 0
    slices: int = 0
    spacing_mm: float | None = None
    plane: str = ""
    delay_s: float | None = None

    @property
    def name(self) -> str:
        """Description, or the protocol's name where that is empty."""
        return self.description or self.protocol

    @property
    def text(self) -> str:
        """For messages."""
        size = f"{self.slices} slices" if self.slices else f"{self.images} file{'s' * (self.images != 1)}"
        named = f", {self.volume}" if self.volume else ""
        number = spoken_number(self.number, self.volume_number)
        return f"series {number or '?'} '{self.name}'{named} ({self.modality or '?'}, {size})"

    @classmethod
    def of(cls, headers: Sequence[Header], frames: Sequence[Frame], volume: str = "", volume_number: int = 0) -> Facts:
        """Facts of one volume.

        Args:
            headers: of its files; of files that are no slices in space, if there are no frames.
            frames: its slices.
            volume: what tells it from the other volumes of its series, if there are any.
            volume_number: of them, from 1; 0 if it is the only one.
        """
        head, texts = headers[0], headers[0].more
        slices, spacing_mm, plane = _places([(frame.position, frame.row, frame.column) for frame in frames])
        acquired = min((moment for header in headers if (moment := _acquired(header.more))), default="")
        start, scan = _seconds(texts.get("ContrastBolusStartTime", "")), _seconds(acquired[8:])
        return cls(
            uid=head.series_uid,
            study_uid=head.study_uid,
            patient_id=head.patient_id,
            number=head.series_number,
            volume=volume,
            volume_number=volume_number,
            modality=head.modality,
            description=head.description,
            protocol=texts.get("ProtocolName", ""),
            study=texts.get("StudyDescription", ""),
            body_part=texts.get("BodyPartExamined", ""),
            agent=texts.get("ContrastBolusAgent", ""),
            kernel=texts.get("ConvolutionKernel", ""),
            acquired=acquired,
            sop_class_uid=head.sop_class_uid,
            unfit="" if frames else head.kind or head.unplaced or "no slices",
            image_type=Counter(header.image_type for header in headers).most_common(1)[0][0],
            images=len(frames) or len(headers),
            slices=slices,
            spacing_mm=spacing_mm,
            plane=plane,
            delay_s=None if start is None or scan is None else (scan - start) % DAY_S,
        )


def spoken_number(series_number: str, volume: int) -> str:
    """As `--series` takes it: the number of a series, and behind a slash that of the volume if there are several."""
    return f"{series_number}/{volume}" if volume else series_number


def _places(planes: Sequence[tuple[Sequence[float], ...]]) -> tuple[int, float | None, str]:
    """Number of places with a slice, their median distance along the normal, and the name of their plane, from
    (position, row direction, column direction) of each."""
    if not planes:
        return 0, None, ""
    positions, rows, columns = (np.array(part, dtype=float) for part in zip(*planes, strict=True))
    normals = np.cross(rows, columns)
    names = {PLANES[axis] for axis in np.abs(normals).argmax(axis=1)}
    if len(names) > 1:
        return len(np.unique(positions.round(2), axis=0)), None, "mixed"
    along = np.sort(positions @ normals[0])
    steps = np.diff(along)
    steps = steps[steps > SAME_PLACE_MM]
    return len(steps) + 1, float(np.median(steps)) if len(steps) else None, names.pop()


def _acquired(texts: Mapping[str, str]) -> str:
    """YYYYMMDDHHMMSS.F; "" where it is not known."""
    whole = texts.get("AcquisitionDateTime", "")
    parts = (texts.get("AcquisitionDate", ""), texts.get("AcquisitionTime", ""))
    return whole or ("".join(parts) if all(parts) else "")


def _seconds(time: str) -> float | None:
    """HHMMSS.F in seconds of the day."""
    match = re.match(r"([01]\d|2[0-3])([0-5]\d)(\d\d(?:\.\d+)?)", time)
    return None if match is None else int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
