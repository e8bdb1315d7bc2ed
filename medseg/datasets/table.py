"""A CSV with a line for each case: who, where the images are, where the label map is.

```
patient,case,centre,fold,image,label          order of the columns is free; group, centre, fold and label are optional
P1,P1a,Ulm,0,scans/1a.nii.gz,labels/1a.nii.gz paths are relative to the CSV; a DICOM series is given by its folder
P2,P2a,Bern,1,/data/2a,labels/2a.nii.gz       an empty label means that the case has none
```
Several channels: one column each, named in `channels`, in order. Columns that are none of these become attributes of
the case (scanner, age, ...), by which results can be told apart. What the numbers in the label maps mean stands in
`labels`, or in a labels.yaml beside the CSV (as in the `folder` data set).
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from medseg.case import Case, CaseSet
from medseg.datasets import _files
from medseg.labels import LabelTable
from medseg.refusal import Refusal
from medseg.settings import Settings


class Options(Settings):
    """Where the table is and which of its columns are images."""

    root: Path
    """The CSV file."""
    channels: tuple[str, ...] = Field(default=("image",), min_length=1)
    """Columns that hold images, in channel order."""
    labels: dict[str, int | list[int]] = Field(default_factory=dict)
    """Number (or numbers, for a region) of each label. Empty: read labels.yaml beside the CSV."""
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    """Between cells."""


def cases(options: Options) -> CaseSet:
    """Cases sorted by id.

    Raises:
        Refusal: a column, cell or file is missing, or a case stands in the table twice.
    """
    path = options.root
    rows = _files.rows(path, columns=("case", "patient", *options.channels), delimiter=options.delimiter)
    if not rows:
        raise Refusal(path, found="no lines below the header", needed="a line for each case", remedy="fill the table")
    ids = sorted(row["case"] for row in rows)
    facts = _files.facts(rows, ids, path, but={*options.channels, "label"})
    by_case = {row["case"]: row for row in rows}
    found = tuple(
        Case(
            id=case,
            images={channel: _path(path, by_case[case], channel) for channel in options.channels},
            target=_path(path, by_case[case], "label") if by_case[case].get("label") else None,
            **facts[case],
        )
        for case in ids
    )
    files = [file for case in found for file in (*case.images.values(), *((case.target,) if case.target else ()))]
    _files.must_exist(files, named_by=path)
    return CaseSet(found, options.channels, _labels(options))


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
    if options.labels:
        return _files.label_table(options.labels, Path("data.labels"))
    beside = options.root.parent / "labels.yaml"
    content = _files.load_yaml(beside)
    return _files.label_table(_files.wanted(content, "labels", beside), beside, paint=content.get("paint"))


def example(folder: Path) -> Options:
    """Three cases of two patients, two channels each."""
    lines = ["patient,case,centre,fold,scanner,t1,flair,label"]
    for seed, (patient, case) in enumerate((("P1", "P1a"), ("P1", "P1b"), ("P2", "P2a"))):
        for channel in ("t1", "flair"):
            _files.write_example(folder / channel / f"{case}.nii.gz", seed)
        _files.write_example(folder / "labels" / f"{case}.nii.gz", seed, label=True)
        fold = 0 if patient == "P1" else 1
        lines.append(f"{patient},{case},Ulm,{fold},A,t1/{case}.nii.gz,flair/{case}.nii.gz,labels/{case}.nii.gz")
    (folder / "cases.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Options(root=folder / "cases.csv", channels=("t1", "flair"), labels={"left": 1, "right": 2})
