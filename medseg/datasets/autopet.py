"""FDG-PET-CT-Lesions (autoPET 2022 and 2023): whole-body PET/CT with tumour masks, as NIfTI.

```
root/PETCT_0011f3deaf/03-23-2003-NA-Unspecified CTPET.../SUV.nii.gz    PET in standardised uptake values
                                                         CTres.nii.gz  CT in Hounsfield units, on the grid of the PET
                                                         SEG.nii.gz    1 is tumour
                                                         PET.nii.gz, CT.nii.gz   not needed
```
That is what the authors' conversion of the TCIA collection writes. 1014 studies of 900 patients (Tuebingen); licence:
see https://doi.org/10.7937/gkr0-xv29. The first folder is the patient, so several studies of one person stay together.
The releases in nnU-Net's form (psma_..., fdg_...) are read by `nnunet_raw`.

For classes of slices (does it show a tumour?) set unit: slice; for lymphoma alone, name the collection's table in
`metadata` and set diagnosis: [LYMPHOMA].
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from medseg import tables
from medseg.case import Case, CaseSet
from medseg.datasets import _examples, _files
from medseg.labels import LabelTable
from medseg.refusal import Refusal
from medseg.settings import Settings

Channel = Literal["SUV", "CTres", "PET"]
SUBJECT = "Subject ID"
FACTS = ("diagnosis", "age", "sex")


class Options(Settings):
    """Which files, of whom, and for which question."""

    root: Path
    """Folder that holds PETCT_*/."""
    channels: tuple[Channel, ...] = Field(default=("SUV", "CTres"), min_length=1)
    """Files of a study, in channel order. (CT has a grid of its own and is no choice.)"""
    unit: Literal["voxel", "slice"] = "voxel"
    """Outline tumours, or say of each slice whether it shows one."""
    metadata: Path | None = None
    """The collection's table ("Clinical Metadata FDG PET_CT Lesions.csv"): diagnosis, age and sex become attributes."""
    diagnosis: tuple[str, ...] = ()
    """Only patients with one of these diagnoses (needs `metadata`): LYMPHOMA, MELANOMA, LUNG_CANCER, NEGATIVE."""


def cases(options: Options) -> CaseSet:
    """Cases sorted by id, which is patient_study.

    Raises:
        Refusal: no such folders, a study lacks a file, or the table lacks a patient.
    """
    people = _people(options)
    found = []
    for patient in _files.folders(options.root, "PETCT_*"):
        facts = people.get(patient.name, {}) if people is not None else {}
        if people is not None and not facts:
            raise Refusal(
                options.metadata or patient,
                found=f"no line for {patient.name}",
                needed=f"every patient in the column '{SUBJECT}'",
                remedy="take the collection's whole table, or leave metadata out",
            )
        if options.diagnosis and facts.get("diagnosis", "").upper() not in [d.upper() for d in options.diagnosis]:
            continue
        found += [_case(options, patient.name, study, facts) for study in _files.folders(patient, "*")]
    _files.must_exist(
        [path for case in found for path in (*case.images.values(), case.target) if path], named_by=options.root
    )
    found.sort(key=lambda case: case.id)
    if options.unit == "slice":
        table = LabelTable.classes({"tumour": 1}, exclusive=False, unit="slice")
    else:
        table = LabelTable.of({"tumour": 1})
    return CaseSet(tuple(found), options.channels, table)


def _case(options: Options, patient: str, study: Path, facts: dict[str, str]) -> Case:
    return Case(
        id=f"{patient}_{study.name.replace(' ', '-')}",
        patient=patient,
        group=study.name,
        images={channel: study / f"{channel}.nii.gz" for channel in options.channels},
        target=study / "SEG.nii.gz",
        unit="slice" if options.unit == "slice" else "volume",
        attributes=facts,
    )


def _people(options: Options) -> dict[str, dict[str, str]] | None:
    """Diagnosis, age and sex by patient, from the first line of each."""
    if options.metadata is None:
        if options.diagnosis:
            raise Refusal(
                "data.diagnosis",
                found="no metadata",
                needed="the collection's table, which has the diagnoses",
                remedy="set metadata in the data settings",
            )
        return None
    found: dict[str, Any] = {}
    for row in tables.rows(options.metadata, columns=(SUBJECT, *FACTS)):
        found.setdefault(row[SUBJECT], {name: row[name] for name in FACTS})
    return found


def example(folder: Path) -> Options:
    """Two patients, the first with two studies."""
    for seed, (patient, study) in enumerate(
        (
            ("PETCT_0a", "01-01-2003-NA-PET CT-1"),
            ("PETCT_0a", "02-01-2004-NA-PET CT-2"),
            ("PETCT_1b", "01-01-2003-NA-PET CT-3"),
        )
    ):
        for name in ("SUV", "CTres", "PET", "CT"):
            _examples.write_nifti(folder / patient / study / f"{name}.nii.gz", seed)
        _examples.write_nifti(folder / patient / study / "SEG.nii.gz", seed, label=True, numbers=(1,))
    return Options(root=folder)
