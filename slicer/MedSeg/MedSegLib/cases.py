"""Corrections become training cases: a folder that medseg's data set `folder` reads (`medseg list datasets`).

```
DATA/labels.yaml                   the model's label table, in JSON, which is YAML
DATA/images/CASE.nrrd              of a model with several channels images/CHANNEL/CASE.nrrd
DATA/labels/CASE.nrrd              label maps on the grid of the image
DATA/channels.json                 names of the model's channels
DATA/patients.csv                  who is who: a split never divides a patient
DATA/replaced/CASE-1/...           what was there before a case was saved again
DATA/.pseudonyms                   the key that patients' numbers are made with
DATA/.identities                   the number of each case's Patient ID, where it was known
```
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from MedSegLib import cohort, drawn, identities, labeltable, nrrd
from MedSegLib.background import Background
from MedSegLib.cohort import Make
from MedSegLib.errand import working
from MedSegLib.models import Model
from MedSegLib.trouble import Trouble

SAFE = re.compile(r"\w[\w-]{0,79}")
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)", re.IGNORECASE)
"""Names that Windows keeps for itself."""


@dataclass(frozen=True)
class Correction:
    """A case as it was put right, in files.

    Attributes:
        images: an NRRD file for each of the model's channels, in its order.
        labels: segmentation (.seg.nrrd, segments named as the labels) or label map with the model's numbers (.nrrd), on
            the grid of the first image or a part of it.
        case: its name; empty: one that is made from the voxels, so that the same scan has the same name again.
        patient: who it is of; empty: whoever the identity is in this data set, else a patient of its own.
        identity: the Patient ID, where it is known. Cases of one are of one patient, whatever `patient` says. Only what
            stands for it is kept.
    """

    images: Sequence[tuple[str, Path]]
    labels: Path
    case: str = ""
    patient: str = ""
    identity: str = ""


@dataclass(frozen=True)
class SavedCase:
    """A training case on the disk.

    Attributes:
        replaced: where the former one of this name is kept; None: there was none.
        notes: sentences that the user ought to read.
        cases, patients: that the data set has now.
    """

    case: str
    patient: str
    replaced: Path | None
    notes: tuple[str, ...]
    cases: int
    patients: int


def saving(data: Path, correction: Correction, model: Model) -> Background:
    """`save_case` in the background; `facts["saved"]` is its `SavedCase`."""
    return working(lambda errand: {"saved": save_case(data, correction, model)})


def save_case(data: Path, correction: Correction, model: Model) -> SavedCase:
    """Put a corrected case into a data set. One of the same name and patient is replaced, and kept in `replaced`.

    Args:
        data: folder of the data set; made if it is not there.
        model: whose run folder lies on this computer.

    Raises:
        Trouble: they do not fit each other, or the data set, whose cases are as they were.
    """
    table = labeltable.of_run(Path(model.ask))
    _refuse_other_channels(correction.images, model)
    scans = {channel: nrrd.header(path) for channel, path in correction.images}
    case = correction.case.strip() or name_of([path for _, path in correction.images])
    _refuse_unsafe(case, "case")
    for channel in scans if len(scans) > 1 else ():
        _refuse_unsafe(channel.replace(" ", "_"), "channel")
    first = next(iter(scans.values()))
    values, notes = drawn.values(table, nrrd.header(correction.labels), first)
    cohort.describe(data, table, model.channels)
    rows = cohort.people(data)
    patient, told = identities.patient_of(data, rows, case, correction.patient.strip(), correction.identity)
    rows[case] = {**rows.get(case, {}), "case": case, "patient": patient}
    cohort.write_people(data, rows)
    several = len(scans) > 1
    makers: dict[Path, Make] = {
        data / "images" / (channel if several else "") / f"{case}.nrrd": partial(nrrd.copy_bare, scan)
        for channel, scan in scans.items()
    }
    makers[data / "labels" / f"{case}.nrrd"] = partial(nrrd.write, values, first)
    replaced = cohort.exchange(data, case, makers)
    whose = cohort.patients(data)
    return SavedCase(case, patient, replaced, (*told, *notes), len(whose), len(set(whose.values())))


def name_of(images: Sequence[Path]) -> str:
    """A name that says nothing of the patient, and is the same for the same voxels at the same place."""
    digest = hashlib.sha256()
    for path in images:
        scan = nrrd.header(path)
        digest.update(repr((scan.sizes, np.round(scan.affine, 3).tolist())).encode())
        for piece in nrrd.pieces(scan):
            digest.update(piece)
    return f"case-{digest.hexdigest()[:10]}"


def _refuse_other_channels(images: Sequence[tuple[str, Path]], model: Model) -> None:
    names = tuple(channel for channel, _ in images)
    if names != model.channels:
        what = (
            f"The model needs the channels {', '.join(model.channels)}, and the case has {', '.join(names) or 'none'}."
        )
        raise Trouble(what, "Choose a volume for each channel.", "channels")


def _refuse_unsafe(name: str, what: str) -> None:
    if not SAFE.fullmatch(name) or DEVICES.fullmatch(name):
        found = f"'{name}' cannot be the name of a {what}: it becomes a file's name."
        raise Trouble(found, "Use letters, digits, - and _ alone, 80 at most.", "name")
