"""A first look at every file: whose it is, and whether it can be cleaned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom.config

from medseg.boundary import parsing
from medseg.dicom import parse
from medseg.dicom.deidentify import kinds, patients
from medseg.dicom.deidentify.patients import NOBODY, Patient
from medseg.dicom.signature import is_dicom
from medseg.refusal import Refusal

NEEDED, REMEDY = "a DICOM file that can be read to its end", "export or copy it again"
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
DIRECTORY = "1.2.840.10008.1.3.10"


@dataclass(frozen=True)
class Look:
    """What the header of one file says; `obstacle` is why it is left out, `writing` why its pixels may show a name."""

    path: Path
    patient: Patient = NOBODY
    uids: tuple[str, ...] = ()
    obstacle: str = ""
    writing: str = ""


def files(source: Path) -> list[Path]:
    """Every file, hidden ones and those behind links too: what is left behind is told.

    Raises:
        Refusal: there is none, or a folder may not be read.
    """
    found = [source] if source.is_file() else sorted(_below(source, set()))
    if not found:
        raise Refusal(source, found="no file", needed="DICOM files", remedy="check the path")
    return found


def _below(folder: Path, entered: set[Path]) -> Iterator[Path]:
    """Files in a folder and below it; links that lead nowhere count, so that they are told. A folder is
    entered once."""
    if folder.resolve() in entered or not folder.exists():
        return
    entered.add(folder.resolve())
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise Refusal(
            folder,
            found=error.strerror or "an error of the system",
            needed="folders that may all be read",
            remedy="check the permissions",
        ) from error
    for path in inside:
        if path.is_dir():
            yield from _below(path, entered)
        elif path.is_file() or path.is_symlink():
            yield path


def look(path: Path) -> Look | Refusal:
    """The header of one file, as far as the plan needs it, or why it cannot be read."""
    try:
        with parsing(path, needed="a file that can be read", remedy="check the file and its permissions"):
            signed = is_dicom(path)
        if not signed:
            return Look(path, obstacle="no DICOM file")
        with (
            parsing(path, needed=NEEDED, remedy=REMEDY),
            pydicom.config.disable_value_validation(),
            path.open("rb") as handle,
        ):
            dataset = parse.header(path, handle, parse.tags([*kinds.TAGS, *patients.TAGS, *UIDS]))
            stated = str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or "")
            dataset.SOPClassUID = stated
            patient, writing = patients.of(dataset), kinds.writing(dataset)
            uids = tuple(str(dataset.get(name) or "").strip(" \0") for name in UIDS)
        if stated == DIRECTORY:
            return Look(path, obstacle="a DICOMDIR, whose file names are no longer right")
        if obstacle := kinds.left_out(stated):
            return Look(path, obstacle=obstacle)
        if not all(uids):
            absent = next(name for name, uid in zip(UIDS, uids, strict=True) if not uid)
            raise Refusal(path, found=f"no {absent}", needed=", ".join(UIDS), remedy=REMEDY)
        return Look(path, patient, uids, writing=writing)
    except Refusal as refusal:
        return refusal
