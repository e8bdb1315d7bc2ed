"""LiTS: abdominal CT with liver and liver tumours, `volume-0.nii` and `segmentation-0.nii`.

```
root/Training Batch 1/volume-0.nii            the pairs may lie in root or anywhere below it, together or apart,
root/Training Batch 1/segmentation-0.nii      packed (.nii.gz) or not; 1 is liver, 2 tumour
```
131 training scans; licence: see https://competitions.codalab.org/competitions/17094.
Scans 28 to 47 are those of 3D-IRCADb: do not test on that set what was trained on this one. Test volumes
(test-volume-0.nii) have no segmentation and are not cases. Who the patients are is not told: every scan counts as a
patient of its own, unless `patient` or root/patients.csv says otherwise.

For the whole liver, tumours included, give the recipe `labels: {liver: [1, 2], tumour: [2]}`.
"""

from __future__ import annotations

import re
from pathlib import Path

from medseg.case import Case, CaseSet
from medseg.datasets import _examples, _people
from medseg.labels import LabelTable
from medseg.refusal import Refusal
from medseg.settings import Settings

NAME = re.compile(r"(volume|segmentation)-(\d+)\.nii(?:\.gz)?", re.IGNORECASE)


class Options(Settings):
    """Where the data set is."""

    root: Path
    """Folder that holds the pairs, directly or in subfolders."""
    patient: str | None = None
    """Regular expression whose one group catches the patient in the case id, which is 'volume-<number>'."""


def cases(options: Options) -> CaseSet:
    """Cases sorted by id.

    Raises:
        Refusal: no segmentations, a file without its counterpart, or two of one number.
    """
    found: dict[str, dict[str, Path]] = {"volume": {}, "segmentation": {}}
    for path in sorted(options.root.rglob("*.nii*")) if options.root.is_dir() else ():
        match = NAME.fullmatch(path.name)
        if match is None or not path.is_file():
            continue
        kind, number = match.group(1).lower(), match.group(2)
        if number in found[kind]:
            raise Refusal(
                path,
                found=f"a second {kind} {number} beside {found[kind][number]}",
                needed="one of each number",
                remedy="remove the copy",
            )
        found[kind][number] = path
    volumes, labels = found["volume"], found["segmentation"]
    if not labels:
        raise Refusal(
            options.root,
            found="no segmentation-<number>.nii",
            needed="the training data of LiTS",
            remedy="correct the data set's root",
        )
    for number in sorted(volumes.keys() ^ labels.keys()):
        has, lacks = ("volume", "segmentation") if number in volumes else ("segmentation", "volume")
        raise Refusal(
            found[has][number],
            found=f"no {lacks}-{number}.nii to go with it",
            needed="a volume and a segmentation of each number",
            remedy="complete the download or copy",
        )
    facts = _people.people(options.root, [f"volume-{number}" for number in labels], options.patient)
    listed = [
        Case(id=f"volume-{n}", images={"ct": volumes[n]}, target=label, **facts[f"volume-{n}"])
        for n, label in labels.items()
    ]
    return CaseSet(tuple(sorted(listed, key=lambda case: case.id)), ("ct",), LabelTable.of({"liver": 1, "tumour": 2}))


def example(folder: Path) -> Options:
    """Three scans of two patients."""
    for number in (0, 1, 10):
        batch = folder / ("Training Batch 1" if number < 10 else "Training Batch 2")
        _examples.write_nifti(batch / f"volume-{number}.nii", number)
        _examples.write_nifti(batch / f"segmentation-{number}.nii", number, label=True)
    _examples.write_table(folder / "patients.csv", "case,patient", "volume-0,a", "volume-1,a", "volume-10,b")
    return Options(root=folder)
