"""A plain folder: images/, labels/ and a labels.yaml that says what the numbers mean.

```
root/labels.yaml                 labels: {liver: 1, spleen: 2}      a list of numbers makes a region: tumour: [2, 3]
                                 further keys, all optional: see below
root/images/<case>.nii.gz        one channel: any image file that medseg reads, or a folder with one DICOM series
root/images/<channel>/<case>.*   several channels: name them in `channels`, in order
root/labels/<case>.*             label maps, on the grid of the image; without this folder no case has a label
root/valid/<case>.*              optional: masks of the pixels that count (field of view); needs `ignore` in labels.yaml
root/classes.csv                 with unit: image: columns case and class (number or name; several: 1;3)
root/patients.csv                optional: columns case and patient, and if wanted group, centre, fold, further ones
```

labels.yaml may say besides `paint: [1, 2]` (see LabelTable.of); `exclusive: false` for labels that may overlap;
`ignore: 8`, a number in the label maps that means "not known"; `unknown: {artery: [4]}`, numbers at which it is not
known whether one label is there; `unit: image` for classes of whole images (then every class is listed, number 0 too,
and labels/ is not needed) or `unit: slice` for classes of slices, which have a class where its numbers appear.

Photographs, and NIfTI files that hold several channels: name what each file holds in `files_hold`, for example
[red, green, blue].

Who is who: the `patient` pattern if one is given, else patients.csv, else every case counts as a patient of its own.
With several scans of one patient and neither of the two, scans of that patient can land on both sides of a split.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal

from medseg import tables
from medseg.case import Case, CaseSet
from medseg.datasets import _examples, _files, _people, _tables
from medseg.labels import LabelTable
from medseg.refusal import Refusal
from medseg.settings import Settings

Files = dict[str, dict[str, Path]]
"""Path by case, by folder below the root."""


class Options(Settings):
    """Where the folder is and how to read it."""

    root: Path
    """Folder that holds images/, labels/ and labels.yaml."""
    channels: tuple[str, ...] = ()
    """Subfolders of images/, one for each channel. Empty: one channel, the files directly in images/."""
    files_hold: tuple[str, ...] = ()
    """Names of the channels that each file in images/ holds, in order. Empty: one, and it needs no name."""
    patient: str | None = None
    r"""Regular expression whose one group catches the patient in the case id, such as '^(P\d+)'."""
    incomplete: Literal["refuse", "leave_out"] = "refuse"
    """What to do with a case that lacks a channel or (where there are such) its label map, mask or class."""


def cases(options: Options) -> CaseSet:
    """Cases sorted by id.

    Raises:
        Refusal: a file that belongs there is missing, double or unreadable.
    """
    root = options.root
    table = _tables.described(_files.load_yaml(root / "labels.yaml"), root / "labels.yaml")
    images = _images(options)
    extra = _extra(root, table)
    classes = _classes(root / "classes.csv", table) if table.unit == "image" else None
    complete = _complete(options, {**_named(options, images), **extra}, classes)
    facts = _people.people(root, complete, options.patient)
    return CaseSet(
        tuple(
            Case(
                id=case,
                images={channel: found[case] for channel, found in images.items()},
                target=extra["labels"][case] if "labels" in extra else None,
                valid=extra["valid"][case] if "valid" in extra else None,
                classes=classes[case] if classes is not None else None,
                unit=_files.UNITS[table.unit],
                **facts[case],
            )
            for case in complete
        ),
        options.files_hold or tuple(images),
        table,
    )


def _images(options: Options) -> Files:
    """Path by case, by key of `Case.images`."""
    folder = options.root / "images"
    if options.channels and options.files_hold:
        raise Refusal(
            "data.files_hold",
            found="channels as well",
            needed="either subfolders of images/ or files with several channels",
            remedy="leave one of the two out",
        )
    if options.channels:
        return {channel: _files.images(folder / channel) for channel in options.channels}
    found = _files.images(folder)
    subfolders = [path.name for path in found.values() if path.is_dir()]
    for name in subfolders:
        inside = sorted(
            p.name for p in (folder / name).iterdir() if p.name.endswith((".nii", ".nii.gz", ".nrrd", ".mha"))
        )
        if inside:
            raise Refusal(
                folder / name,
                found=f"a folder of volumes ({inside[0]}, ...) where a DICOM series or an image was expected",
                needed="the names of the channels, when images/ has one folder for each",
                remedy=f"set channels: [{', '.join(subfolders)}] in the data settings",
            )
    return {_files.key(options.files_hold, "image"): found}


def _named(options: Options, images: Files) -> Files:
    """The same by folder."""
    return {f"images/{channel}" if options.channels else "images": found for channel, found in images.items()}


def _extra(root: Path, table: LabelTable) -> Files:
    """Label maps and masks, where their folders are there and the table has a use for them."""
    if table.unit == "image":
        return {}
    extra = {name: _files.images(root / name) for name in ("labels", "valid") if (root / name).is_dir()}
    if "valid" in extra and table.ignore is None:
        raise Refusal(
            root / "labels.yaml",
            found="no 'ignore', though there is a folder valid",
            needed="a number that no label has, for pixels that do not count",
            remedy="add, for example, ignore: 8",
        )
    return extra


def _classes(path: Path, table: LabelTable) -> dict[str, tuple[int, ...]]:
    """Classes by case; lines without a class are passed over."""
    found: dict[str, tuple[int, ...]] = {}
    for row in tables.rows(path, columns=("case", "class")):
        if row["case"] in found:
            raise Refusal(path, found=f"case '{row['case']}' twice", needed="one line a case", remedy="correct it")
        if row["class"]:
            found[row["case"]] = _tables.numbers_of(row["class"], table, path, row["case"])
    return found


def _complete(options: Options, files: Files, classes: dict[str, tuple[int, ...]] | None) -> list[str]:
    """Cases that have everything, sorted; or a refusal that names those which have not."""
    parts: dict[str, Collection[str]] = {**files, **({"classes.csv": classes} if classes is not None else {})}
    every = sorted({case for found in parts.values() for case in found})
    lacking = {case: [name for name, found in parts.items() if case not in found] for case in every}
    complete = [case for case, names in lacking.items() if not names]
    if len(complete) < len(lacking) and (options.incomplete == "refuse" or not complete):
        missing = [case for case, names in lacking.items() if names]
        case, names = missing[0], lacking[missing[0]]
        raise Refusal(
            options.root / names[0] / case if names[0] in files else options.root / names[0],
            found=f"nothing for case '{case}' in {' and '.join(names)}; incomplete cases: {', '.join(missing[:20])}"
            + (", ..." if len(missing) > 20 else ""),
            needed="for each case every channel, and a label map, mask and class where the data set has such",
            remedy="add what is missing, or set incomplete: leave_out in the data settings",
        )
    return complete


def example(folder: Path) -> Options:
    """Three cases of two patients in `folder`."""
    for seed, case in enumerate(("a1", "a2", "b1")):
        _examples.write_nifti(folder / "images" / f"{case}.nii.gz", seed)
        _examples.write_nifti(folder / "labels" / f"{case}.nii.gz", seed, label=True)
    (folder / "labels.yaml").write_text("labels:\n  left: 1\n  right: 2\n", encoding="utf-8")
    (folder / "patients.csv").write_text("case,patient\na1,a\na2,a\nb1,b\n", encoding="utf-8")
    return Options(root=folder)
