"""What an evaluation compares: label maps in two folders or named by a table, or probabilities of classes in a table."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from medseg.boundary import parsing
from medseg.datasets._tables import described
from medseg.engine import scans
from medseg.engine.run import Run
from medseg.labels import LabelTable
from medseg.prediction import Evidence
from medseg.refusal import Refusal

PROBABILITY = "probability "
NO_PATIENTS = (
    "No patients were named, so each case counts as a patient of its own: intervals and tests are too narrow if some "
    "cases are of one patient."
)
SUM = 1e-3
"""How far probabilities of classes that exclude each other may be from a sum of one: tables round."""


@dataclass(frozen=True)
class Pairing:
    """A predicted and a true label map of one case.

    Attributes:
        facts: further columns of the table of cases, by which results can be told apart.
    """

    case: str
    patient: str
    predicted: Path
    truth: Path
    facts: Mapping[str, str] = field(default_factory=dict)


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


def of_folders(predictions: Path, truth: Path, cases: Path | None = None) -> Material:
    """Every label map in `predictions` and the file of the same name (without suffix) in `truth`.

    Args:
        cases: table with the columns case and patient, and any others.

    Raises:
        Refusal: nothing to score, a prediction without truth, two files of one name, a table that lacks a case.
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
    known = _people(cases, sorted(found)) if cases else {}
    pairs = tuple(
        Pairing(name, *known.get(name, (name, {}))[:1], found[name], wanted[name], known.get(name, (name, {}))[1])
        for name in sorted(found)
    )
    missing = tuple(f"{name}: no prediction" for name in sorted(set(wanted) - set(found)))
    return Material(pairs, missing, () if cases else (NO_PATIENTS,))


def of_table(path: Path) -> Material:
    """Label maps that a CSV names: columns case, prediction, truth (paths relative to the CSV), and, where there are
    such, patient, centre and any others.

    Raises:
        Refusal: no such table, a column or cell is missing, or a case stands there twice.
    """
    table = rows(path, ("case", "prediction", "truth"))
    _refuse_twice(path, [(row["case"],) for row in table])
    pairs, missing = [], []
    for row in table:
        for column in ("truth", "prediction"):
            if not row[column]:
                missing.append(f"{row['case']}: no {column}")
                break
        else:
            facts = {name: cell for name, cell in row.items() if name not in ("case", "patient", "prediction", "truth")}
            files = (path.parent / row["prediction"], path.parent / row["truth"])
            pairs.append(Pairing(row["case"], _patient(path, row), *files, facts))
    if not pairs:
        raise Refusal(path, found="no case with prediction and truth", needed="both", remedy="complete the table")
    return Material(tuple(pairs), tuple(missing), _notes(table))


def holds_probabilities(path: Path) -> bool:
    """Whether a CSV has a column of probabilities; otherwise it names label maps."""
    return any(name.startswith(PROBABILITY) for name in header(path))


@dataclass(frozen=True)
class Classes:
    """Truth and probabilities of classes from a table, for metrics over the whole set."""

    evidence: tuple[Evidence, ...]
    table: LabelTable
    notes: tuple[str, ...] = ()


def of_probabilities(path: Path, labels: LabelTable | None = None) -> Classes:
    """Classes of images, or of slices where there is a column `slice`, with a column `probability NAME` for each.

    The column truth holds names or numbers of classes, joined by + where several hold; empty where none does. Without
    a label table, classes are numbered from 0 in the order of their columns.

    Raises:
        Refusal: a column or cell is missing, an unknown class, no probability from 0 to 1, or a line twice.
    """
    table = rows(path, ("case", "truth"))
    names = [name.removeprefix(PROBABILITY) for name in table[0] if name.startswith(PROBABILITY)]
    by_slice = "slice" in table[0]
    _refuse_twice(path, [(row["case"], row["slice"]) if by_slice else (row["case"],) for row in table])
    if labels is not None and set(labels.names) != set(names):
        raise Refusal(
            path,
            found=f"probabilities of {', '.join(names)}",
            needed=f"those of the label table: {', '.join(labels.names)}",
            remedy="correct the columns' names or the label table",
        )
    numbers = {name: place for place, name in enumerate(names)}
    known = labels or LabelTable.classes(dict(numbers), exclusive=False, unit="slice" if by_slice else "image")
    truth = np.array([_classes(path, row, known) for row in table], np.uint8)
    chances = np.array([[_chance(path, row, name) for name in known.names] for row in table], np.float32)
    one_of_all = (truth.sum(axis=1) == 1).all() and (np.abs(chances.sum(axis=1) - 1) < SUM).all()
    if labels is None and len(names) > 1 and one_of_all and not by_slice:
        known = LabelTable.classes(dict(numbers), exclusive=True, unit="image")
    taken = {"case", "patient", "truth", "slice", "position_mm", "decision", "entropy", "centre"}
    places: dict[str, list[int]] = {}
    for place, row in enumerate(table):
        places.setdefault(row["case"], []).append(place)
    evidence = []
    for case, members in places.items():
        row = table[members[0]]
        facts = {name: cell for name, cell in row.items() if name not in taken and not name.startswith(_COMPUTED)}
        who, centre = _patient(path, row), row.get("centre", "")
        evidence.append(Evidence(case, who, truth[members].T, chances[members].T, centre, facts))
    return Classes(tuple(evidence), known, _notes(table))


_COMPUTED = (PROBABILITY, "spread ")


def table_from(path: Path) -> LabelTable:
    """The label table of a run folder, or of a labels.yaml."""
    if path.is_dir() and (path / "labels.json").exists():
        return Run(path).table
    file = path / "labels.yaml" if path.is_dir() else path
    if not file.is_file():
        raise Refusal(path, found="no label table", needed="a run folder or labels.yaml", remedy="check it")
    with parsing(file, needed="a label table, `labels: {name: number}`", remedy="correct it"):
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
        if isinstance(data.get("labels"), list):  # as a run folder has it
            return LabelTable.from_json(data)
        whole = {"labels", "unit", "exclusive", "ignore", "unknown", "paint"} & set(data)
        return described(data if whole else {"labels": data}, file)  # names and numbers alone will do


def header(path: Path) -> list[str]:
    """Names of a table's columns.

    Raises:
        Refusal: no such file, or nothing in it; a name twice.
    """
    return _read(path)[0]


def rows(path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """Lines of a CSV below its header, cells stripped. Cells may be separated by commas or semicolons, and the file may
    begin with a byte order mark, as spreadsheets write it.

    Raises:
        Refusal: no such file, empty, not text in UTF-8, a line of another length than the header, columns missing.
    """
    names, lines = _read(path)
    lacking = [column for column in columns if column not in names]
    if lacking:
        raise Refusal(
            path,
            found=f"columns {', '.join(names)}",
            needed=f"also {', '.join(lacking)}",
            remedy="add them, or correct the names in the first line",
        )
    if not lines:
        raise Refusal(path, found="no lines below the header", needed="a line for each case", remedy="fill the table")
    return [dict(zip(names, cells, strict=True)) for cells in lines]


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    if not path.is_file():
        raise Refusal(path, found="no such file", needed="a table with a header line", remedy="correct the path")
    with parsing(path, needed="a table (CSV, UTF-8) with a header line", remedy="save it as CSV in UTF-8"):
        text = path.read_text(encoding="utf-8-sig")
        first = text.lstrip().partition("\n")[0]
        delimiter = ";" if first.count(";") > first.count(",") else ","
        lines = list(csv.reader(text.splitlines(), delimiter=delimiter, strict=True))
    filled = [(number, [cell.strip() for cell in cells]) for number, cells in enumerate(lines, 1) if any(cells)]
    if not filled:
        raise Refusal(path, found="an empty file", needed="a table with a header line", remedy="fill the table")
    names = filled[0][1]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise Refusal(path, found=f"two columns '{twice[0]}'", needed="each name once", remedy="rename one of them")
    for number, cells in filled[1:]:
        if len(cells) != len(names):
            raise Refusal(
                path,
                found=f"{len(cells)} cells in line {number}",
                needed=f"{len(names)}, as in the header",
                remedy="repair the line (quote cells that hold the delimiter)",
            )
    return names, [cells for _, cells in filled[1:]]


def _by_name(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in scans.files(folder):
        name = scans.stem(file)
        if name in found:
            raise Refusal(
                folder,
                found=f"case '{name}' twice, as {found[name].name} and {file.name}",
                needed="one label map for each case",
                remedy="take one of them away",
            )
        found[name] = file
    return found


def _people(path: Path, cases: Sequence[str]) -> dict[str, tuple[str, dict[str, str]]]:
    """Patient and further columns of each case; a table may have more cases than are scored."""
    table = rows(path, ("case", "patient"))
    _refuse_twice(path, [(row["case"],) for row in table])
    found = {row["case"]: row for row in table}
    lacking = [case for case in cases if case not in found]
    if lacking:
        raise Refusal(
            path,
            found=f"no line for {', '.join(lacking)}",
            needed="a line for each case that is scored",
            remedy="complete the table",
        )
    return {
        case: (
            _patient(path, found[case]),
            {name: cell for name, cell in found[case].items() if name not in ("case", "patient")},
        )
        for case in cases
    }


def _patient(path: Path, row: Mapping[str, str]) -> str:
    """Whose a line is; without a column patient, the case is its own."""
    if "patient" in row and not row["patient"]:
        raise Refusal(
            path,
            found=f"no patient for case '{row['case']}'",
            needed="a patient in each line, or no such column",
            remedy="complete the table",
        )
    return row.get("patient", row["case"])


def _notes(table: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    return () if "patient" in table[0] else (NO_PATIENTS,)


def _refuse_twice(path: Path, keys: Sequence[tuple[str, ...]]) -> None:
    seen: set[tuple[str, ...]] = set()
    for key in keys:
        if key in seen or not key[0]:
            what = f"case '{key[0]}'" + f", slice {key[1]}," * (len(key) > 1)
            raise Refusal(
                path,
                found=f"{what} twice" if key[0] else "a line without a case",
                needed="one line for each",
                remedy="correct the table",
            )
        seen.add(key)


def _classes(path: Path, row: Mapping[str, str], table: LabelTable) -> list[bool]:
    """Which classes hold in a line."""
    said = [word.strip() for word in row["truth"].split("+") if word.strip()]
    found = [any(word in (label.name, *map(str, label.members)) for word in said) for label in table.labels]
    known = {word for label in table.labels for word in (label.name, *map(str, label.members))}
    if not set(said) <= known or (table.exclusive and sum(found) != 1):
        listed = ", ".join(f"{label.name} ({'/'.join(map(str, label.members))})" for label in table.labels)
        raise Refusal(
            path,
            found=f"truth '{row['truth']}' of case '{row['case']}'",
            needed=f"{'one' if table.exclusive else 'any'} of {listed}, joined by + where several hold",
            remedy="correct the table",
        )
    return found


def _chance(path: Path, row: Mapping[str, str], name: str) -> float:
    cell = row[PROBABILITY + name]
    try:
        value = float(cell.replace(",", "."))
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise Refusal(
            path,
            found=f"'{cell}' as probability of {name} of case '{row['case']}'",
            needed="a number from 0 to 1",
            remedy="complete the table, or leave the case out",
        )
    return value
