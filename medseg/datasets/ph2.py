"""PH2: 200 dermoscopic photographs with the outline of the lesion, one folder for each.

```
root/PH2 Dataset images/IMD002/IMD002_Dermoscopic_Image/IMD002.bmp
root/PH2 Dataset images/IMD002/IMD002_lesion/IMD002_lesion.bmp               white is lesion
```
The outlines of colours and structures (`_roi`) are passed over. From the Hospital Pedro Hispano, Matosinhos; free for
research and teaching, see https://www.fc.up.pt/addi/ph2%20database.html. The set does not say which images belong to
one person: every image counts as a patient of its own, unless `patient` or root/patients.csv says otherwise.
"""

from __future__ import annotations

from pathlib import Path

from medseg.case import Case, CaseSet
from medseg.datasets import _examples, _files, _people
from medseg.labels import LabelTable
from medseg.settings import Settings

FOLDER = "PH2 Dataset images"
LABELS = LabelTable.of({"lesion": list(_files.WHITE)}, paint=[255])


class Options(Settings):
    """Where the data set is."""

    root: Path
    """The folder PH2Dataset, which holds 'PH2 Dataset images'."""
    patient: str | None = None
    """Regular expression whose one group catches the patient in the case id."""


def cases(options: Options) -> CaseSet:
    """Cases sorted by id.

    Raises:
        Refusal: no such folders, or an image or its outline is missing.
    """
    images, labels = {}, {}
    for place in _files.folders(options.root / FOLDER, "IMD*"):
        images[place.name] = place / f"{place.name}_Dermoscopic_Image" / f"{place.name}.bmp"
        labels[place.name] = place / f"{place.name}_lesion" / f"{place.name}_lesion.bmp"
    _files.must_exist([*images.values(), *labels.values()], named_by=options.root / FOLDER)
    facts = _people.people(options.root, images, options.patient)
    return CaseSet(
        tuple(Case(id=case, images={"all": images[case]}, target=labels[case], **facts[case]) for case in images),
        _files.COLOURS,
        LABELS,
    )


def example(folder: Path) -> Options:
    """Three images of two patients."""
    for seed, case in enumerate(("IMD002", "IMD003", "IMD004")):
        place = folder / FOLDER / case
        _examples.write_photograph(place / f"{case}_Dermoscopic_Image" / f"{case}.bmp", seed)
        _examples.write_mask(place / f"{case}_lesion" / f"{case}_lesion.bmp")
        _examples.write_mask(place / f"{case}_roi" / f"{case}_R1_Label3.bmp")
    _examples.write_table(folder / "patients.csv", "case,patient", "IMD002,a", "IMD003,a", "IMD004,b")
    return Options(root=folder)
