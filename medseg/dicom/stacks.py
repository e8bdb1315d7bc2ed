"""Which slices of a series make one volume. A series may hold several (phases, echoes, b-values, time points), and
slices that belong to none (localisers, copies)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medseg.dicom import geometry
from medseg.dicom.divide import Part, divide
from medseg.dicom.facts import PLANES
from medseg.dicom.frames import Frame
from medseg.dicom.headers import Header
from medseg.dicom.preflight import Finding, Verdict, images, listed
from medseg.dicom.series import Series
from medseg.dicom.values import changes_values

LOCALIZER = "LOCALIZER"
TURNED_DEGREES = 1.0
"""Slices that are turned by more than this against each other are not of one stack."""
FEWEST = 3
"""Slices that make a second orientation a volume; fewer are stray."""


@dataclass(frozen=True)
class Stack:
    """Frames that make one volume, in the order of their files.

    Attributes:
        name: what tells it from the other stacks of its series ("echo 2, 4.6 ms"); empty if it is the only one.
        number: from 1.
        findings: what dividing the series has shown, for `preflight.judge`.
    """

    frames: tuple[Frame, ...]
    name: str
    number: int
    findings: tuple[Finding, ...] = ()

    @property
    def alone(self) -> Stack:
        """The same where it alone was chosen: to take its series apart is no repair then."""
        settled = (
            replace(finding, severity=Verdict.GOOD, repair="") if finding.repair == "split" else finding
            for finding in self.findings
        )
        return replace(self, findings=tuple(settled))


@dataclass(frozen=True)
class Dropped:
    """Images of a series that are part of no volume.

    Attributes:
        files: the names of theirs, one an image; that of an enhanced object may occur more than once.
        reason: what they are.
    """

    files: tuple[str, ...]
    reason: str

    @property
    def text(self) -> str:
        return f"{images(len(self.files))} left out: {self.reason} ({listed(self.files)})"


@dataclass(frozen=True)
class Split:
    """A series as volumes.

    Attributes:
        stacks: at least one; what nothing can divide is one stack, which `preflight.judge` refuses.
        dropped: what belongs to none of them.
    """

    stacks: tuple[Stack, ...]
    dropped: tuple[Dropped, ...]


def split(series: Series) -> Split:
    """Divide a series into volumes.

    Copies of an instance, localisers among other slices, stray slices in another orientation and screenshots are left
    out. A second orientation with at least half as many slices as the first is a volume of its own. How slices that
    share their places are told apart, `divide` says.
    """
    frames, copies = _copies(series.frames)
    frames, localisers = _localisers(series, frames)
    groups, odd = _orientations(frames)
    screenshots = [header for header in series.unplaced if _screenshot(series, header)]
    dropped = [
        Dropped(tuple(files), reason)
        for files, reason in (
            ([frame.instance.path.name for frame in copies], "copy of another instance"),
            ([frame.instance.path.name for frame in localisers], "localiser"),
            ([frame.instance.path.name for frame in odd], "another orientation"),
            ([header.path.name for header in screenshots], screenshots[0].unplaced if screenshots else ""),
        )
        if files
    ]
    divided = [(direction, *divide(members)) for direction, members in groups]
    volumes: list[Part] = [
        (", ".join(part for part in (direction, name) if part), members)
        for direction, _, parts in divided
        for name, members in parts
    ]
    findings = [*_mixtures(series), *(_left_out(one) for one in dropped)]
    if len(volumes) > 1:
        ways = dict.fromkeys(way for direction, way, _ in divided if way)
        findings.append(_several([name for name, _ in volumes], [*(["orientation"] * (len(groups) > 1)), *ways]))
    stacks = (
        Stack(members, name, number, (*findings, *_half_rescaled(members)))
        for number, (name, members) in enumerate(volumes, start=1)
    )
    return Split(tuple(stacks), tuple(dropped))


def _copies(frames: Sequence[Frame]) -> tuple[list[Frame], list[Frame]]:
    """Frames once each, and those whose identifier and header another one has already."""
    seen: set[object] = set()
    kept: list[Frame] = []
    copies: list[Frame] = []
    for frame in frames:
        instance = frame.instance
        place = (frame.position, frame.row, frame.column, frame.size)
        identity = (instance.sop_instance_uid, instance.frame, place, frozenset(frame.marks.items()))
        (copies if instance.sop_instance_uid and identity in seen else kept).append(frame)
        seen.add(identity)
    return kept, copies


def _localisers(series: Series, frames: Sequence[Frame]) -> tuple[list[Frame], list[Frame]]:
    """Slices, and the localisers among them; a series of nothing but localisers is one of slices."""
    files = {header.path for header in series.headers if LOCALIZER in header.image_type}
    which = [frame.instance.path in files or LOCALIZER in str(frame.marks.get("type", "")) for frame in frames]
    if all(which):
        return list(frames), []
    kept = [frame for frame, localiser in zip(frames, which, strict=True) if not localiser]
    return kept, [frame for frame, localiser in zip(frames, which, strict=True) if localiser]


def _orientations(frames: Sequence[Frame]) -> tuple[list[tuple[str, list[Frame]]], list[Frame]]:
    """Groups of slices that are parallel to within a degree, with the name of the direction if there are several; and
    what is left over. All in one group if the left-overs are too many to be stray."""
    rest = np.arange(len(frames))
    rows, columns = geometry.directions(frames)
    groups: list[np.ndarray] = []
    while rest.size:
        common = geometry.commonest(rows[rest], columns[rest])
        turned = np.maximum(
            geometry.degrees(rows[rest], rows[rest[common]]), geometry.degrees(columns[rest], columns[rest[common]])
        )
        group = rest[turned <= TURNED_DEGREES]
        if not group.size or (groups and (2 * len(group) < len(groups[0]) or len(group) < FEWEST)):
            break
        groups.append(group)
        rest = rest[turned > TURNED_DEGREES]
    if not groups or 2 * rest.size >= sum(map(len, groups)):
        return [("", list(frames))], []
    directions = [_direction(frames[group[0]]) for group in groups] if len(groups) > 1 else [""]
    for n, direction in enumerate(directions):
        if directions.count(direction) > 1:
            directions[n] = f"{direction}, orientation {n + 1}"
    return [
        (direction, [frames[int(index)] for index in group])
        for direction, group in zip(directions, groups, strict=True)
    ], [frames[int(index)] for index in rest]


def _direction(frame: Frame) -> str:
    return PLANES[int(np.abs(np.cross(frame.row, frame.column)).argmax())]


def _screenshot(series: Series, header: Header) -> bool:
    """Whether a file without a place is no slice that has lost it."""
    head = series.headers[0]
    return (
        header.sop_class_uid != head.sop_class_uid
        or header.photometric not in ("", head.photometric)
        or any(word in header.image_type and word not in head.image_type for word in (LOCALIZER, "SECONDARY"))
    )


def _mixtures(series: Series) -> list[Finding]:
    """What must be the same in every file of a series, beside the geometry."""
    found = []
    lost = [header for header in series.unplaced if not _screenshot(series, header)]
    if lost:
        files = listed([header.path.name for header in lost])
        text = f"{images(len(lost))} with {lost[0].unplaced} among the slices ({files})"
        kind = "truncated" if lost[0].cut else "unplaced"
        found.append(Finding(kind, text, Verdict.REFUSED, remedy="move those files out of the folder"))
    for kind, words, attribute in (
        ("patient", "patients", "patient_id"),
        ("frame of reference", "frames of reference", "frame_of_reference_uid"),
        ("modality", "modalities", "modality"),
    ):
        values = sorted({getattr(header, attribute) for header in series.headers})
        if len(values) > 1:
            text = f"{len(values)} {words} in one series ({listed([value or 'none' for value in values])})"
            found.append(Finding(kind, text, Verdict.REFUSED, remedy="separate them into folders of their own"))
    return found


def _half_rescaled(frames: Sequence[Frame]) -> Iterator[Finding]:
    """Slices of a volume that lost their rescaling: their values would be off by what it does to the others."""
    lacking = [frame.instance.path.name for frame in frames if not frame.rescaled]
    if lacking and changes_values(frames):
        text = (
            f"{images(len(lacking))} without the rescale slope and intercept that the others have ({listed(lacking)})"
        )
        yield Finding("rescale", text, Verdict.REFUSED, remedy="export the series again, or repair these headers")


def _left_out(dropped: Dropped) -> Finding:
    return Finding("stray", dropped.text, Verdict.REPAIRABLE, repair="drop", remedy="move them out of the folder")


def _several(parts: Sequence[str], ways: Sequence[str]) -> Finding:
    text = f"{len(parts)} volumes in one series, told apart by {' and '.join(ways)}: {listed(parts, separator='; ')}"
    return Finding("several", text, Verdict.REPAIRABLE, repair="split", remedy="choose one of them")
