"""DICOM objects that come over HTTP, into the same intake as those of the listener: STOW-RS (DICOM PS3.18, 10.5)."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.refusal import Refusal
from medseg.service import logs
from medseg.service.intake import head
from medseg.service.intake.store import Kept, Store

log = logging.getLogger(__name__)

AT_ONCE = 8
"""Objects that are handed in at once; those that wait together go on record together."""
FAILURES = {"no-dicom": 0xC000, "bad-uid": 0xC000, "too-large": 0xA700, "no-room": 0xA700, "mismatch": 0xA900}
"""Failure Reason (0008,1197) by the code of a refusal, as C-STORE would answer (PS3.4, B.2.3)."""
OTHER_FAILURE = 0x0110
"""Processing failure."""
JSON_TYPE = "application/dicom+json"
NAME = "the object"
"""What messages call it."""
SAID = 10
"""Studies that a line of the log names, each by its pseudonym."""


@dataclass(frozen=True)
class Failed:
    """An object that was not kept.

    Attributes:
        sop_class, sop_uid: empty where they could not be read.
    """

    refusal: Refusal
    sop_class: str = ""
    sop_uid: str = ""

    def to_json(self) -> dict[str, Any]:
        """An item of FailedSOPSequence."""
        reason = {"00081197": _value("US", FAILURES.get(self.refusal.code, OTHER_FAILURE))}
        return {**_reference(self.sop_class, self.sop_uid), **reason} if self.sop_uid else reason


@dataclass(frozen=True)
class Stored:
    """What became of objects."""

    kept: tuple[Kept, ...]
    failed: tuple[Failed, ...]

    @property
    def studies(self) -> tuple[str, ...]:
        return tuple(sorted({one.study_uid for one in self.kept}))

    @property
    def status(self) -> int:
        """PS3.18, table 10.5.3-1: 200 all, 202 some, 409 none."""
        return 200 if not self.failed else 202 if self.kept else 409

    def to_json(self) -> dict[str, Any]:
        """PS3.18, 10.5.3.2: ReferencedSOPSequence (0008,1199) and FailedSOPSequence (0008,1198)."""
        found: dict[str, Any] = {}
        if self.kept:
            found["00081199"] = {"vr": "SQ", "Value": [_reference(one.sop_class, one.sop_uid) for one in self.kept]}
        if self.failed:
            found["00081198"] = {"vr": "SQ", "Value": [one.to_json() for one in self.failed]}
        return found


def store(into: Store, files: Sequence[Path], sender: str, *, study: str = "") -> Stored:
    """Hand files in. Each is safe, on the disk and in the journal, when this returns.

    Args:
        study: the only one that they may be of; empty: any.
    """
    with ThreadPoolExecutor(AT_ONCE) as threads:
        ends = list(threads.map(lambda path: _stored(into, path, sender, study), files))
    stored = Stored(
        tuple(end for end in ends if isinstance(end, Kept)), tuple(end for end in ends if isinstance(end, Failed))
    )
    codes = sorted({one.refusal.code for one in stored.failed})
    told = {"sender": sender, "kept": len(stored.kept), "failed": len(stored.failed), "codes": codes}
    log.info("objects taken in", extra={"facts": {**told, "studies": [*map(logs.pseudonym, stored.studies)][:SAID]}})
    return stored


def _stored(into: Store, path: Path, sender: str, study: str) -> Kept | Failed:
    try:
        found = head.read(path, NAME)
    except Refusal as refusal:
        return Failed(refusal)
    try:
        if study not in ("", found.study_uid):
            raise _other_study()
        inside = path.rename(into.incoming / uuid.uuid4().hex)
        return into.keep(inside, sender, name=NAME)
    except Refusal as refusal:
        return Failed(refusal, found.sop_class, found.sop_uid)


def _other_study() -> Refusal:
    return Refusal(
        NAME,
        found="another study than the address names",
        needed="objects of that study",
        remedy="send it to /dicom-web/studies, which takes any",
        code="mismatch",
    )


def _reference(sop_class: str, sop_uid: str) -> dict[str, Any]:
    return {"00081150": _value("UI", sop_class), "00081155": _value("UI", sop_uid)}


def _value(kind: str, value: object) -> dict[str, Any]:
    return {"vr": kind, "Value": [value]}
