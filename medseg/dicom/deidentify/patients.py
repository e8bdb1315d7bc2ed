"""Whose a file is, and under which pseudonym: from the key, or from a table that the user gives."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from medseg import atomic
from medseg.boundary import parsing
from medseg.dicom.deidentify.secret import Secret, write_private
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
    seen: dict[str, dict[str, set[str]]] = defaultdict(lambda: {"dates of birth": set(), "issuers": set()})
    for patient in patients:
        if patient.number:
            seen[patient.number]["dates of birth"].add(patient.birth_date)
            seen[patient.number]["issuers"].add(patient.issuer)
    return {
        number: what
        for number, values in seen.items()
        for what, different in values.items()
        if len(different - {""}) > 1
    }


def read_pseudonyms(path: Path) -> dict[str, str]:
    """Pseudonyms by patient number, from a CSV file with the columns patient_id and pseudonym.

    Raises:
        Refusal: a column is missing, a pseudonym is no name for a folder, or two patients have one.
    """
    with (
        parsing(path, needed="a CSV file with the columns patient_id and pseudonym", remedy="correct its first line"),
        path.open(encoding="utf-8-sig", newline="") as lines,
    ):
        rows = [(row["patient_id"].strip(), row["pseudonym"].strip()) for row in csv.DictReader(lines)]
    owners: dict[str, str] = {}
    for number, pseudonym in rows:
        if not FIT.fullmatch(pseudonym) or pseudonym == number:
            raise Refusal(
                path,
                found=f"'{pseudonym}'",
                needed="up to 64 letters, digits, dots and dashes, and not the patient's own number",
                remedy="choose another",
            )
        if owners.setdefault(pseudonym, number) != number:
            raise Refusal(
                path,
                found=f"two patients under '{pseudonym}'",
                needed="one pseudonym for each",
                remedy="choose another for one of them",
            )
    return {number: pseudonym for pseudonym, number in owners.items()}


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


@dataclass(frozen=True)
class Link:
    """One line of the file that leads back: a study, old and new."""

    patient: str
    pseudonym: str
    days: str
    study: str
    new_study: str


def write_mapping(path: Path, links: Iterable[Link]) -> None:
    """Add studies to the file that leads back from pseudonyms to patients; its owner alone may read it.

    Raises:
        Refusal: the file is something else, or has other pseudonyms for these studies (another key).
    """
    names = [field.name for field in fields(Link)]
    merged: dict[tuple[str, str], Link] = {}
    if path.exists():
        with (
            parsing(path, needed="the mapping of an earlier run", remedy="name another file with --mapping"),
            path.open(encoding="utf-8", newline="") as lines,
        ):
            merged = {(old.patient, old.study): old for old in (Link(**row) for row in csv.DictReader(lines))}
    for link in links:
        if merged.setdefault((link.patient, link.study), link) != link:
            raise Refusal(
                path,
                found="other pseudonyms or days for the same studies",
                needed="the key, the table and the options that made it",
                remedy="give those, or name another file with --mapping",
            )
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([getattr(link, name) for name in names] for link in sorted(merged.values(), key=str))
    with atomic.replacing(path) as temporary:
        write_private(temporary, text.getvalue())
    os.chmod(path, 0o600)  # noqa: PTH101 - an earlier one may have been opened up
