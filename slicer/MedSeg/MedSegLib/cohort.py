"""What a data set of the layout `folder` says of itself: its labels, its files, and who is who."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from MedSegLib.labeltable import Table
from MedSegLib.trouble import Trouble

SUFFIXES = (".nii.gz", ".seg.nrrd", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".hdr", "")
"""Of files that a case may have come as; none: a folder."""
REPLACED = "replaced"
LABELS, CHANNELS = "labels.yaml", "channels.json"
UNNAMED = "one without a name"
Rows = dict[str, dict[str, str]]
Make = Callable[[Path], Any]
"""Makes a file."""


def patients(data: Path) -> dict[str, str]:
    """Patient by case, of the cases that have a label map."""
    return {case: row["patient"] for case, row in people(data).items() if files_of(data / "labels", case)}


def describe(data: Path, table: Table, channels: Sequence[str]) -> None:
    """Write labels.yaml and channels.json, or see that those that are there say the same.

    Raises:
        Trouble: they do not; nothing was written.
    """
    labelled = _refuse_other_labels(data / LABELS, table.described())
    named = _refuse_other_channels(data, list(channels))
    if not labelled:
        write(data / LABELS, _as_text(table.described()))
    if not named:
        write(data / CHANNELS, json.dumps(list(channels), ensure_ascii=False) + "\n")


def _refuse_other_labels(path: Path, wanted: Mapping[str, Any]) -> bool:
    """Whether the file is there, and says the same."""
    try:
        there = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return False
    except ValueError as error:
        what = "The data set's labels.yaml was not written by this module, which reads it as JSON alone."
        raise Trouble(
            what, "Choose a new folder, or write its content as JSON, which is YAML, too.", "labels"
        ) from error
    if json.dumps(there) != json.dumps(wanted):  # the order counts: it is that of the network's channels
        names = there.get("labels", {}) if isinstance(there, dict) else {}
        what = f"The data set is for other labels ({_some(names)}) than the model's ({_some(wanted['labels'])})."
        raise Trouble(what, "Choose another folder for this model's cases.", "labels")
    return True


def _refuse_other_channels(data: Path, wanted: list[str]) -> bool:
    """Whether the file is there, and names the same channels. Without it, those are taken that images/ looks like."""
    try:
        there = json.loads((data / CHANNELS).read_text(encoding="utf-8-sig"))
        named = True
    except FileNotFoundError:
        there, named = _looks_like(data), False
    except ValueError as error:
        what = f"The data set's {CHANNELS} is damaged."
        raise Trouble(
            what, "Choose a new folder, or delete that file if all cases are this model's.", "channels"
        ) from error
    same = len(wanted) == 1 if there == [UNNAMED] else not there or sorted(there) == sorted(wanted)
    if not same:
        what = f"The data set is for other channels ({', '.join(there)}) than the model's ({', '.join(wanted)})."
        raise Trouble(what, "Choose another folder for this model's cases.", "channels")
    return named


def _looks_like(data: Path) -> list[str]:
    """Channels of a folder that came without their names; none: it has no images yet."""
    images = data / "images"
    found = [path for path in images.iterdir() if not path.name.startswith(".")] if images.is_dir() else []
    folders = [path.name for path in found if path.is_dir() and not files_of(data / "labels", path.name)]
    return sorted(folders) if folders and len(folders) == len(found) else [UNNAMED] if found else []


def people(data: Path) -> Rows:
    """Rows of patients.csv by case; cases that came without one are patients of their own.

    Raises:
        Trouble: not all of the table can be read, as when a spreadsheet has saved it: it would be written anew without
            the rest.
    """
    path = data / "patients.csv"
    if path.exists():
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        table = csv.DictReader(io.StringIO(text))
        given = [dict(row) for row in table if any(row.values())]
        rows: Rows = {row["case"]: row for row in given if row.get("case") and row.get("patient") and None not in row}
        readable = {"case", "patient"} <= {*(table.fieldnames or ())} and "\ufffd" not in text
        if text.strip() and not (readable and len(rows) == len(given)):
            what = "The data set's patients.csv lacks the column case or patient or a cell of it, or has a case twice."
            remedy = (
                "Correct it, and save it as CSV in UTF-8 with commas between the columns; or choose another folder."
            )
            raise Trouble(what, remedy, "patients")
        return rows
    found = sorted((data / "labels").iterdir()) if (data / "labels").is_dir() else []
    names = [_case_of(path) for path in found if not path.name.startswith(".")]
    return {name: {"case": name, "patient": name} for name in names}


def write_people(data: Path, rows: Mapping[str, Mapping[str, str]]) -> None:
    columns = list(dict.fromkeys(["case", "patient", *(key for row in rows.values() for key in row)]))
    text = io.StringIO()
    table = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows[case] for case in sorted(rows))
    write(data / "patients.csv", text.getvalue())


def exchange(data: Path, case: str, makers: Mapping[Path, Make]) -> Path | None:
    """Make the files of a case. Only when all are made, those that it has now are put aside; the folder where."""
    partials = {path: _partial(path) for path in makers}
    try:
        for path, make in makers.items():
            make(partials[path])
        replaced = _put_aside(data, case, [path.parent for path in makers])
        for path, partial in partials.items():
            partial.replace(path)
    finally:
        for partial in partials.values():
            partial.unlink(missing_ok=True)
    return replaced


def _put_aside(data: Path, case: str, folders: Sequence[Path]) -> Path | None:
    """Move a former case of this name out of the data set; the folder that it is in now."""
    former = [path for folder in folders for path in files_of(folder, case)]
    if not former:
        return None
    place = next(one for n in range(1, 10**6) if not (one := data / REPLACED / f"{case}-{n}").exists())
    for path in former:
        target = place / path.relative_to(data)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    return place


def files_of(folder: Path, case: str) -> list[Path]:
    return [folder / f"{case}{suffix}" for suffix in SUFFIXES if (folder / f"{case}{suffix}").exists()]


def _case_of(path: Path) -> str:
    suffix = next(suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix))
    return path.name[: len(path.name) - len(suffix)]


def _some(labels: Mapping[str, Any]) -> str:
    listed = [f"{name} {number}" for name, number in list(labels.items())[:6]]
    return ", ".join(listed) + (", ..." if len(labels) > 6 else "")


def _as_text(said: Mapping[str, Any]) -> str:
    return json.dumps(said, indent=1, ensure_ascii=False) + "\n"


def write(path: Path, text: str) -> None:
    """A file that is there whole, or not at all."""
    partial = _partial(path)
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    """Where a file is made; medseg passes over names that begin with a dot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.parent / f".{path.name}.{os.getpid()}.part"
