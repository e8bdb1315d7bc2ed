"""Whether what was found about the slices of a series stops it, and the refusal if it does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.refusal import Refusal

if TYPE_CHECKING:
    from medseg.dicom.preflight import Finding
    from medseg.dicom.settings import DicomSettings


def refusal(path: Path, findings: Sequence[Finding], slices: int, settings: DicomSettings) -> Refusal | None:
    """Why a series is refused: it cannot be repaired, or may not be; None if it is good, or will be repaired.

    Args:
        path: named in the message.
        findings: about one volume.
        slices: how many it has.
        settings: `repair` and `tolerance_mm` are what counts.
    """
    from medseg.dicom import preflight, repair
    from medseg.dicom.preflight import Verdict

    verdict = preflight.worst(findings)
    if verdict is Verdict.GOOD or (verdict is Verdict.REPAIRABLE and settings.repair == "fix"):
        return None
    worst = [finding for finding in findings if finding.severity is verdict]
    remedies = list(dict.fromkeys(finding.remedy for finding in worst if finding.remedy))
    if verdict is Verdict.REPAIRABLE:
        means = "; ".join(dict.fromkeys(repair.KINDS[finding.repair] for finding in worst))
        asked = f" (it would do this: {means})" if settings.repair == "report" else ""
        remedies.append(f"allow the repair with repair=fix{asked}")
    return Refusal(
        path,
        found=f"{'; '.join(finding.text for finding in worst)} ({slices} slice{'' if slices == 1 else 's'})",
        needed=f"equal slices, straight above one another at even distances to within {settings.tolerance_mm:g} mm",
        remedy=", or ".join(remedies),
        code=worst[0].code,
    )
