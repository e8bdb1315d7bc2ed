"""Who the patients are: by a pattern in the case id, by a table, or each case a patient of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medseg import tables
from medseg.refusal import Refusal

TABLE = "patients.csv"


def people(
    root: Path, ids: Iterable[str], pattern: str | None, *, known: dict[str, str] | None = None
) -> dict[str, dict[str, Any]]:
    """What is said of each case, as keyword arguments of `Case`: by `pattern` if one is given, else by
    `root`/patients.csv if it is there, else the patient in `known`, else each case is a patient of its own.

    Raises:
        Refusal: the pattern fits a case not, or the table lacks one.
    """
    path = root / TABLE
    if pattern is None and path.exists():
        return facts(tables.rows(path, columns=("case", "patient")), ids, path)
    named = known if known is not None and pattern is None else {}
    return {case: {"patient": named.get(case) or patient_of(case, pattern)} for case in ids}


def patient_of(case: str, pattern: str | None) -> str:
    """The patient's id: the one group of `pattern` in the case id, or the whole case id without a pattern.

    Raises:
        Refusal: the pattern is no regular expression with one group, or does not match.
    """
    if pattern is None:
        return case
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise Refusal(
            "patient", found=f"'{pattern}' ({error})", needed="a regular expression", remedy="correct the pattern"
        ) from error
    if compiled.groups != 1:
        raise Refusal(
            "patient",
            found=f"'{pattern}' with {compiled.groups} groups",
            needed="one group in parentheses, which catches the patient's id",
            remedy="for ids such as P07_scan2 write '^([^_]+)'",
        )
    match = compiled.search(case)
    if match is None or not match.group(1):
        raise Refusal(
            f"case '{case}'",
            found=f"no patient id by the pattern '{pattern}'",
            needed="a pattern that matches every case id",
            remedy="correct 'patient' in the data settings",
        )
    return match.group(1)


def facts(
    table: list[dict[str, str]], ids: Iterable[str], path: Path, *, but: Iterable[str] = ()
) -> dict[str, dict[str, Any]]:
    """What a table with columns case and patient says of each case, as keyword arguments of `Case`.

    The columns group, centre and fold are taken as such where they exist; all others, `but` those named, become
    attributes.

    Raises:
        Refusal: a case without a line, two lines for a case, no patient in a line, or a fold that is no number.
    """
    taken = {"case", "patient", "group", "centre", "fold", *but}
    found: dict[str, dict[str, Any]] = {}
    for row in table:
        name, fold = row["case"], row.get("fold", "")
        if not name or name in found or not row["patient"]:
            problem = "a line without a case" if not name else f"two lines for case '{name}'"
            problem = problem if not name or name in found else f"no patient for case '{name}'"
            raise Refusal(path, found=problem, needed="one line a case, with its patient", remedy="correct the table")
        if fold and not fold.isdecimal():
            raise Refusal(
                path, found=f"fold '{fold}' of case '{name}'", needed="0, 1, 2, ... or nothing", remedy="correct it"
            )
        others = {key: cell for key, cell in row.items() if key not in taken}
        found[name] = {
            "patient": row["patient"],
            "group": row.get("group", ""),
            "centre": row.get("centre", ""),
            "fold": int(fold) if fold else None,
            "attributes": others,
        }
    lacking = [case for case in ids if case not in found]
    if lacking:
        raise Refusal(
            path,
            found=f"no line for case '{lacking[0]}'" + (f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""),
            needed="a line with the patient of every case",
            remedy="complete the table",
        )
    return found
