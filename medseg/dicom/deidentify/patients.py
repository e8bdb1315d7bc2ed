"""Whose a file is, and under which pseudonym: from the key, or from a table that the user gives."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from medseg import tables
from medseg.dicom.deidentify.secret import Secret
from medseg.refusal import Refusal

TAGS = ["PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID"]
FIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""A pseudonym is a PatientID (64 characters) and the name of a folder."""


@dataclass(frozen=True)
class Patient:
    """What a file says about whose it is. `birth_date` and `issuer` tell apart two people who share a number."""

    number: str
    name: str
    birth_date: str
    issuer: str
    study: str

    @property
    def identity(self) -> str:
        """By the patient's number; without one by name and date of birth, and without these by study, so that nobody's
        files are taken for somebody else's."""
        if self.number:
            return self.number
        if self.name.strip("^= "):
            return f"name {self.name} born {self.birth_date or 'unknown'}"
        return f"study {self.study}"


NOBODY = Patient("", "", "", "", "")


def of(dataset: Any) -> Patient:
    """The patient of a data set that was read with `TAGS`."""
    number, issuer, name, birth_date, study = (str(dataset.get(tag) or "").strip(" \0") for tag in TAGS)
    return Patient(number, name, birth_date, issuer, study)


def mixed(patients: Iterable[Patient]) -> dict[str, str]:
    """Numbers that two people share, and by what that shows."""
    seen: dict[str, set[Patient]] = defaultdict(set)
    for patient in patients:
        if patient.number:
            seen[patient.number].add(replace(patient, study=""))
    return {number: what for number, different in seen.items() if (what := _told_apart(different))}


def _told_apart(patients: set[Patient]) -> str:
    """By what patients of one number are seen to be two people, or nothing. Names count where dates of birth do not
    say that it is one person, and only if they have no word in common: people marry, and clerks abbreviate."""
    if len({patient.birth_date for patient in patients} - {""}) > 1:
        return "dates of birth"
    if len({patient.issuer for patient in patients} - {""}) > 1:
        return "issuers"
    words = {patient: set(re.findall(r"[^\W_]+", patient.name.casefold())) for patient in patients if patient.name}
    for one, other in combinations(words, 2):
        if not (one.birth_date and other.birth_date) and words[one].isdisjoint(words[other]):
            return "names"
    return ""


def torn(patients: Iterable[tuple[Patient, tuple[str, ...]]]) -> set[str]:
    """UIDs of studies and series whose files would go to two people; each patient comes with such UIDs."""
    owners: dict[str, set[str]] = defaultdict(set)
    for patient, uids in patients:
        for uid in uids:
            owners[uid].add(patient.identity)
    return {uid for uid, identities in owners.items() if len(identities) > 1}


def read_pseudonyms(path: Path) -> dict[str, str]:
    """Pseudonyms by patient number, from a table with the columns patient_id and pseudonym.

    Raises:
        Refusal: from `tables.rows`; a pseudonym is no name for a folder or is a patient's number, or patients and
            pseudonyms do not go one to one.
    """
    wanted = ("patient_id", "pseudonym")
    rows = [(row["patient_id"], row["pseudonym"]) for row in tables.rows(path, columns=wanted)]
    numbers = {number.casefold() for number, _ in rows}
    given: dict[str, str] = {}
    owners: dict[str, str] = {}
    for number, pseudonym in rows:
        if not FIT.fullmatch(pseudonym) or pseudonym.casefold() in numbers:
            raise Refusal(
                path,
                found=f"'{pseudonym}'",
                needed="up to 64 letters, digits, dots and dashes, and no patient's own number",
                remedy="choose another",
            )
        folder = pseudonym.casefold()  # on many disks, P1 and p1 are one
        if given.setdefault(number, pseudonym) != pseudonym or owners.setdefault(folder, number) != number:
            raise Refusal(
                path,
                found=f"two patients under '{pseudonym}', or a second pseudonym beside it",
                needed="one pseudonym for each patient",
                remedy="correct the table",
            )
    return given


def pseudonym(path: Path, patient: Patient, secret: Secret, given: Mapping[str, str] | None) -> str:
    """The pseudonym by the user's table, or by the key if there is no table.

    Raises:
        Refusal: there is a table, and the patient is not in it.
    """
    if given is None:
        return secret.pseudonym(patient.identity)
    if patient.number not in given:
        raise Refusal(
            path,
            found="a patient who is not in the table of pseudonyms",
            needed="a line for every patient",
            remedy="add the patient to the table",
        )
    return given[patient.number]
