"""Corrections become training cases: a folder that medseg's data set `folder` reads (`medseg list datasets`).

```
DATA/labels.yaml                   the model's label table, in JSON, which is YAML
DATA/images/CASE.nrrd              of a model with several channels images/CHANNEL/CASE.nrrd
DATA/labels/CASE.nrrd              label maps on the grid of the image
DATA/patients.csv                  who is who: a split never divides a patient
DATA/replaced/CASE-1/...           what was there before a case was saved again
DATA/.pseudonyms                   the key that patients' numbers are made with
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

from MedSegLib import cohort, labeltable, nrrd
from MedSegLib.background import Background
from MedSegLib.cohort import Make
from MedSegLib.errand import working
from MedSegLib.labeltable import Table
from MedSegLib.models import Model
from MedSegLib.nrrd import Header
from MedSegLib.trouble import Trouble

SAFE = re.compile(r"\w[\w-]{0,79}")
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)", re.IGNORECASE)
"""Names that Windows keeps for itself."""
SAME_MM = 0.01
"""Grids whose corners are no further apart are one."""


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


def saving(
    data: Path,
    case: str,
    patient: str,
    images: Sequence[tuple[str, Path]],
    labels: Path,
    model: Model,
    *,
    identity: str = "",
) -> Background:
    """`save_case` in the background; `facts["saved"]` is its `SavedCase`.

    Args:
        identity: the Patient ID, where it is known; without a `patient`, what stands for it in this data set is taken.
    """
    return working(
        lambda errand: {
            "saved": save_case(data, case, patient.strip() or cohort.pseudonym(data, identity), images, labels, model)
        }
    )


def save_case(
    data: Path, case: str, patient: str, images: Sequence[tuple[str, Path]], labels: Path, model: Model
) -> SavedCase:
    """Put a corrected case into a data set. One of the same name and patient is replaced, and kept in `replaced`.

    Args:
        data: folder of the data set; made if it is not there.
        case: its name; empty: one that is made from the voxels, so that the same scan has the same name again.
        patient: who it is of; empty: a patient of its own.
        images: an NRRD file for each of the model's channels, in its order.
        labels: segmentation (.seg.nrrd, segments named as the labels) or label map with the model's numbers (.nrrd), on
            the grid of the first image or a part of it.
        model: whose run folder lies on this computer.

    Raises:
        Trouble: they do not fit each other, or the data set.
    """
    table = labeltable.of_run(Path(model.ask))
    _refuse_other_channels(images, model)
    scans = {channel: nrrd.header(path) for channel, path in images}
    case = case.strip() or name_of([path for _, path in images])
    _refuse_unsafe(case, "case")
    for channel in scans if len(scans) > 1 else ():
        _refuse_unsafe(channel.replace(" ", "_"), "channel")
    first = next(iter(scans.values()))
    values, notes = _values(table, nrrd.header(labels), first)
    rows = cohort.people(data)
    patient = patient.strip() or rows.get(case, {}).get("patient", "") or case
    cohort.refuse_other_patient(rows, case, patient)
    cohort.describe(data, table)
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
    return SavedCase(case, patient, replaced, notes, len(whose), len(set(whose.values())))


def name_of(images: Sequence[Path]) -> str:
    """A name that says nothing of the patient, and is the same for the same voxels at the same place."""
    digest = hashlib.sha256()
    for path in images:
        scan = nrrd.header(path)
        digest.update(repr((scan.sizes, np.round(scan.affine, 3).tolist())).encode())
        for piece in nrrd.pieces(scan):
            digest.update(piece)
    return f"case-{digest.hexdigest()[:10]}"


def _values(table: Table, file: Header, scan: Header) -> tuple[np.ndarray, tuple[str, ...]]:
    """The label map on the whole grid of the scan."""
    box = _place(file, scan)
    layers = nrrd.voxels(file)
    if "Segment0_ID" not in file.notes:
        values = _whole(layers[0], box, scan)
        odd = sorted(set(np.unique(values).tolist()) - table.known)
        if odd or len(layers) > 1:
            what = (
                f"The label map has the number {odd[0]}, which no label of the model has." if odd else "Several layers."
            )
            raise Trouble(what, "Save the segmentation as .seg.nrrd, so that its segments have names.", "labels")
        return values.astype(np.uint8 if max(table.known) < 256 else np.uint16), ()
    masks, strange = {}, []
    for name, value, layer in _segments(file, len(layers)):
        if name in table.names:
            masks[name] = _whole(layers[layer] == value, box, scan)
        else:
            strange.append(name)
    if not masks:
        what = f"None of the segments ({', '.join(strange)}) has the name of one of the model's labels."
        raise Trouble(what, f"Name them: {', '.join(table.names)}.", "labels")
    values, notes = labeltable.numbers(table, masks)
    bare = [name for name in table.names if name not in masks or not masks[name].any()]
    if strange:
        notes = (*notes, f"Left out, as the model has no such label: {', '.join(strange)}.")
    if bare:
        notes = (*notes, f"The case teaches that this is not there: {', '.join(bare)}.")
    return values, notes


def _segments(file: Header, layers: int) -> list[tuple[str, int, int]]:
    """(name, number in the voxels, layer) of each segment."""
    found: list[tuple[str, int, int]] = []
    try:
        while f"Segment{len(found)}_ID" in file.notes:
            field = f"Segment{len(found)}_"
            value, layer = (int(file.notes[field + part]) for part in ("LabelValue", "Layer"))
            found.append((file.notes[f"{field}Name"], value, layer))
        if any(not 0 <= layer < layers for _, _, layer in found):
            raise ValueError("a layer that is not there")
    except (KeyError, ValueError) as error:
        what = f"{file.path.name} does not say which number is which segment."
        raise Trouble(what, "Save it again from Slicer 5.", "unreadable", repr(error)) from error
    return found


def _place(file: Header, scan: Header) -> tuple[int, int, int]:
    """Voxel of the scan at which the file begins.

    Raises:
        Trouble: they are not parts of one grid.
    """
    inside = np.linalg.inv(scan.affine) @ file.affine
    start = np.rint(inside[:3, 3])
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * [*np.array(file.shape) - 1, 1]
    moved = np.eye(4)
    moved[:3, 3] = start
    apart = ((file.affine - scan.affine @ moved) @ corners.T)[:3]
    if np.linalg.norm(apart, axis=0).max() > SAME_MM:
        what = f"The segmentation lies on another grid than the scan ({_grid(file)}, not {_grid(scan)})."
        remedy = "In the Segment Editor, choose the scan as the source volume's geometry, or save it from this panel."
        raise Trouble(what, remedy, "grids-differ")
    i, j, k = (int(one) for one in start)
    return i, j, k


def _grid(header: Header) -> str:
    sides = np.linalg.norm(header.affine[:3, :3], axis=0)
    return f"{' x '.join(map(str, header.shape))} voxels of {' x '.join(f'{side:.3g}' for side in sides)} mm"


def _whole(part: np.ndarray, start: tuple[int, int, int], scan: Header) -> np.ndarray:
    """A part of a grid on all of it; what lies outside of it is cut off."""
    if start == (0, 0, 0) and part.shape == scan.shape:
        return part
    whole = np.zeros(scan.shape, part.dtype)
    low = [max(0, one) for one in start]
    high = [min(size, one + length) for size, one, length in zip(scan.shape, start, part.shape)]
    if all(one < other for one, other in zip(low, high)):
        there = tuple(slice(one, other) for one, other in zip(low, high))
        here = tuple(slice(one - begin, other - begin) for one, other, begin in zip(low, high, start))
        whole[there] = part[here]
    return whole


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
