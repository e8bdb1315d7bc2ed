"""What an object says that it is, from the first bytes of its file: nothing that a sender writes can cost more."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.boundary import parsing
from medseg.dicom import parse
from medseg.dicom.objects import MANUFACTURER
from medseg.dicom.signature import starts_dicom
from medseg.refusal import Refusal
from medseg.service.journal.job import Identity

START_BYTES = 2**20
"""Identifying attributes come first (DICOM PS3.5 7.1: by their tags); before them, long lists of references may."""
UID = re.compile(r"[0-9]+(\.[0-9]+)*")
"""As PS3.5 9.1, but zeros may stand before a number, as some devices write them. It is safe as the name of a file."""
LONGEST_UID, LONGEST_TEXT = 64, 200
CHUNK_BYTES = 2**20
NEEDED, REMEDY = "a DICOM object (DICOM PS3.10)", "look at what has sent it"
UIDS = {
    "study_uid": "StudyInstanceUID",
    "series_uid": "SeriesInstanceUID",
    "sop_uid": "SOPInstanceUID",
    "sop_class": "SOPClassUID",
}
TEXTS = {
    "patient_id": "PatientID",
    "accession": "AccessionNumber",
    "study_date": "StudyDate",
    "description": "StudyDescription",
    "modality": "Modality",
}
MAKER = "Manufacturer"
STORAGE = "1.2.840.10008.5.1.4.1.1."
NO_INPUT = tuple(STORAGE + kind for kind in ("9.", "11.", "66", "68.", "88.", "104.", "131", "481."))
"""How SOP classes begin that hold no scan (PS3.6 annex A): waveforms, presentation states, raw data and segmentations,
surfaces, reports and key objects, documents, displays, radiotherapy."""
WANTED = parse.tags([*UIDS.values(), *TEXTS.values(), MAKER])
LAST = UIDS["series_uid"]
"""The highest of the tags, (0020,000E)."""


@dataclass(frozen=True)
class Head:
    """
    Attributes:
        syntax: the transfer syntax, empty where the file does not say.
        begins: byte of the file at which the data set begins.
        identity: what a person knows it by; without a series, as it is one of a study.
        input: whether a model may be given it; what holds no scan, or was made by medseg, is none.
    """

    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class: str
    syntax: str
    begins: int
    identity: Identity
    input: bool


def read(path: Path, name: str = "") -> Head:
    """
    Args:
        name: what messages call the file; its own name, if none is given.

    Raises:
        Refusal: it is no DICOM object (code no-dicom), or lacks UIDs that can be true (bad-uid).
    """
    named = Path(name or path.name)
    with path.open("rb") as handle:
        start = handle.read(START_BYTES)
    if not starts_dicom(start):
        raise Refusal(named, found="no DICOM file", needed=NEEDED, remedy=REMEDY, code="no-dicom")
    try:
        with parsing(named, needed=NEEDED, remedy=REMEDY):
            found, syntax, begins = parse.beginning(start, WANTED, LAST)
            values = {name: found.get(name) for name in (*UIDS.values(), *TEXTS.values(), MAKER)}
    except Refusal as refusal:
        refusal.code = "no-dicom"
        raise
    uids = {field: _uid(named, keyword, values[keyword]) for field, keyword in UIDS.items()}
    given = not uids["sop_class"].startswith(NO_INPUT) and values[MAKER] != MANUFACTURER
    return Head(**uids, syntax=syntax, begins=begins, identity=_identity(uids["study_uid"], values), input=given)


def sha256(path: Path, head: Head) -> str:
    """Of the transfer syntax and the data set: what stands before it, who stored an object and when, is not of it."""
    found = hashlib.sha256(f"{head.syntax}\n".encode())
    with path.open("rb") as handle:
        handle.seek(head.begins)
        while chunk := handle.read(CHUNK_BYTES):
            found.update(chunk)
    return found.hexdigest()


def is_uid(text: str) -> bool:
    return len(text) <= LONGEST_UID and UID.fullmatch(text) is not None


def _uid(path: Path, keyword: str, value: Any) -> str:
    text = "" if value is None else str(value)
    if is_uid(text):
        return text
    raise Refusal(
        path,
        found=f"{keyword} {text[:LONGEST_UID]!r}" if text else f"no {keyword} within the first {START_BYTES >> 20} MiB",
        needed="a UID (DICOM PS3.5 section 9: digits and points, at most 64)",
        remedy=REMEDY,
        code="bad-uid",
    )


def _identity(study_uid: str, values: Mapping[str, Any]) -> Identity:
    return Identity(study_uid=study_uid, **{field: _text(values[keyword]) for field, keyword in TEXTS.items()})


def _text(value: Any) -> str:
    printable = "".join(sign if sign.isprintable() else " " for sign in str(value or "")[:LONGEST_TEXT])
    return " ".join(printable.split())
