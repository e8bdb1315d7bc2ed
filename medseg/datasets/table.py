"""A CSV with a line for each case: who, where the images are, where the label map is.

```
patient,case,centre,fold,image,label          order of the columns is free; group, centre, fold and label are optional
P1,P1a,Ulm,0,scans/1a.nii.gz,labels/1a.nii.gz paths are relative to the CSV; a DICOM series is given by its folder
P2,P2a,Bern,1,/data/2a,labels/2a.nii.gz       an empty label means that the case has none
```
Several channels: one column each, named in `channels`, in order; or, for photographs and files that hold several
channels, one column `all`, and the names of the channels in `files_hold`. A column `valid` may name a mask of the
pixels that count (field of view), a column `class` the class of the image (number or name; several: 1;3), with
unit: image. Columns that are none of these become attributes of the case (scanner, age, ...), by which results can be
told apart.

What the numbers in the label maps mean stands in `labels` and the settings after it, or in a labels.yaml beside the CSV
(as in the `folder` data set, with the same keys).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from medseg import tables
from medseg.case import Case, CaseSet
from medseg.datasets import _examples, _files, _people, _tables
from medseg.labels import LabelTable
from medseg.refusal import Refusal
from medseg.settings import Settings


class Options(Settings):
    """Where the table is, which of its columns are images, and what the labels are."""

    root: Path
    """The CSV file."""
    channels: tuple[str, ...] = Field(default=("image",), min_length=1)
    """Columns that hold images, in channel order."""
    files_hold: tuple[str, ...] = ()
    """Names of the channels that the file in the column `all` holds, in order; instead of `channels`."""
    labels: dict[str, int | list[int]] = Field(default_factory=dict)
    """Number (or numbers, for a region) of each label. Empty: read labels.yaml beside the CSV."""
    unit: Literal["voxel", "slice", "image"] | None = None
    """What a label is for: voxels, or as a class slices or whole images. None: as labels.yaml says, or voxels."""
    exclusive: bool | None = None
    """Whether labels exclude each other. None: as labels.yaml says, or as the labels look."""
    ignore: int | None = None
    """Number in the label maps that means "not known". None: as labels.yaml says, or none."""


def cases(options: Options) -> CaseSet:
    """Cases sorted by id.

    Raises:
        Refusal: a column, cell or file is missing, or a case stands in the table twice.
    """
    path = options.root
    columns = ("all",) if options.files_hold else options.channels
    rows = tables.rows(path, columns=("case", "patient", *columns))
    if not rows:
        raise Refusal(path, found="no lines below the header", needed="a line for each case", remedy="fill the table")
    table = _labels(options)
    ids = sorted(row["case"] for row in rows)
    facts = _people.facts(rows, ids, path, but={*columns, "label", "valid", "class"})
    by_case = {row["case"]: row for row in rows}
    found = tuple(_case(path, by_case[case], columns, table, facts[case]) for case in ids)
    files = [file for case in found for file in (*case.images.values(), case.target, case.valid) if file is not None]
    _files.must_exist(files, named_by=path)
    if table.ignore is None and any(case.valid for case in found):
        raise Refusal(
            path,
            found="a column 'valid', and no number for pixels that do not count",
            needed="a number that no label has",
            remedy="set, for example, ignore: 8 in the data settings or in labels.yaml",
        )
    return CaseSet(found, options.files_hold or options.channels, table)


def _case(path: Path, row: dict[str, str], columns: tuple[str, ...], table: LabelTable, facts: dict[str, Any]) -> Case:
    wanted = row.get("class", "") if table.unit == "image" else ""
    return Case(
        id=row["case"],
        images={column: _path(path, row, column) for column in columns},
        target=_path(path, row, "label") if row.get("label") else None,
        valid=_path(path, row, "valid") if row.get("valid") else None,
        classes=_tables.numbers_of(wanted, table, path, row["case"]) if wanted else None,
        unit=_files.UNITS[table.unit],
        **facts,
    )


def _path(table: Path, row: dict[str, str], column: str) -> Path:
    if not row[column]:
        raise Refusal(
            table,
            found=f"nothing in column '{column}' of case '{row['case']}'",
            needed="a path",
            remedy="complete the line or remove it",
        )
    return table.parent / row[column]


def _labels(options: Options) -> LabelTable:
    """From the settings; what they leave open is read beside the table."""
    beside = options.root.parent / "labels.yaml"
    content = {} if options.labels else _files.load_yaml(beside)
    said: dict[str, Any] = {"labels": options.labels or None, "unit": options.unit}
    said |= {"exclusive": options.exclusive, "ignore": options.ignore}
    content = {**content, **{key: value for key, value in said.items() if value is not None}}
    return _tables.described(content, Path("data.labels") if options.labels else beside)


def example(folder: Path) -> Options:
    """Three cases of two patients, two channels each."""
    lines = ["patient,case,centre,fold,scanner,t1,flair,label"]
    for seed, (patient, case) in enumerate((("P1", "P1a"), ("P1", "P1b"), ("P2", "P2a"))):
        for channel in ("t1", "flair"):
            _examples.write_nifti(folder / channel / f"{case}.nii.gz", seed)
        _examples.write_nifti(folder / "labels" / f"{case}.nii.gz", seed, label=True)
        fold = 0 if patient == "P1" else 1
        lines.append(f"{patient},{case},Ulm,{fold},A,t1/{case}.nii.gz,flair/{case}.nii.gz,labels/{case}.nii.gz")
    (folder / "cases.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Options(root=folder / "cases.csv", channels=("t1", "flair"), labels={"left": 1, "right": 2})
