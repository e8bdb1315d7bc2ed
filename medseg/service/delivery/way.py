"""What all ways out have in common: what is sent, and how it can end."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from medseg.boundary import parsing
from medseg.dicom.signature import is_dicom
from medseg.service.journal.job import Job

TEXT = 500
"""Most characters that are kept of what another program answers."""
TAKEN, AGAIN, NEVER = "taken", "again", "never"


class Again(Exception):
    """It did not work, and may later: nobody is there, or it has no room, or does not let us in."""


class Never(Exception):
    """The receiver will not take these objects, however often they are sent."""


class Pending(Exception):
    """It has what was sent, and has not said yet that it keeps it."""


class Gone(Exception):
    """It does not have what it took."""


@dataclass(frozen=True)
class Instance:
    """What a DICOM object is known by."""

    sop_class: str
    sop_uid: str
    study_uid: str
    series_uid: str
    syntax: str


@dataclass(frozen=True)
class File:
    """A file of a result.

    Attributes:
        instance: None where it is no DICOM object.
    """

    path: Path
    sha256: str
    instance: Instance | None


class Way(Protocol):
    """A way to one receiver; kept as long as the program runs."""

    def send(self, job: Job, files: Sequence[File]) -> str:
        """Send what the receiver can take; what is sent twice is there once.

        Returns:
            What is worth saying: a warning of the receiver, files that it got nothing of.

        Raises:
            Again, Never: see there.
        """

    def confirm(self, job: Job, files: Sequence[File]) -> None:
        """Return if the receiver has all that it took.

        Raises:
            Again, Pending, Gone, Never: see there.
        """

    def close(self) -> None:
        """End what is open."""


def files(out: Path, expected: Mapping[str, str]) -> list[File]:
    """The files of a result, which are as they were written.

    Args:
        out: their folder.
        expected: name -> sha256.

    Raises:
        ValueError: one is not; the message says which.
        medseg.refusal.Refusal: a DICOM object without what it is known by.
    """
    found = []
    for name, sha256 in expected.items():
        path = out / name
        try:
            seen = digest(path)
        except OSError as error:
            raise ValueError(f"{name}: {error.strerror or error}") from error
        if seen != sha256:
            raise ValueError(f"{name} has changed since it was written")
        found.append(File(path, sha256, _instance(path) if is_dicom(path) else None))
    return found


def digest(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def objects(files: Sequence[File]) -> tuple[list[tuple[Path, Instance]], str]:
    """The DICOM objects among files, and what is to be said of the others.

    Raises:
        Never: there is none; whoever gets nothing must not pass for one who has it all.
    """
    found = [(file.path, file.instance) for file in files if file.instance]
    others = [file.path.name for file in files if not file.instance]
    if not found:
        raise Never(f"nothing that an archive can take: no DICOM among {', '.join(others) or 'no files'}")
    return found, f"not sent, because it is no DICOM: {', '.join(others)}" if others else ""


def meaning(status: int) -> str:
    """What a status of C-STORE (PS3.4 B.2.3, PS3.7 C), or a failure reason of STOW-RS (PS3.18 I.2.2), is to the sender.

    A duplicate (0111H) is ours: identifiers of results follow from their job.
    """
    if status in (0x0000, 0x0107, 0x0111, 0x0116) or 0xB000 <= status <= 0xBFFF:
        return TAKEN
    if 0xA900 <= status <= 0xA9FF or 0xC000 <= status <= 0xCFFF or status in (0x0117, 0x0119, 0x0122, 0x0212):
        return NEVER
    return AGAIN


def said(*remarks: str) -> str:
    """Remarks as one text, each once."""
    return "; ".join(dict.fromkeys(remark for remark in remarks if remark))[:TEXT]


def _instance(path: Path) -> Instance:
    import pydicom

    wanted = ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
    with parsing(path, needed="a DICOM object as it was written", remedy="let the case be computed again"):
        read = pydicom.dcmread(path, specific_tags=wanted, stop_before_pixels=True)
        sop_class, sop_uid, study_uid, series_uid = (str(read[name].value) for name in wanted)
        return Instance(sop_class, sop_uid, study_uid, series_uid, str(read.file_meta.TransferSyntaxUID))
