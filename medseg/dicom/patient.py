"""Patient and study, as objects take them over from the headers of a scan."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

UTF_8 = "ISO_IR 192"
NEEDED_TEXT = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
"""Attributes of patient and study that must be there, though they may be empty."""
DATE = r"\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"
TIME = r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?"
FORMS = {
    "PatientBirthDate": (".", DATE),
    "StudyDate": (".", DATE),
    "StudyTime": (":", TIME),
    "PatientSex": (" ", "[MFO]"),
    "PatientAge": (" ", r"\d{3}[DWMY]"),
}
"""What must have a form: the sign that the standard before DICOM put into it, and the form."""


def complete(dataset: Any) -> Any:
    """The dataset with the attributes of patient and study that libraries take for granted and the standard lets be
    empty."""
    for name in NEEDED_TEXT:
        if name not in dataset:
            setattr(dataset, name, "")
    if not dataset.get("SpecificCharacterSet", "ISO_IR 6"):
        del dataset.SpecificCharacterSet  # empty is the default character set, which highdicom knows only as absent
    return dataset


def mend(header: Any, path: Path) -> None:
    """Dates and times as the standard before DICOM wrote them become today's; what is no date, time, sex or age is left
    empty, which the standard allows for each of them: otherwise highdicom, and archives, refuse the whole object."""
    for name, (sign, form) in FORMS.items():
        if name not in header:
            continue
        given = str(header.get(name) or "").strip()
        mended = given.replace(sign, "")
        setattr(header, name, mended if re.fullmatch(form, mended) else "")
        if given and not header.get(name):
            log.warning("%s: %s '%s' is none; it is left empty in the DICOM objects written", path, name, given)


def character_set(header: Any, *texts: str) -> str | None:
    """SpecificCharacterSet for an object with these texts that takes its patient from `header`: the header's own, or
    UTF-8 where that could not hold a text or can switch between several sets (ISO 2022), which highdicom refuses."""
    own = header.get("SpecificCharacterSet")
    if own is None:  # which allows ASCII alone, and often is not true
        texts = (*texts, *(str(header.get(name, "")) for name in (*NEEDED_TEXT, "StudyDescription")))
    keeps = own is None or (isinstance(own, str) and not own.startswith("ISO 2022"))
    return own if keeps and all(text.isascii() for text in texts) else UTF_8
