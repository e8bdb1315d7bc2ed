"""What the data set adapters share: case ids from file names, files that must exist, JSON, YAML and CSV at the door."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medseg.labels import LabelTable
from medseg.refusal import Refusal

SUFFIXES = (
    *(".nii.gz", ".seg.nrrd", ".ome.tiff", ".ome.tif"),
    *(".nii", ".hdr", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"),
)
"""Names that stand for an image, longest first. A folder (DICOM series) stands for one as well. Other files beside
images (.raw of an .mhd, .json, Thumbs.db) are passed over; a scan of another suffix can be named in a `table`."""


def case_id(path: Path) -> str:
    """File name without its image suffix; a folder's whole name."""
    if path.is_dir():
        return path.name
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")
    return path.name[: len(path.name) - len(suffix)]


def images(folder: Path) -> dict[str, Path]:
    """Image files and series folders directly in `folder`, by case id, sorted.

    Raises:
        Refusal: no such folder, nothing in it, or two images of one id.
    """
    if not folder.is_dir():
        raise Refusal(
            folder, found="no such folder", needed="a folder of images", remedy="correct the data set's root or layout"
        )
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not (path.is_dir() or path.name.lower().endswith(SUFFIXES)):
            continue
        name = case_id(path)
        if name in found:
            raise Refusal(
                path,
                found=f"a second image of case '{name}' beside {found[name].name}",
                needed="one image for each case and channel",
                remedy="remove or rename one of the two",
            )
        found[name] = path
    if not found:
        raise Refusal(
            folder,
            found="no images",
            needed=f"series folders or files ending in {', '.join(SUFFIXES)}",
            remedy="correct the data set's root or layout",
        )
    return dict(sorted(found.items()))


def must_exist(paths: Iterable[Path], *, named_by: Path) -> None:
    """Refuse, naming the missing files (the first ten), unless all of `paths` exist."""
    missing = [path for path in paths if not path.exists()]
    if missing:
        listed = ", ".join(str(path) for path in missing[:10]) + (", ..." if len(missing) > 10 else "")
        raise Refusal(
            missing[0],
            found=f"{len(missing)} missing file{'s' if len(missing) > 1 else ''}: {listed}",
            needed=f"every file that {named_by} calls for",
            remedy="complete the download or copy, or correct the paths",
        )


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


def load_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file."""
    return _mapping(path, "JSON", lambda text: json.loads(text))


def load_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping from a file."""
    import yaml

    return _mapping(path, "YAML", yaml.safe_load)


def _mapping(path: Path, language: str, parse: Any) -> dict[str, Any]:
    try:
        content = parse(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise Refusal(
            path, found="no such file", needed=f"this {language} file", remedy="write it, or correct the root"
        ) from error
    except Exception as error:  # each parser has its own family of errors; all mean that the file is not what it says
        raise Refusal(
            path, found=f"unreadable {language} ({error})", needed=f"valid {language}", remedy="repair the file"
        ) from error
    if not isinstance(content, dict):
        raise Refusal(
            path, found=f"{language} that is no mapping", needed="names with values", remedy="repair the file"
        )
    return content


def wanted(content: Mapping[str, Any], key: str, path: Path) -> Any:
    """content[key], or a refusal that names file and key."""
    if key not in content:
        raise Refusal(
            path,
            found=f"no '{key}' (only: {', '.join(map(str, content)) or 'nothing'})",
            needed=f"the key '{key}'",
            remedy=f"add '{key}' to the file",
        )
    return content[key]


def rows(path: Path, *, columns: Iterable[str], delimiter: str = ",") -> list[dict[str, str]]:
    """Rows of a table with a header line; cells stripped. `columns` must be there."""
    if not path.is_file():
        raise Refusal(path, found="no such file", needed="a table with a header line", remedy="correct the path")
    with path.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.DictReader(handle, delimiter=delimiter)
        header = [name.strip() for name in reader.fieldnames or ()]
        lacking = [column for column in columns if column not in header]
        if lacking:
            raise Refusal(
                path,
                found=f"columns {', '.join(header) or '(none)'}",
                needed=f"also {', '.join(lacking)}",
                remedy="add the columns or name others in the data settings",
            )
        reader.fieldnames = header
        content = []
        for row in reader:
            if None in row or None in row.values():
                raise Refusal(
                    path,
                    found=f"line {reader.line_num} with another number of cells than the header",
                    needed=f"{len(header)} cells a line",
                    remedy="repair the line (quote cells that hold the delimiter)",
                )
            content.append({name: cell.strip() for name, cell in row.items()})
    return content


def label_table(names: Any, path: Path, *, paint: Any = None) -> LabelTable:
    """Label table from `{name: number or list of numbers}` as a file or recipe gives it."""
    numbers = all(
        isinstance(value, int) or (isinstance(value, list) and value and all(isinstance(n, int) for n in value))
        for value in (names.values() if isinstance(names, dict) else [None])
    )
    if not numbers or not names:
        raise Refusal(
            path,
            found=f"labels {names!r}",
            needed="name: number, or name: list of numbers for a region",
            remedy="correct the labels, for example 'liver: 1'",
        )
    foreground = {str(name): value for name, value in names.items() if not (name == "background" and value in (0, [0]))}
    whole = isinstance(paint, list) and all(isinstance(number, int) for number in paint)
    if paint is not None and not (whole and len(paint) == len(foreground)):
        raise Refusal(
            path,
            found=f"paint order {paint!r} for {len(foreground)} labels",
            needed="a list with one number for each label",
            remedy="correct it, or leave it out",
        )
    return LabelTable.of(foreground, paint=paint)


def numbered(names: Any, path: Path, key: str) -> tuple[str, ...]:
    """Channel names in order, from {"0": name, "1": name, ...} as nnU-Net and the Decathlon write it."""
    order = [str(number) for number in range(len(names))] if isinstance(names, dict) else None
    if not order or sorted(names) != sorted(order) or len({str(name) for name in names.values()}) < len(order):
        raise Refusal(
            path,
            found=f"{key} {names!r}",
            needed='channels numbered from 0, each with a name of its own, such as {"0": "T1", "1": "FLAIR"}',
            remedy=f"correct '{key}'",
        )
    return tuple(str(names[number]) for number in order)


def forward_labels(names: Any, path: Path) -> dict[str, Any]:
    """{name: number}, also from the older form {"1": name}."""
    if isinstance(names, dict) and names and all(isinstance(value, str) for value in names.values()):
        if not all(str(key).isdecimal() for key in names) or len(set(names.values())) < len(names):
            raise Refusal(
                path, found=f"labels {names!r}", needed="number: name, each name once", remedy="correct 'labels'"
            )
        names = {name: int(number) for number, name in names.items()}
    if not isinstance(names, dict):
        raise Refusal(path, found=f"labels {names!r}", needed="names with numbers", remedy="correct 'labels'")
    return {name: value for name, value in names.items() if value != 0}


def write_example(path: Path, seed: int, *, channels: int = 1, label: bool = False) -> None:
    """A valid NIfTI of (6, 5, 4) voxels for the adapters' examples; a label map holds 0, 1 and 2."""
    import nibabel as nib
    import numpy as np

    rng = np.random.default_rng(seed)
    shape = (6, 5, 4) if channels == 1 else (6, 5, 4, channels)
    array = rng.normal(100, 20, shape).astype(np.float32)
    if label:
        array = np.zeros(shape, np.uint8)
        array[1:3, 1:4, 1:3], array[3:5, 1:4, 1:3] = 1, 2
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([1.5, 1.5, 3.0, 1.0])), path)


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
