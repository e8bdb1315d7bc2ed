"""Whose a case is, by what the user typed and by the Patient ID: scans of one person stay together."""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Mapping
from pathlib import Path

from MedSegLib import cohort
from MedSegLib.cohort import Rows
from MedSegLib.trouble import Trouble

KEY, KEPT = ".pseudonyms", ".identities"


def pseudonym(data: Path, identity: str) -> str:
    """What stands for a patient in this data set: the same for the same `identity` (a DICOM Patient ID), which nobody
    finds out who has not the data set's key. Empty for an empty one."""
    if not identity.strip():
        return ""
    path = data / KEY
    if not path.exists():
        cohort.write(path, secrets.token_hex(32) + "\n")
    key = bytes.fromhex(path.read_text(encoding="utf-8"))
    return f"patient-{hmac.new(key, identity.strip().encode(), 'sha256').hexdigest()[:10]}"


def patient_of(data: Path, rows: Rows, case: str, typed: str, identity: str) -> tuple[str, tuple[str, ...]]:
    """The patient of a case, and what the user ought to read of that. The identity is remembered with the case, and not
    with the name: who renames a patient in patients.csv renames it for later cases, too.

    Args:
        rows: of patients.csv.
        typed: by the user; may be empty, as `identity` may.

    Raises:
        Trouble: the data set has the case, or the identity, as somebody else's.
    """
    standing = pseudonym(data, identity)
    kept = _kept(data)
    known = _known(rows, kept, standing)
    before = rows.get(case, {}).get("patient", "")
    shared = any(row["patient"] == before for name, row in rows.items() if name != case)
    settled = before if before != case or shared else ""  # a case of its own may get a patient later
    patient = known or typed or settled or standing or case
    if settled not in ("", patient):
        what = f"The data set has a case '{case}' of another patient ({before}, not {patient})."
        remedy = "Give this case another name. If both are one person, correct the data set's patients.csv first."
        raise Trouble(what, remedy, "patient")
    if standing:
        cohort.write(data / KEPT, json.dumps({**kept, case: standing}, indent=1, ensure_ascii=False) + "\n")
    if known and typed not in ("", known):
        return patient, (f"Saved as one of {known}, not {typed}: the data set has this Patient ID as {known}.",)
    return patient, ()


def _kept(data: Path) -> dict[str, str]:
    """What stands for the identity, by case."""
    try:
        kept: dict[str, str] = json.loads((data / KEPT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        what = f"The data set's file {KEPT}, which says what cases are of one person, is damaged."
        raise Trouble(
            what, "Restore it from a backup, or delete it and name each patient yourself.", "patient"
        ) from error
    return kept


def _known(rows: Rows, kept: Mapping[str, str], standing: str) -> str:
    """The patient whose cases are of this identity; empty: there are none yet."""
    cases = [case for case in rows if kept.get(case) == standing]
    names = sorted({rows[case]["patient"] for case in cases})
    if len(names) > 1:
        what = f"The data set has cases of one Patient ID as several patients ({', '.join(names)})."
        raise Trouble(what, "Give all of them one name in its patients.csv.", "patient")
    return names[0] if names else ""
