"""Pre-flight of whole folder trees: every file's header, grouped into series and volumes, each with its verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from medseg.dicom import codec, preflight, series, stacks, values
from medseg.dicom.headers import Header
from medseg.dicom.preflight import Finding, Judgement, Verdict
from medseg.dicom.series import Series
from medseg.dicom.settings import DicomSettings
from medseg.dicom.stacks import Split, Stack
from medseg.dicom.sweep import Outcome
from medseg.refusal import Refusal


@dataclass(frozen=True)
class Checked:
    """One volume of a series."""

    stack: Stack
    judgement: Judgement
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        return preflight.worst(self.findings)


@dataclass(frozen=True)
class CheckedSeries:
    """One series, with every volume in it."""

    series: Series
    split: Split
    volumes: tuple[Checked, ...]

    @property
    def head(self) -> Header:
        return self.series.headers[0]


@dataclass(frozen=True)
class Survey:
    """What a folder tree holds.

    Attributes:
        series: those with at least one image in space, by study and number.
        unplaced: images that should lie in space and do not, of series that have no others.
        others: pictures that need no place, and objects that are no images.
        unreadable: files that cannot be parsed.
    """

    series: tuple[CheckedSeries, ...]
    unplaced: tuple[Header, ...]
    others: tuple[Header, ...]
    unreadable: tuple[Refusal, ...]

    @property
    def refused(self) -> bool:
        """Whether anything that claims to be an image cannot be read."""
        verdicts = {volume.verdict for one in self.series for volume in one.volumes}
        return bool(Verdict.REFUSED in verdicts or self.unplaced or self.unreadable)

    @property
    def kinds(self) -> dict[str, int]:
        """How many of the others there are of each kind."""
        words = ((header.modality or "?") + (" picture" if header.picture else "") for header in self.others)
        return dict(Counter(words).most_common())


def check(found: Sequence[Outcome], settings: DicomSettings) -> Survey:
    """Group headers and judge every volume."""
    read = [outcome for outcome in found if isinstance(outcome, Header)]
    scans = [header for header in read if not header.kind]
    placed = sorted(series.by_series(scans), key=_place)
    used = {one.headers[0].series_uid for one in placed}
    rest = [header for header in scans if header.series_uid not in used]
    return Survey(
        series=tuple(_check(one, settings) for one in placed),
        unplaced=tuple(header for header in rest if not header.picture),
        others=tuple(header for header in read if header.kind) + tuple(header for header in rest if header.picture),
        unreadable=tuple(outcome for outcome in found if isinstance(outcome, Refusal)),
    )


def _place(one: Series) -> tuple[str, str, int, str]:
    """By patient and study, then by number as people count."""
    head = one.headers[0]
    number = int(head.series_number) if head.series_number.isdigit() else 0
    return head.patient_id, head.study_uid, number, head.series_uid


def _check(one: Series, settings: DicomSettings) -> CheckedSeries:
    split = stacks.split(one)
    volumes = []
    for stack in split.stacks:
        judgement = preflight.judge(
            stack.frames, tolerance_mm=settings.tolerance_mm, gap_mm=settings.gap_mm, known=stack.findings
        )
        said = (*judgement.findings, *_undecodable(one), *values.remarks(one.headers, stack.frames))
        volumes.append(Checked(stack, judgement, said))
    return CheckedSeries(one, split, tuple(volumes))


def _undecodable(one: Series) -> Iterator[Finding]:
    for syntax in sorted({header.transfer_syntax_uid for header in one.headers}):
        if syntax not in codec.READ:
            text = f"pixels in a transfer syntax that is not read ({_spoken(syntax)})"
            yield Finding("codec", text, Verdict.REFUSED, remedy="export the series again, uncompressed")


def _spoken(syntax: str) -> str:
    from pydicom.uid import UID

    return UID(syntax).name or "none stated"


def facts(survey: Survey) -> dict[str, object]:
    """Everything about a survey, in types that JSON has; lengths in mm, angles in degrees."""
    return {
        "series": [_series_facts(one) for one in survey.series],
        "unplaced": [{"file": str(one.path), "reason": one.unplaced} for one in survey.unplaced],
        "others": [
            {"file": str(one.path), "modality": one.modality, "kind": one.kind or one.unplaced} for one in survey.others
        ],
        "unreadable": [{"file": one.where, "found": one.found, "remedy": one.remedy} for one in survey.unreadable],
    }


def _series_facts(one: CheckedSeries) -> dict[str, object]:
    head = one.head
    return {
        "patient_id": head.patient_id,
        "study_uid": head.study_uid,
        "series_uid": head.series_uid,
        "number": head.series_number,
        "description": head.description,
        "modality": head.modality,
        "image_type": list(head.image_type),
        "folder": str(head.path.parent),
        "dropped": [asdict(dropped) for dropped in one.split.dropped],
        "volumes": [_volume_facts(volume) for volume in one.volumes],
    }


def _volume_facts(one: Checked) -> dict[str, object]:
    geometry, frames = one.judgement.geometry, one.stack.frames
    ordered = [frames[index] for index in geometry.order]
    measured = asdict(geometry)
    for name in ("order", "affine"):
        del measured[name]
    return {
        "number": one.stack.number,
        "name": one.stack.name,
        "verdict": one.verdict,
        "findings": [asdict(finding) for finding in one.findings],
        "slices": len(frames),
        "rows_columns": list(frames[0].size),
        "spacing_mm": list(frames[0].spacing_mm),
        "thickness_mm": frames[0].thickness_mm,
        "affine": geometry.affine.tolist(),
        "geometry": measured,
        "instances": [
            {"file": str(frame.instance.path), "uid": frame.instance.sop_instance_uid, "frame": frame.instance.frame}
            for frame in ordered
        ],
    }
