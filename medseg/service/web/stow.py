"""DICOM objects that come over HTTP, into the same intake as those of the listener: STOW-RS (DICOM PS3.18, 10.5)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from medseg.refusal import Refusal
from medseg.service import logs

log = logging.getLogger(__name__)

AT_ONCE = 8
"""Objects that are handed in at once; those that wait together go on record together."""
FAILURES = {"no-dicom": 0xC000, "bad-uid": 0xC000, "too-large": 0xA700, "mismatch": 0xA900}
"""Failure Reason (0008,1197) by the code of a refusal, as C-STORE would answer (PS3.4, B.2.3)."""
OTHER_FAILURE = 0x0110
"""Processing failure."""
JSON_TYPE = "application/dicom+json"


class Object(Protocol):
    """What the intake says of an object that it has kept."""

    @property
    def state(self) -> str: ...
    @property
    def study_uid(self) -> str: ...
    @property
    def sop_uid(self) -> str: ...
    @property
    def sop_class(self) -> str: ...


class Store(Protocol):
    """Where received objects go, see `intake.store.Store`."""

    @property
    def incoming(self) -> Path: ...

    def keep(self, path: Path, sender: str, *, sop_uid: str = "", name: str = "") -> Object: ...


@dataclass(frozen=True)
class Stored:
    """What became of objects.

    Attributes:
        failed: reason (0008,1197) and refusal of each that was not kept.
    """

    kept: tuple[Object, ...]
    failed: tuple[tuple[int, Refusal], ...]

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
            items = [
                {"00081150": _value("UI", one.sop_class), "00081155": _value("UI", one.sop_uid)} for one in self.kept
            ]
            found["00081199"] = {"vr": "SQ", "Value": items}
        if self.failed:
            reasons = [{"00081197": _value("US", reason)} for reason, _ in self.failed]
            found["00081198"] = {"vr": "SQ", "Value": reasons}
        return found


def store(into: Store, files: Sequence[Path], sender: str, *, study: str = "") -> Stored:
    """Hand files in. Each is safe, on the disk and in the journal, when this returns.

    Args:
        study: the only one that they may be of; empty: any.
    """
    with ThreadPoolExecutor(AT_ONCE) as threads:
        ends = list(threads.map(lambda path: _stored(into, path, sender, study), files))
    kept = tuple(end for end in ends if not isinstance(end, tuple))
    failed = tuple(end for end in ends if isinstance(end, tuple))
    told = {"sender": sender, "kept": len(kept), "refused": [refusal.code for _, refusal in failed]}
    log.info(
        "objects taken in", extra={"facts": {**told, "studies": [logs.pseudonym(one.study_uid) for one in kept][:1]}}
    )
    return Stored(kept, failed)


def _stored(into: Store, path: Path, sender: str, study: str) -> Object | tuple[int, Refusal]:
    try:
        if study:
            _refuse_other_study(path, study)
        inside = path.rename(into.incoming / f"{path.parent.name[-8:]}-{path.name}")
        return into.keep(inside, sender, name="the object")
    except Refusal as refusal:
        return FAILURES.get(refusal.code, OTHER_FAILURE), refusal


def _refuse_other_study(path: Path, study: str) -> None:
    from medseg.dicom import headers

    if headers.study(path) != study:
        raise Refusal(
            "the object",
            found="another study than the address names",
            needed="objects of that study",
            remedy="send it to /dicom-web/studies, which takes any",
            code="mismatch",
        )


def _value(kind: str, value: object) -> dict[str, Any]:
    return {"vr": kind, "Value": [value]}
