"""Which label maps an evaluation compares: those of two folders, or those that a table names."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from medseg import tables
from medseg.boundary import parsing
from medseg.datasets._tables import described
from medseg.engine import scans
from medseg.engine.run import Run
from medseg.labels import LabelTable
from medseg.refusal import Refusal

NO_FACTS = ("case", "patient", "prediction", "truth", "scan")
MAPS = ("probabilities", "entropy", "disagreement")
"""Outputs of `predict` that may lie beside its label maps, and are none."""
NO_PATIENTS = (
    "No patients were named, so each case counts as a patient of its own: intervals and tests are too narrow if some "
    "cases are of one patient."
)


@dataclass(frozen=True)
class Pairing:
    """A predicted and a true label map of one case.

    Attributes:
        facts: further columns of the table of cases, by which results can be told apart.
        scan: for pictures; None where none was named.
    """

    case: str
    patient: str
    predicted: Path
    truth: Path
    facts: Mapping[str, str] = field(default_factory=dict)
    scan: Path | None = None


@dataclass(frozen=True)
class Material:
    """What there is to score.

    Attributes:
        missing: cases that cannot be scored, each with the reason.
        notes: what readers of the numbers should know of them.
    """

    pairs: tuple[Pairing, ...]
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def of_folders(predictions: Path, truth: Path, cases: Path | None = None, scans_in: Path | None = None) -> Material:
    """Every label map in `predictions` and the file of the same name (without suffix) in `truth`.

    Args:
        cases: table with the columns case and patient, and any others.
        scans_in: folder with a scan (a file, or a DICOM folder) of the same name, or of it and `_0000`, for each.

    Raises:
        Refusal: nothing to score, a prediction without truth, two files of one name, a table that lacks a case, no scan
            of any case.
    """
    found, wanted = (_by_name(folder) for folder in (predictions, truth))
    extra = sorted(set(found) - set(wanted))
    if extra or not found:
        raise Refusal(
            predictions,
            found=f"label maps without truth: {', '.join(extra)}" if extra else "no label map",
            needed=f"a file of the same name in {truth} for each",
            remedy="correct the folders or the names",
        )
    people = _people(cases, sorted(found)) if cases else {name: (name, {}) for name in found}
    images = _scans(scans_in, found) if scans_in else {}
    pairs = []
    for name in sorted(found):
        who, facts = people[name]
        pairs.append(Pairing(name, who, found[name], wanted[name], facts, images.get(name)))
    missing = tuple(f"{name}: no prediction" for name in sorted(set(wanted) - set(found)))
    return Material(tuple(pairs), missing, () if cases else (NO_PATIENTS,))


def of_table(path: Path) -> Material:
    """Label maps that a CSV names: columns case, prediction, truth (paths relative to the CSV), and, where there are
    such, scan (a path, too), patient, centre and any others.

    Raises:
        Refusal: no such table, a column or cell is missing, or a case stands there twice.
    """
    table = table_rows(path, ("case", "prediction", "truth"))
    refuse_twice(path, [(row["case"],) for row in table])
    pairs, missing = [], []
    for row in table:
        for column in ("truth", "prediction"):
            if not row[column]:
                missing.append(f"{row['case']}: no {column}")
                break
        else:
            files = (path.parent / row["prediction"], path.parent / row["truth"])
            scan = path.parent / row["scan"] if row.get("scan") else None
            pairs.append(Pairing(row["case"], patient(path, row), *files, facts_in(row), scan))
    if not pairs:
        raise Refusal(path, found="no case with prediction and truth", needed="both", remedy="complete the table")
    return Material(tuple(pairs), tuple(missing), notes(table))


def table_from(path: Path) -> LabelTable:
    """The label table of a run folder, or of a labels.yaml."""
    if path.is_dir() and (path / "labels.json").exists():
        return Run(path).table
    file = path / "labels.yaml" if path.is_dir() else path
    if not file.is_file():
        raise Refusal(path, found="no label table", needed="a run folder or labels.yaml", remedy="check it")
    with parsing(file, needed="a label table, `labels: {name: number}`", remedy="correct it"):
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise Refusal(
                file,
                found="an empty file" if data is None else f"a {type(data).__name__}",
                needed="a label table, `labels: {name: number}`",
                remedy="write it so",
            )
        if isinstance(data.get("labels"), list):  # as a run folder has it
            return LabelTable.from_json(data)
        whole = {"labels", "unit", "exclusive", "ignore", "unknown", "paint"} & set(data)
        return described(data if whole else {"labels": data}, file)  # names and numbers alone will do


def table_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Lines of a CSV, of which there must be some."""
    found = tables.rows(path, columns=columns)
    if not found:
        raise Refusal(path, found="no lines below the header", needed="a line for each case", remedy="fill the table")
    return found


def _by_name(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in scans.files(folder):
        name = scans.stem(file)
        if name.endswith(tuple(f".{kind}" for kind in MAPS)):
            continue
        if name in found:
            raise Refusal(
                folder,
                found=f"case '{name}' twice, as {found[name].name} and {file.name}",
                needed="one label map for each case",
                remedy="take one of them away",
            )
        found[name] = file
    return found


def _scans(folder: Path, names: Collection[str]) -> dict[str, Path]:
    there = {scans.stem(path): path for path in sorted(folder.iterdir())} if folder.is_dir() else {}
    found = {name: there[key] for name in names for key in (f"{name}_0000", name) if key in there}
    if not found:
        raise Refusal(
            folder,
            found="no scan of any of these cases" if there else "no such folder, or nothing in it",
            needed=f"scans with the names of the predictions, such as {min(names)}.nii.gz",
            remedy="correct --scans, or leave it out",
        )
    return found


def _people(path: Path, cases: Sequence[str]) -> dict[str, tuple[str, dict[str, str]]]:
    """Patient and further columns of each case; a table may have more cases than are scored."""
    table = table_rows(path, ("case", "patient"))
    refuse_twice(path, [(row["case"],) for row in table])
    found = {row["case"]: row for row in table}
    lacking = [case for case in cases if case not in found]
    if lacking:
        raise Refusal(
            path,
            found=f"no line for {', '.join(lacking)}",
            needed="a line for each case that is scored",
            remedy="complete the table",
        )
    return {case: (patient(path, found[case]), facts_in(found[case])) for case in cases}


def facts_in(row: Mapping[str, str]) -> dict[str, str]:
    """What a line says of a case besides what is compared."""
    return {name: cell for name, cell in row.items() if name and name not in NO_FACTS}


def patient(path: Path, row: Mapping[str, str]) -> str:
    """Whose a line is; without a column patient, the case is its own."""
    if "patient" in row and not row["patient"]:
        raise Refusal(
            path,
            found=f"no patient for case '{row['case']}'",
            needed="a patient in each line, or no such column",
            remedy="complete the table",
        )
    return row.get("patient", row["case"])


def notes(table: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    return () if "patient" in table[0] else (NO_PATIENTS,)


def refuse_twice(path: Path, keys: Sequence[tuple[str, ...]]) -> None:
    """Refuse a table in which a case (or a slice of one: (case, slice)) has two lines, or no name."""
    seen: set[tuple[str, ...]] = set()
    for key in keys:
        if key in seen or not key[0]:
            named = ", slice ".join(key)
            raise Refusal(
                path,
                found=f"case '{named}' twice" if key[0] else "a line without a case",
                needed="one line for each",
                remedy="correct the table",
            )
        seen.add(key)
