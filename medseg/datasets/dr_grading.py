"""Diabetic retinopathy grades of fundus photographs: EyePACS, APTOS, DDR, IDRiD, DeepDRiD, Messidor-2.

```
eyepacs    root/{trainLabels.csv, train/10_left.jpeg}  test: root/{retinopathy_solution.csv, test/1_left.jpeg}
aptos      root/{train.csv, train_images/000c1434d8d7.png}
ddr        root/{train.txt, train/007-0004-000.jpg}     also valid and test; root is the folder DR_grading
idrid      root/2. Groundtruths/a. IDRiD_Disease Grading_Training Labels.csv,
           root/1. Original Images/a. Training Set/IDRiD_001.jpg     root is the folder B. Disease Grading
deepdrid   root/regular-fundus-training/{regular-fundus-training.csv, Images/1/1_l1.jpg}
                                                        root is the folder regular_fundus_images
messidor2  root/{messidor_data.csv, messidor-2.csv, IMAGES/20051020_43808_0100_PP.png}
```
Photographs may be of any kind of file (.png instead of .jpeg), and lie in subfolders. The class of an image is its
grade, 0 to 4 on the international scale; as a task, referable (2 and above) or not, or all five. Ungradable photographs
(DDR's grade 5, Messidor-2's adjudicated_gradable 0) are left out. DeepDRiD's test grades come as Excel: save
Challenge1_labels.xlsx as .csv beside it.

Who is who: EyePACS says patient and eye in the file name, DeepDRiD in its table, Messidor-2 pairs photographs in
messidor-2.csv (needed). APTOS, DDR and IDRiD do not say: each photograph counts as a patient of its own, unless
`patient` or root/patients.csv does. Messidor-2's grades are those adjudicated by Google (Krause et al. 2018). IDRiD
numbers both of its parts from 001, so its case ids begin with the part.

Photographs: EyePACS 35,126 + 53,576, APTOS 3,662, DDR 13,673 (1,151 ungradable), IDRiD 413 + 103, DeepDRiD 1,200 +
400 + 400, Messidor-2 1,748. IDRiD is CC BY 4.0; for the others see the terms of the Kaggle competitions (EyePACS,
APTOS) and of the authors.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal

from medseg.case import Case, CaseSet
from medseg.datasets import _examples, _files, _gradings, _people
from medseg.labels import LabelTable
from medseg.refusal import Refusal
from medseg.settings import Settings

TASKS: dict[str, dict[str, int | list[int]]] = {
    "referable": {"not referable": [0, 1], "referable": [2, 3, 4]},
    "grade": {"none": 0, "mild": 1, "moderate": 2, "severe": 3, "proliferative": 4},
}


class Options(Settings):
    """Which set, which part of it, and which question."""

    root: Path
    """Folder that holds the tables and folders named above."""
    layout: Literal["eyepacs", "aptos", "ddr", "idrid", "deepdrid", "messidor2"]
    """The set."""
    part: Literal["training", "validation", "test", "all"] | None = None
    """The set's own parts, told apart by the attribute `part`. None: its first (Messidor-2 is all test)."""
    task: Literal["referable", "grade"] = "referable"
    """Referable retinopathy (grade 2 and above) or not, or the grade itself."""
    patient: str | None = None
    """Regular expression whose one group catches the patient in the case id."""


def cases(options: Options) -> CaseSet:
    """Cases sorted by id.

    Raises:
        Refusal: no such part, a table without its columns, a grade that is none, or a photograph that is not there.
    """
    layout = _gradings.LAYOUTS[options.layout]
    part: str = options.part or next(iter(layout.parts))
    if part != "all" and part not in layout.parts:
        raise Refusal(
            "data.part",
            found=f"{part} of {options.layout}",
            needed=f"one of {', '.join(layout.parts)}, all",
            remedy="correct 'part'",
        )
    graded = [
        entry
        for name in layout.parts
        if part in (name, "all")
        for entry in _gradings.read(options.root, layout, name)
        if entry.grade is not None
    ]
    _refuse_doubles(graded, options.root)
    known = {entry.case: entry.patient for entry in graded if entry.patient}
    facts = _people.people(options.root, [entry.case for entry in graded], options.patient, known=known)
    listed = [_case(entry, facts[entry.case]) for entry in graded]
    return CaseSet(
        tuple(sorted(listed, key=lambda case: case.id)), _files.COLOURS, LabelTable.classes(TASKS[options.task])
    )


def _case(entry: _gradings.Entry, facts: dict[str, Any]) -> Case:
    about = {"group": entry.eye, "centre": entry.centre} | {key: value for key, value in facts.items() if value}
    more = {"part": entry.part, "grade": str(entry.grade), **({"quality": entry.quality} if entry.quality else {})}
    about["attributes"] = {**facts.get("attributes", {}), **more}
    return Case(id=entry.case, images={"all": entry.image}, classes=(entry.grade or 0,), unit="image", **about)


def _refuse_doubles(graded: list[_gradings.Entry], root: Path) -> None:
    counts = Counter(entry.case for entry in graded)
    double = [entry for entry in graded if counts[entry.case] > 1]
    if double or not graded:
        raise Refusal(
            double[0].image if double else root,
            found=f"case '{double[0].case}' {counts[double[0].case]} times" if double else "no photograph with a grade",
            needed="each photograph once" if double else "graded photographs",
            remedy="remove the doubles from the table" if double else "correct the data set's root or part",
        )


def example(folder: Path) -> Options:
    """Three photographs of two patients in EyePACS's layout."""
    for seed, case in enumerate(("10_left", "10_right", "13_left")):
        _examples.write_photograph(folder / "train" / f"{case}.jpeg", seed)
    _examples.write_table(folder / "trainLabels.csv", "image,level", "10_left,0", "10_right,2", "13_left,4")
    return Options(root=folder, layout="eyepacs")
