"""What is wrong with the slices of a series, in mm, and what can be done about it. Nothing is changed here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from medseg.dicom.geometry import Geometry


class Verdict(StrEnum):
    """Of a stack of slices."""

    GOOD = "good"
    REPAIRABLE = "repairable"
    REFUSED = "refused"


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: one word for tables and programs: missing, spacing, tilt, drift, repeated, orientation, size, ...
        text: what it is, with numbers and units.
        severity: refused stops the series, repairable can be mended by `repair`, good is only said.
        size_mm: how far it would misplace the worst voxel if it were ignored; 0 where nothing moves.
        repair: what mends it: a word of `repair.KINDS`; empty where nothing needs to, or can, be done.
        remedy: what a person can do about it.
    """

    kind: str
    text: str
    severity: Verdict
    size_mm: float = 0.0
    repair: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Judgement:
    """All findings about one stack of slices."""

    geometry: Geometry
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """That of the worst finding."""
        severities = {finding.severity for finding in self.findings}
        return next((one for one in (Verdict.REFUSED, Verdict.REPAIRABLE) if one in severities), Verdict.GOOD)
