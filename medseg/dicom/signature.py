"""Telling DICOM files from others without importing pydicom."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = (".dcm", ".dicom", ".ima")


def is_dicom(path: Path) -> bool:
    """Whether the file has DICOM's signature."""
    with path.open("rb") as handle:
        return starts_dicom(handle.read(132))


def starts_dicom(start: bytes) -> bool:
    """Whether the first 132 bytes of a file are DICOM's."""
    return start[128:132] == b"DICM"


def claims_dicom(path: Path) -> bool:
    """Whether the file has DICOM's suffix or signature."""
    return path.suffix.lower() in SUFFIXES or is_dicom(path)


def files(folder: Path) -> Iterator[Path]:
    """DICOM files in a folder and below it, by name. A file that claims to be DICOM by its suffix but is not counts
    too, so that a damaged slice is refused by name and not passed over; and so does what may not be looked at, a file
    or a whole folder, for the same reason. See `archive.files` for more than folders."""
    shut: list[Path] = []

    def unlisted(error: OSError) -> None:
        if not isinstance(error, PermissionError):
            raise error
        shut.append(Path(error.filename))

    inside = [Path(place) / name for place, _, names in os.walk(folder, onerror=unlisted) for name in names]
    yield from sorted([*filter(_counts, inside), *shut])


def _counts(path: Path) -> bool:
    try:
        return not path.name.startswith(".") and path.is_file() and claims_dicom(path)
    except PermissionError:
        return True
