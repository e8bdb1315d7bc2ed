"""The words by which a data set names people, so that they can be looked for in its texts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from medseg.dicom.deidentify.values import split

IDENTIFYING = (
    *("PatientName", "PatientID", "OtherPatientNames", "OtherPatientIDs", "PatientBirthName", "PatientMotherBirthName"),
    *("ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "NameOfPhysiciansReadingStudy"),
    *("RequestingPhysician", "PhysiciansOfRecord", "AccessionNumber", "StudyID"),
)
SHORTEST_WORD, SHORTEST_NUMBER = 3, 4
"""Shorter ones are in too many texts by chance. Letters beyond ASCII tell more: there, one is enough."""


def words(dataset: Any) -> re.Pattern[str] | None:
    """Names and numbers of the people whom the data set's own attributes name."""
    found = set()
    for name in IDENTIFYING:
        if name in dataset:
            for value in split(dataset[name].value):
                found |= set(_telling(value))
    if not found:
        return None
    return re.compile("|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in sorted(found)), re.IGNORECASE)


def _telling(text: str) -> Iterator[str]:
    """The words of a name or number that would tell who is meant."""
    for word in re.split(r"[\s^=,;]+", text.strip(" \0")):
        shortest = SHORTEST_NUMBER if re.search(r"\d", word) else SHORTEST_WORD
        if len(word) >= shortest or not word.isascii():
            yield word
