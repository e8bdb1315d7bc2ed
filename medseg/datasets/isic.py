"""ISIC challenges 2016, 2017 and 2018: dermoscopic photographs and the outline of the lesion (task or part 1).

```
root/ISIC-2017_Training_Data/ISIC_0000000.jpg
root/ISIC-2017_Training_Part1_GroundTruth/ISIC_0000000_segmentation.png      255 is lesion, 0 is skin
```
The folders have the names that the downloads unpack to, which differ from year to year. Superpixels and metadata, which
lie among the images, are passed over.

Training, validation and test images: 900, none, 379 (2016); 2000, 150, 600 (2017); 2594, 100, 1000 (2018). The years
overlap: never train on one and test on another without comparing the ids. Licences: see
https://challenge.isic-archive.com/data. The challenges do not say which images belong to one person: every image counts
as a patient of its own, unless `patient` or a table root/patients.csv (columns case and patient) says otherwise, so
results are likely to be a little too good.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from medseg.case import Case, CaseSet
from medseg.datasets import _examples, _files, _people
from medseg.labels import LabelTable
from medseg.refusal import Refusal
from medseg.settings import Settings

FOLDERS = {
    2016: {
        "training": ("ISBI2016_ISIC_Part1_Training_Data", "ISBI2016_ISIC_Part1_Training_GroundTruth"),
        "test": ("ISBI2016_ISIC_Part1_Test_Data", "ISBI2016_ISIC_Part1_Test_GroundTruth"),
    },
    2017: {
        "training": ("ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth"),
        "validation": ("ISIC-2017_Validation_Data", "ISIC-2017_Validation_Part1_GroundTruth"),
        "test": ("ISIC-2017_Test_v2_Data", "ISIC-2017_Test_v2_Part1_GroundTruth"),
    },
    2018: {
        "training": ("ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"),
        "validation": ("ISIC2018_Task1-2_Validation_Input", "ISIC2018_Task1_Validation_GroundTruth"),
        "test": ("ISIC2018_Task1-2_Test_Input", "ISIC2018_Task1_Test_GroundTruth"),
    },
}
"""Images and ground truth, by year and part."""
ENDING = "_segmentation"
SUPERPIXELS = "_superpixels"
LABELS = LabelTable.of({"lesion": list(_files.WHITE)}, paint=[255])


class Options(Settings):
    """Which challenge, and which part of it."""

    root: Path
    """Folder into which the downloads were unpacked."""
    year: Literal[2016, 2017, 2018]
    """The challenge."""
    part: Literal["training", "validation", "test", "all"] = "training"
    """The challenge's own parts; all: every part of that year, told apart by the attribute `part`."""
    patient: str | None = None
    """Regular expression whose one group catches the patient in the case id."""


def cases(options: Options) -> CaseSet:
    """Cases sorted by id.

    Raises:
        Refusal: the year has no such part, or an image or its ground truth is missing.
    """
    parts = FOLDERS[options.year]
    if options.part != "all" and options.part not in parts:
        raise Refusal(
            "data.part",
            found=f"{options.part} of {options.year}",
            needed=f"one of {', '.join(parts)}, all",
            remedy="correct part or year",
        )
    found: dict[str, tuple[str, Path, Path]] = {}
    for part, (data, truth) in parts.items():
        if options.part in (part, "all"):
            found |= _pairs(options.root, part, data, truth)
    facts = _people.people(options.root, found, options.patient)
    listed = []
    for case, (part, image, label) in sorted(found.items()):
        about = facts[case]
        about["attributes"] = {**about.get("attributes", {}), "part": part}
        listed.append(Case(id=case, images={"all": image}, target=label, **about))
    return CaseSet(tuple(listed), _files.COLOURS, LABELS)


def _pairs(root: Path, part: str, data: str, truth: str) -> dict[str, tuple[str, Path, Path]]:
    """(part, image, ground truth) by case."""
    images = {name: path for name, path in _files.images(root / data).items() if not name.lower().endswith(SUPERPIXELS)}
    truths = _files.images(root / truth, ending=ENDING)
    _files.must_match(images, truths, image_folder=root / data, label_folder=root / truth)
    return {case: (part, image, truths[case]) for case, image in images.items()}


def example(folder: Path) -> Options:
    """Three training images of 2017."""
    data, truth = FOLDERS[2017]["training"]
    for seed, case in enumerate(("ISIC_0000000", "ISIC_0000001", "ISIC_0000002")):
        _examples.write_photograph(folder / data / f"{case}.jpg", seed)
        _examples.write_photograph(folder / data / f"{case}_superpixels.png", seed)
        _examples.write_mask(folder / truth / f"{case}_segmentation.png")
    _examples.write_table(folder / "patients.csv", "case,patient", "ISIC_0000000,a", "ISIC_0000001,a", "ISIC_0000002,b")
    return Options(root=folder, year=2017)
