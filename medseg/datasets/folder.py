"""A plain folder: images/, labels/ and a labels.yaml that says what the numbers mean.

```
root/labels.yaml                 labels: {liver: 1, spleen: 2}      a list of numbers makes a region: tumour: [2, 3]
                                 paint: [1, 2]                      optional; see LabelTable.of
root/images/<case>.nii.gz        one channel: any image file that medseg reads, or a folder with one DICOM series
root/images/<channel>/<case>.*   several channels: name them in `channels`, in order
root/labels/<case>.*             label maps, on the grid of the image; without this folder no case has a label
root/patients.csv                optional: columns case and patient, and if wanted group, centre, fold, further ones
```

Who is who: the `patient` pattern if one is given, else patients.csv, else every case counts as a patient of its own.
With several scans of one patient and neither of the two, scans of that patient can land on both sides of a split.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from medseg.case import Case, CaseSet
from medseg.datasets import _files
from medseg.refusal import Refusal
from medseg.settings import Settings


class Options(Settings):
    """Where the folder is and how to read it."""

    root: Path
    """Folder that holds images/, labels/ and labels.yaml."""
    channels: tuple[str, ...] = ()
    """Subfolders of images/, one for each channel. Empty: one channel, the files directly in images/."""
    patient: str | None = None
    r"""Regular expression whose one group catches the patient in the case id, such as '^(P\d+)'."""
    incomplete: Literal["refuse", "leave_out"] = "refuse"
    """What to do with a case that lacks a channel or (where labels/ exists) its label map."""


def cases(options: Options) -> CaseSet:
    """Cases sorted by id.

    Raises:
        Refusal: a file that belongs there is missing, double or unreadable.
    """
    root = options.root
    described = _files.load_yaml(root / "labels.yaml")
    names = _files.wanted(described, "labels", root / "labels.yaml")
    table = _files.label_table(names, root / "labels.yaml", paint=described.get("paint"))
    by_channel = _images(options)
    labels = _files.images(root / "labels") if (root / "labels").is_dir() else None
    every = sorted({case for found in by_channel.values() for case in found} | set(labels or {}))
    complete = [
        case
        for case in every
        if all(case in found for found in by_channel.values()) and (labels is None or case in labels)
    ]
    if len(complete) < len(every) and (options.incomplete == "refuse" or not complete):
        _refuse_incomplete(options, sorted(set(every) - set(complete)), by_channel, labels)
    facts = _patients(options, complete)
    return CaseSet(
        tuple(
            Case(
                id=case,
                images={channel: found[case] for channel, found in by_channel.items()},
                target=labels[case] if labels is not None else None,
                **facts[case],  # type: ignore[arg-type]
            )
            for case in complete
        ),
        tuple(by_channel),
        table,
    )


def _images(options: Options) -> dict[str, dict[str, Path]]:
    """Path by case, by channel."""
    folder = options.root / "images"
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
    return {"image": found}


def _refuse_incomplete(
    options: Options, cases: list[str], by_channel: dict[str, dict[str, Path]], labels: dict[str, Path] | None
) -> None:
    case = cases[0]
    lacking = [
        f"images/{channel}" if options.channels else "images" for channel, f in by_channel.items() if case not in f
    ]
    lacking += ["labels"] if labels is not None and case not in labels else []
    raise Refusal(
        options.root / lacking[0] / case,
        found=f"no file for case '{case}' in {' and '.join(lacking)}; incomplete cases: {', '.join(cases)}",
        needed="every channel and a label map for each case",
        remedy="add the files, or set incomplete: leave_out in the data settings",
    )


def _patients(options: Options, ids: list[str]) -> dict[str, dict[str, object]]:
    """Keyword arguments of `Case` that say who it is, by case id."""
    path = options.root / "patients.csv"
    if options.patient is not None or not path.exists():
        return {case: {"patient": _files.patient_of(case, options.patient)} for case in ids}
    rows = _files.rows(path, columns=("case", "patient"))
    return _files.facts(rows, ids, path)


def example(folder: Path) -> Options:
    """Three cases of two patients in `folder`."""
    for seed, case in enumerate(("a1", "a2", "b1")):
        _files.write_example(folder / "images" / f"{case}.nii.gz", seed)
        _files.write_example(folder / "labels" / f"{case}.nii.gz", seed, label=True)
    (folder / "labels.yaml").write_text("labels:\n  left: 1\n  right: 2\n", encoding="utf-8")
    (folder / "patients.csv").write_text("case,patient\na1,a\na2,a\nb1,b\n", encoding="utf-8")
    return Options(root=folder)
