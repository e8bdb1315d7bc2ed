"""The file that leads back from the cleaned files to the patients: a line for each study."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path

from medseg import atomic
from medseg.boundary import parsing
from medseg.dicom.deidentify.secret import write_private
from medseg.refusal import Refusal


@dataclass(frozen=True)
class Link:
    """A study, old and new. `birth_date` tells a later run that a number came to somebody else."""

    patient: str
    birth_date: str
    pseudonym: str
    days: str
    study: str
    new_study: str


NAMES = [field.name for field in fields(Link)]


def read(path: Path) -> list[Link]:
    """The studies of earlier runs; none if there is no file yet.

    Raises:
        Refusal: the file is something else, such as the key.
    """
    if not path.exists():
        return []
    needed, remedy = "the mapping of an earlier run", "name another file with --mapping"
    with parsing(path, needed=needed, remedy=remedy), path.open(encoding="utf-8", newline="") as lines:
        table = csv.DictReader(lines)
        rows, names = list(table), table.fieldnames
    if names != NAMES:
        raise Refusal(path, found="a file of another kind", needed=needed, remedy=remedy)
    return [Link(**{name: row[name] or "" for name in NAMES}) for row in rows]


def merge(path: Path, earlier: Iterable[Link], links: Iterable[Link]) -> list[Link]:
    """Studies of earlier runs and new ones.

    Raises:
        Refusal: the same study has another pseudonym or shift than before (another key); `path` is named.
    """
    merged = {(link.patient, link.study): link for link in earlier}
    for link in links:
        before = merged.get((link.patient, link.study), link)
        if replace(before, birth_date=link.birth_date) != link:
            raise Refusal(
                path,
                found="other pseudonyms or days for the same studies",
                needed="the key, the table and the options that made it",
                remedy="give those, or name another file with --mapping",
            )
        merged[link.patient, link.study] = replace(link, birth_date=link.birth_date or before.birth_date)
    return sorted(merged.values(), key=str)


def write(path: Path, links: Iterable[Link]) -> None:
    """Write the file; its owner alone may read it."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(NAMES)
    writer.writerows([getattr(link, name) for name in NAMES] for link in links)
    with atomic.replacing(path) as temporary:
        write_private(temporary, text.getvalue())
    os.chmod(path, 0o600)  # noqa: PTH101 - an earlier one may have been opened up
