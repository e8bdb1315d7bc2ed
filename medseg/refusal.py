"""The one exception for everything a user can cause: which file, what was found, what was needed, what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CODES: dict[str, str] = {
    "refused": "the input or a setting is not what is needed; the message says what",
    "lost-input": "the input is not where it was",
    "no-dicom": "what was sent is no DICOM object",
    "bad-uid": "an identifier that is none, or that is no name for a file",
    "mismatch": "an object that is not what it was announced as",
    "too-large": "an object that is larger than is allowed",
    "no-room": "no room to take more in; it is to be sent again",
    "unreadable": "a file that cannot be parsed: damaged, cut, or of another kind",
    "absurd-size": "a header that claims a size that cannot be true, or that no machine could hold",
    "truncated": "slices whose pixels are cut short",
    "pixels": "pixels that cannot be decoded, or are not of the size that the header says",
    "codec": "pixels in a transfer syntax that is not read",
    "not-finite": "voxels that are NaN or infinite",
    "no-images": "no image that could be segmented: reports, segmentations and the like, or nothing at all",
    "no-geometry": "images without a place, an orientation or a pixel spacing in the patient",
    "no-identifiers": "headers without the identifiers that results refer to",
    "no-series": "no series that the rules, or the choice, mean",
    "several-series": "several series that are meant equally well, of which none is guessed",
    "several-volumes": "a series of several volumes at different places, of which none is named",
    "incomplete-media": "files that a DICOMDIR lists are missing",
    "missing-slices": "slices are missing",
    "spacing": "slices at uneven distances",
    "pixel-spacing": "pixel spacings that differ within the series, or are impossible",
    "size": "slices of different sizes",
    "orientation": "slices that are turned against each other, or impossible directions",
    "thickness": "a single slice that does not say how thick it is",
    "repeated": "several slices at one place that nothing tells apart",
    "tilt": "a stack that leans against its slices",
    "drift": "slices that are shifted sideways",
    "inexact": "slices that a repair would not bring to their places",
    "room": "slices so far apart that a repair would need absurdly many voxels",
    "patient": "several patients in one series",
    "frame-of-reference": "several frames of reference in one series",
    "modality": "several modalities in one series",
    "stray": "images in the series that do not belong to its stack",
    "several": "several volumes in one series",
    "not-quantitative": "PET whose header does not allow standardised uptake values, which the model needs",
    "channels": "channels that are missing, too many, or not those that the model was trained on",
    "grids-differ": "channels that do not lie on one grid",
    "memory": "more memory than there is",
    "disk-full": "no room on the disk",
    "error": "an error in medseg or on the machine; the log has more",
}
"""What a code of a refusal, or of a failed case, means."""


class Refusal(Exception):
    """Input, recipe or machine state that medseg will not work with.

    The command line prints it without a traceback and exits with a non-zero code.

    Args:
        where: file, folder or recipe key that is at fault.
        found: what is there.
        needed: what medseg needs instead.
        remedy: what the user can do about it.
        code: one of `CODES`, for programs that count what is refused; `refused` where no finer one is given.

    Example:
        >>> print(Refusal("scan.nii.gz", found="two volumes", needed="one volume", remedy="split the file"))
        scan.nii.gz: found two volumes; needed one volume. What to do: split the file.
    """

    def __init__(self, where: str | Path, *, found: str, needed: str, remedy: str, code: str = "refused"):
        self.where, self.found, self.needed, self.remedy, self.code = str(where), found, needed, remedy, code
        super().__init__(f"{self.where}: found {found}; needed {needed}. What to do: {remedy}.")

    def to_json(self) -> dict[str, str]:
        """For programs."""
        parts = {"code": self.code, "where": self.where, "found": self.found, "needed": self.needed}
        return parts | {"remedy": self.remedy, "text": str(self)}

    def __reduce__(self) -> tuple[Any, ...]:  # worker processes send exceptions by pickle; keyword arguments need this
        return _rebuild, (type(self), self.where, self.found, self.needed, self.remedy, self.code)


def _rebuild(kind: type[Refusal], where: str, found: str, needed: str, remedy: str, code: str) -> Refusal:
    return kind(where, found=found, needed=needed, remedy=remedy, code=code)
