"""What archives are asked for, and what they answer: the same for C-FIND and QIDO-RS."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from medseg.refusal import Refusal
from medseg.service.intake import head

KEYS = (
    "PatientID",
    "StudyDate",
    "ModalitiesInStudy",
    "AccessionNumber",
    "StudyInstanceUID",
    "StudyDescription",
)
"""Keys of a study that may be asked by; archives know all but the last (DICOM PS3.4 table C.6-5)."""
ANSWERED = (*KEYS, "NumberOfStudyRelatedInstances")
NO_ROOM = "no-room"
"""Code of what could be kept later."""


@dataclass(frozen=True)
class Found:
    """A study that an archive has.

    Attributes:
        objects: how many it says to have; 0: it does not say.
    """

    study_uid: str
    patient_id: str = ""
    study_date: str = ""
    modalities: str = ""
    description: str = ""
    objects: int = 0

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Found:
        """From what an archive answers, by keyword."""
        count = values.get("NumberOfStudyRelatedInstances", "")
        return cls(
            values.get("StudyInstanceUID", ""),
            values.get("PatientID", ""),
            values.get("StudyDate", ""),
            values.get("ModalitiesInStudy", ""),
            values.get("StudyDescription", ""),
            int(count) if count.isdecimal() else 0,
        )


def keys(words: Iterable[str]) -> dict[str, str]:
    """KEY=VALUE, by key.

    Raises:
        Refusal: none, an unknown key, or no value: the whole archive is asked for by nobody who means it.
    """
    found: dict[str, str] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in KEYS:
            near = difflib.get_close_matches(name, KEYS, n=1, cutoff=0.4)
            needed = f"one of {', '.join(KEYS)}" + (f"; perhaps {near[0]}" if near else "")
            raise Refusal("query", found=f"'{name}'", needed=needed, remedy="write KEY=VALUE")
        if value.strip("*?\\ "):
            found[name] = value
    if not found:
        raise Refusal(
            "query",
            found="no key with a value",
            needed="at least one, as an archive holds more than anybody wants",
            remedy="ask such as PatientID=123 or StudyDate=20261101-20261107",
        )
    return found


def fits(values: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether an answer is one to the question: many archives pass over keys that they do not know, and give more."""
    return all(_fits(name, values.get(name, ""), wish) for name, wish in wanted.items())


def _fits(name: str, value: str, wish: str) -> bool:
    """What an archive does not tell fits."""
    if not value:
        return True
    if name == "StudyDate" and "-" in wish:
        first, _, last = wish.partition("-")
        return (first or value) <= value <= (last or value)
    if name == "ModalitiesInStudy":
        return any(one in value.split("\\") for one in wish.replace(",", "\\").split("\\"))
    if name == "StudyInstanceUID":
        return value in wish.replace(",", "\\").split("\\")
    return fnmatch.fnmatchcase(value.upper(), wish.upper().replace("[", "[[]"))


def studies(answers: Iterable[Mapping[str, str]], wanted: Mapping[str, str]) -> list[Found]:
    """The studies among answers, each once, by date and UID."""
    found = {values.get("StudyInstanceUID", ""): Found.of(values) for values in answers if fits(values, wanted)}
    good = [one for uid, one in found.items() if head.is_uid(uid)]
    return sorted(good, key=lambda one: (one.study_date, one.study_uid))


def incomplete(where: str, lacking: int, wanted: int, remedy: str, troubles: Sequence[Refusal] = ()) -> Refusal:
    """
    Args:
        troubles: with objects; want of room here comes first, and gives its code, as it is not for the archive to mend.
    """
    first = sorted(troubles, key=lambda one: one.code != NO_ROOM)[:1]
    return Refusal(
        where,
        found=f"{lacking} of the {wanted} objects that it says to have did not come"
        + "".join(f" ({one.found})" for one in first),
        needed="all of them",
        remedy="; ".join(dict.fromkeys([*(one.remedy for one in first), remedy])),
        code=NO_ROOM if any(one.code == NO_ROOM for one in first) else "incomplete",
    )
