"""Telling DICOM files from others without importing pydicom."""

from __future__ import annotations

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
    too, so that a damaged slice is refused by name and not passed over. See `archive.files` for more than folders."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith(".") and claims_dicom(path):
            yield path
