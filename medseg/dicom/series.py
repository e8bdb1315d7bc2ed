"""Which series in a folder is meant, and everything there is to know about it before its pixels are read."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.dicom import archive, headers, signature
from medseg.dicom.frames import Frame
from medseg.dicom.headers import Header
from medseg.refusal import Refusal

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Series:
    """The image files of one series.

    Attributes:
        headers: of those that lie in space; at least one.
        unplaced: of those that do not.
    """

    headers: tuple[Header, ...]
    unplaced: tuple[Header, ...] = ()

    @property
    def frames(self) -> tuple[Frame, ...]:
        return tuple(frame for header in self.headers for frame in header.frames)

    @property
    def text(self) -> str:
        """For messages: number, description, modality, slice count, UID."""
        head = self.headers[0]
        number, description = head.series_number or "without number", head.description or "no description"
        return f"series {number} '{description}' ({head.modality or '?'}, {len(self.frames)} slices, {head.series_uid})"


def choose(path: Path, wanted: str | None) -> tuple[Series, str]:
    """The series of a folder, or the one that a file belongs to (looked for in the file's own folder); and what is said
    of the volume in it that is wanted, empty if nothing is.

    Structure sets, segmentations, reports and the like are passed over, and so are images that lie nowhere in space
    (secondary captures, screenshots) when there are others. If several series remain, `wanted` decides.

    Args:
        path: folder, searched with its subfolders; DICOMDIR; zip; or one file.
        wanted: series UID, series number, or part of the description; it must fit exactly one series. Behind a slash
            the volume; what begins with a slash names no series.

    Raises:
        Refusal: no image, several series and no choice, or a choice that fits none or several.
    """
    placed = look(path)[1]
    words, part = _apart(placed, wanted or "")
    return _pick(path, placed, words), part


def _apart(placed: Sequence[Series], wanted: str) -> tuple[str, str]:
    """What names the series, and what the volume. Descriptions have slashes, too ("T1 w/o contrast"): one is meant if
    it fits as it stands and no series has for UID or number what is before its last slash."""
    words, slash, part = ("", "/", wanted[1:]) if wanted.startswith("/") else wanted.rpartition("/")
    heads = [series.headers[0] for series in placed]
    known = not words or any(words in (head.series_uid, head.series_number) for head in heads)
    if not slash or (not known and any(wanted.lower() in head.description.lower() for head in heads)):
        return wanted, ""
    return words, part


def look(path: Path) -> tuple[list[Header], list[Series]]:
    """Every header of a path that stands for several files, or of the series that a file belongs to; and the series
    that lie in space.

    Raises:
        Refusal: none of them does.
    """
    several = archive.holds_several(path)
    found = [headers.read(file) for file in archive.files(path)] if several else _siblings(path)
    scans = [header for header in found if not header.kind]
    if not scans:
        kinds = ", ".join(sorted({header.modality or header.kind for header in found})) or "no DICOM file"
        raise Refusal(
            path,
            found=f"no image ({kinds})",
            needed="at least one DICOM image",
            remedy="give the folder that holds the scan itself",
            code="no-images",
        )
    placed = by_series(scans)
    if not placed:
        raise Refusal(
            path,
            found=f"{len(scans)} images, none a slice in space (first {scans[0].path.name}: {scans[0].unplaced})",
            needed="whole grey-value slices with a position, an orientation and a pixel spacing",
            remedy="give the original series; photographs and screenshots can be read as PNG or TIFF",
            code="truncated" if any(header.cut for header in scans) else "no-geometry",
        )
    if len(found) > len(scans):
        log.info("%s: %d files are no scans and were passed over", path, len(found) - len(scans))
    return found, placed


def _siblings(path: Path) -> list[Header]:
    """The named file and the files beside it that belong to its series."""
    own = headers.read(path)
    if own.kind or not own.series_uid:
        return [own]
    found = [own]
    for other in sorted(path.parent.iterdir()):
        if other == path or not other.is_file() or not signature.is_dicom(other):
            continue
        header = headers.read(other)
        if header.series_uid == own.series_uid:
            found.append(header)
    if len(found) > 1:
        log.info("%s: read with the %d other files of its series", path, len(found) - 1)
    return found


def by_series(scans: Sequence[Header]) -> list[Series]:
    """Series with at least one image that lies in space."""
    groups: dict[str, list[Header]] = defaultdict(list)
    for header in scans:
        groups[header.series_uid].append(header)
    found = []
    for group in groups.values():
        placed = tuple(header for header in group if header.frames)
        if placed:
            found.append(Series(placed, tuple(header for header in group if not header.frames)))
    return found


def _pick(path: Path, placed: Sequence[Series], wanted: str) -> Series:
    listing = "; ".join(series.text for series in placed)
    if not wanted:
        if len(placed) == 1:
            return placed[0]
        raise Refusal(
            path,
            found=f"{len(placed)} series: {listing}",
            needed="one series",
            remedy="choose one by its UID, its number or a part of its description: --series, or series= from Python",
            code="several-series",
        )
    for fits in (
        lambda head: wanted == head.series_uid,
        lambda head: wanted == head.series_number,
        lambda head: wanted.lower() in head.description.lower(),
    ):
        hits = [series for series in placed if fits(series.headers[0])]
        if len(hits) == 1:
            log.info("%s: %s, chosen by '%s'", path, hits[0].text, wanted)
            return hits[0]
        if hits:
            break
    raise Refusal(
        path,
        found=f"'{wanted}' fits {len(hits)} of {len(placed)} series: {listing}",
        needed="a choice that fits exactly one series",
        remedy="give the series UID",
        code="no-series",
    )
