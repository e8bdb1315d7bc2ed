"""Which series in a folder is meant, and everything there is to know about it before its pixels are read."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medseg.dicom import headers, select, signature
from medseg.dicom.facts import Facts
from medseg.dicom.headers import Frame, Header
from medseg.dicom.settings import SeriesRules
from medseg.refusal import Refusal

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Series:
    """The image files of one series that lie in space.

    Attributes:
        choice: why it was taken, if rules had to say so.
    """

    headers: tuple[Header, ...]
    choice: str = ""

    @property
    def frames(self) -> tuple[Frame, ...]:
        return tuple(frame for header in self.headers for frame in header.frames)

    @property
    def text(self) -> str:
        """For messages: number, description, modality, slice count, UID."""
        head = self.headers[0]
        number, description = head.series_number or "without number", head.description or "no description"
        return f"series {number} '{description}' ({head.modality or '?'}, {len(self.frames)} slices, {head.series_uid})"


def choose(path: Path, wanted: str | None, rules: SeriesRules | None = None) -> Series:
    """The series of a folder, or the one that a file belongs to (looked for in the file's own folder).

    Structure sets, segmentations, reports and the like are passed over, and so are images that lie nowhere in space
    (secondary captures, screenshots) when there are others. If several series remain, `wanted` decides, or else the
    rules.

    Args:
        path: folder, searched with its subfolders; or one file.
        wanted: series UID, series number, or part of the description; it must fit exactly one series.
        rules: what the series should be; not asked of a file. The only series of a folder is read even if they would
            not take it, and a line says so.

    Raises:
        Refusal: no image, several series and no choice, a choice that fits none or several, or rules that none fits.
    """
    found = [headers.read(file) for file in signature.files(path)] if path.is_dir() else _siblings(path)
    scans = [header for header in found if not header.kind]
    if not scans:
        kinds = ", ".join(sorted({header.modality or header.kind for header in found})) or "no DICOM file"
        raise Refusal(
            path,
            found=f"no image ({kinds})",
            needed="at least one DICOM image",
            remedy="give the folder that holds the scan itself",
        )
    placed = _by_series(scans)
    if not placed:
        raise Refusal(
            path,
            found=f"{len(scans)} images that lie nowhere in space ({scans[0].unplaced})",
            needed="grey-value slices with a position, an orientation and a pixel spacing",
            remedy="give the original series; photographs and screenshots can be read as PNG or TIFF",
        )
    if len(found) > len(scans):
        log.info("%s: %d files are no scans and were passed over", path, len(found) - len(scans))
    if wanted is None and rules is not None and path.is_dir():
        series = _by_rules(path, placed, found, rules)
    else:
        series = _pick(path, placed, wanted)
    _refuse_mixture(path, series, scans)
    return series


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


def _by_series(scans: Sequence[Header]) -> list[Series]:
    """Series with at least one placed image; their unplaced images stay out and are judged by `_refuse_mixture`."""
    return [Series(tuple(group)) for group in groups(header for header in scans if header.frames)]


def survey(folder: Path) -> tuple[dict[str, list[Facts]], list[Refusal]]:
    """What the headers in a folder tree say of each series, by StudyInstanceUID; and the files that cannot be read.

    Raises:
        Refusal: no DICOM file is there.
    """
    found: list[Header] = []
    damaged: list[Refusal] = []
    for file in signature.files(folder) if folder.is_dir() else ():
        try:
            found.append(headers.read(file))
        except Refusal as refusal:
            damaged.append(refusal)
    if not found:
        raise Refusal(
            folder, found="no DICOM file that can be read", needed="a folder with DICOM files", remedy="check the path"
        )
    studies: dict[str, list[Header]] = defaultdict(list)
    for header in found:
        studies[header.study_uid].append(header)
    return {uid: [Facts.of(group) for group in groups(study)] for uid, study in studies.items()}, damaged


def groups(found: Iterable[Header]) -> list[list[Header]]:
    """Files of one series together, whatever they are."""
    series: dict[str, list[Header]] = defaultdict(list)
    for header in found:
        series[header.series_uid].append(header)
    return list(series.values())


def _by_rules(path: Path, placed: Sequence[Series], found: Sequence[Header], rules: SeriesRules) -> Series:
    if len(placed) == 1:
        verdict = select.judge(rules, Facts.of(placed[0].headers))
        if verdict.fits:
            return placed[0]
        choice = f"{placed[0].text} is the only scan; the rules would not take it: {verdict.reason}"
        log.warning("%s: %s", path, choice)
        return replace(placed[0], choice=choice)
    chosen = select.choose(rules, [Facts.of(headers) for headers in groups(found)])
    if chosen.taken is None:
        raise chosen.refusal(path)
    log.info("%s: %s", path, chosen.because)
    [series] = [series for series in placed if series.headers[0].series_uid == chosen.taken.facts.uid]
    return replace(series, choice=chosen.because)


def _pick(path: Path, placed: Sequence[Series], wanted: str | None) -> Series:
    listing = "; ".join(series.text for series in placed)
    if wanted is None:
        if len(placed) == 1:
            return placed[0]
        raise Refusal(
            path,
            found=f"{len(placed)} series: {listing}",
            needed="one series",
            remedy="choose one by its UID, its number or a part of its description: --series, or series= from Python",
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
    )


def _refuse_mixture(path: Path, series: Series, scans: Sequence[Header]) -> None:
    """What must be the same in every file of a series, beside the geometry."""
    head = series.headers[0]
    stray = [header for header in scans if header.series_uid == head.series_uid and not header.frames]
    if stray:
        raise Refusal(
            path,
            found=f"{len(stray)} images with {stray[0].unplaced} among {series.text} (first {stray[0].path.name})",
            needed="a position for every slice",
            remedy="move those files out of the folder",
        )
    for name, attribute in (("patients", "patient_id"), ("frames of reference", "frame_of_reference_uid")):
        values = sorted({getattr(header, attribute) for header in series.headers})
        if len(values) > 1:
            raise Refusal(
                path,
                found=f"{len(values)} {name} in {series.text}: {', '.join(values[:3])}",
                needed="one",
                remedy="separate them into folders of their own",
            )
