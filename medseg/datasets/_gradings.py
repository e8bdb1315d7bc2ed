"""How the data sets of diabetic retinopathy grades write down what they know, for `dr_grading`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from medseg import tables
from medseg.datasets import _files
from medseg.refusal import Refusal

GRADES = range(5)
EYE = re.compile(r"(.+)_(left|right)", re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """Where a set keeps its parts, and the columns of its tables.

    Attributes:
        parts: (table, folder of photographs) by part, both below the root.
        image, grade: columns; of several for the grade, the one that is filled.
        columns: further columns by what they tell: patient, quality, gradable.
        eyes: eye by grade column, where that tells it.
        names_tell: whether the file name is <patient>_<left or right>.
        prefix: whether file names repeat between parts.
        pairs: table of photographs that belong to one patient, below the root.
        sources: (table, column) with the centre, by part.
    """

    parts: dict[str, tuple[str, str]]
    image: str
    grade: tuple[str, ...]
    columns: dict[str, str] = field(default_factory=dict)
    eyes: dict[str, str] = field(default_factory=dict)
    names_tell: bool = False
    prefix: bool = False
    pairs: str = ""
    sources: dict[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One photograph; `grade` None if it is ungradable, `patient` empty if it is not known."""

    case: str
    image: Path
    grade: int | None
    part: str
    patient: str = ""
    eye: str = ""
    quality: str = ""
    centre: str = ""


_TRUTHS, _PHOTOGRAPHS = "2. Groundtruths/", "1. Original Images/"
LAYOUTS = {
    "eyepacs": Layout(
        {"training": ("trainLabels.csv", "train"), "test": ("retinopathy_solution.csv", "test")},
        *("image", ("level",)),
        names_tell=True,
    ),
    "aptos": Layout({"training": ("train.csv", "train_images")}, "id_code", ("diagnosis",)),
    "ddr": Layout(
        {"training": ("train.txt", "train"), "validation": ("valid.txt", "valid"), "test": ("test.txt", "test")},
        *("image", ("grade",)),
    ),
    "idrid": Layout(
        {
            "training": (
                f"{_TRUTHS}a. IDRiD_Disease Grading_Training Labels.csv",
                f"{_PHOTOGRAPHS}a. Training Set",
            ),
            "test": (f"{_TRUTHS}b. IDRiD_Disease Grading_Testing Labels.csv", f"{_PHOTOGRAPHS}b. Testing Set"),
        },
        *("Image name", ("Retinopathy grade",)),
        prefix=True,
    ),
    "deepdrid": Layout(
        {
            "training": ("regular-fundus-training/regular-fundus-training.csv", "regular-fundus-training/Images"),
            "validation": (
                "regular-fundus-validation/regular-fundus-validation.csv",
                "regular-fundus-validation/Images",
            ),
            "test": ("Online-Challenge1&2-Evaluation/Challenge1_labels.csv", "Online-Challenge1&2-Evaluation/Images"),
        },
        *("image_id", ("left_eye_DR_Level", "right_eye_DR_Level", "DR_Levels")),
        columns={"patient": "patient_id", "quality": "Overall quality"},
        eyes={"left_eye_DR_Level": "left", "right_eye_DR_Level": "right"},
        sources={
            "training": ("regular-fundus-training/regular-fundus-source-training.csv", "Source"),
            "validation": ("regular-fundus-validation/regular-fundus-source-validation.csv", "Source"),
        },
    ),
    "messidor2": Layout(
        {"test": ("messidor_data.csv", "IMAGES")},
        *("image_id", ("adjudicated_dr_grade",)),
        columns={"gradable": "adjudicated_gradable"},
        pairs="messidor-2.csv",
    ),
}


def read(root: Path, layout: Layout, part: str) -> list[Entry]:
    """The photographs of a part, in the table's order, ungradable ones among them.

    Raises:
        Refusal: a table or a column is missing, a grade is none, or a photograph is not there.
    """
    table, folder = root / layout.parts[part][0], root / layout.parts[part][1]
    rows = _spaced(table) if table.suffix == ".txt" else _commas(table, layout)
    find, patient_of = _photographs(folder), _pairs(root / layout.pairs) if layout.pairs else {}
    centres = _centres(root, layout, part)
    entries = []
    for row in rows:
        name = _stem(row[layout.image])
        column = next((column for column in layout.grade if row.get(column)), layout.grade[0])
        patient, eye = row.get(layout.columns.get("patient", ""), ""), layout.eyes.get(column, "")
        if layout.names_tell:
            patient, eye = _patient_and_eye(name, table)
        entries.append(
            Entry(
                case=f"{part}_{name}" if layout.prefix else name,
                image=find(row[layout.image]),
                grade=_grade(row.get(column, ""), row.get(layout.columns.get("gradable", ""), "1"), table, name),
                part=part,
                patient=patient or patient_of.get(name.lower(), "") or _leading_number(name, layout),
                eye=eye or _eye_letter(name, layout),
                quality=row.get(layout.columns.get("quality", ""), ""),
                centre=centres.get(name, ""),
            )
        )
    return entries


def _commas(table: Path, layout: Layout) -> list[dict[str, str]]:
    """Rows of a table with a header; empty ones, which spreadsheets leave behind, are passed over."""
    rows = [row for row in tables.rows(table, columns=(layout.image,)) if any(row.values())]
    if rows and not set(layout.grade) & set(rows[0]):
        raise Refusal(
            table,
            found=f"columns {', '.join(rows[0])}",
            needed=f"also {' or '.join(layout.grade)}",
            remedy="take the table of the release",
        )
    return rows


def _spaced(table: Path) -> list[dict[str, str]]:
    """Lines `name grade` without a header (DDR)."""
    if not table.is_file():
        raise Refusal(table, found="no such file", needed="lines of name and grade", remedy="correct the root")
    rows = []
    for line in table.read_text(encoding="utf-8-sig").splitlines():
        words = line.split()
        if words and len(words) != 2:
            raise Refusal(table, found=f"the line '{line}'", needed="name and grade", remedy="repair the line")
        if words:
            rows.append({"image": words[0], "grade": words[1]})
    return rows


def _grade(cell: str, gradable: str, table: Path, name: str) -> int | None:
    """0 to 4; None for 5, or where the table says that the photograph cannot be graded."""
    if gradable in ("0", "0.0"):
        return None
    number = cell.removesuffix(".0")
    if number == "5":
        return None
    if not number.isdecimal() or int(number) not in GRADES:
        raise Refusal(
            table, found=f"grade '{cell}' of {name}", needed="0 to 4, or 5 for ungradable", remedy="correct the line"
        )
    return int(number)


def _photographs(folder: Path) -> Callable[[str], Path]:
    """What finds a photograph by its name in the table: in any case, with or without a suffix (releases differ)."""
    if not folder.is_dir():
        raise Refusal(
            folder, found="no such folder", needed="the photographs", remedy="correct the root, or unpack them"
        )
    by_name: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith(".") and path.name.lower().endswith(_files.SUFFIXES):
            other = by_name.setdefault(_stem(path.name).lower(), path)
            if other != path:
                raise Refusal(
                    path, found=f"a second photograph beside {other}", needed="one of each name", remedy="remove one"
                )

    def find(name: str) -> Path:
        found = by_name.get(_stem(name).lower())
        if found is None:
            raise Refusal(
                folder / name,
                found="no such photograph",
                needed="every photograph that the table lists",
                remedy="complete the download or copy, or remove the line",
            )
        return found

    return find


def _stem(name: str) -> str:
    """Name without an image suffix; unlike `Path.stem` it leaves dots alone that belong to the name."""
    return _files.case_id(Path(name))


def _patient_and_eye(name: str, table: Path) -> tuple[str, str]:
    match = EYE.fullmatch(name)
    if match is None:
        raise Refusal(table, found=f"the name '{name}'", needed="<patient>_<left or right>", remedy="correct the table")
    return match.group(1), match.group(2).lower()


def _pairs(table: Path) -> dict[str, str]:
    """Patient by photograph (in small letters), from lines left;right: the name of the left one."""
    found: dict[str, str] = {}
    for row in tables.rows(table, columns=("left", "right")):
        for cell in row.values():
            found[_stem(cell).lower()] = _stem(row["left"] or row["right"])
    return found


def _centres(root: Path, layout: Layout, part: str) -> dict[str, str]:
    """Centre by photograph, where the release says it."""
    if part not in layout.sources or not (root / layout.sources[part][0]).is_file():
        return {}
    table, column = layout.sources[part]
    return {row[layout.image]: row[column] for row in tables.rows(root / table, columns=(layout.image, column))}


def _leading_number(name: str, layout: Layout) -> str:
    """DeepDRiD's test table has no patient, but its names do: 347_l2."""
    return name.partition("_")[0] if "patient" in layout.columns else ""


def _eye_letter(name: str, layout: Layout) -> str:
    return {"l": "left", "r": "right"}.get(name.partition("_")[2][:1], "") if layout.eyes else ""
