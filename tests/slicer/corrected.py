"""Corrected cases as the module gets them from Slicer: scans and segmentations as NRRD files."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from medseg.labels import LabelTable
from medseg.readers import read
from MedSegLib import cases
from MedSegLib.background import Background
from MedSegLib.cases import Correction
from MedSegLib.models import Label, Model
from MedSegLib.work import Event, Outcome
from tests import tiny

PATIENCE_S = 300
SHAPE = (8, 7, 6)
ODD = "täst ordner"
"""A folder's name with a space and a letter beyond ASCII."""


def image(array: np.ndarray, affine: np.ndarray = tiny.AFFINE) -> sitk.Image:
    """(I, J, K) in RAS mm."""
    made = sitk.GetImageFromArray(array.transpose(2, 1, 0))
    lps = np.diag([-1, -1, 1, 1]) @ affine
    sides = np.linalg.norm(lps[:3, :3], axis=0)
    made.SetSpacing(sides.tolist())
    made.SetDirection((lps[:3, :3] / sides).ravel().tolist())
    made.SetOrigin(lps[:3, 3].tolist())
    return made


def scan(path: Path, array: np.ndarray, affine: np.ndarray = tiny.AFFINE, *, packed: bool = True) -> Path:
    """As Slicer writes a volume: with its attributes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = image(array, affine)
    made.SetMetaData("DICOM.instanceUIDs", "1.2.826.0.1.4711")
    sitk.WriteImage(made, str(path), useCompression=packed)
    return path


def segmentation(
    path: Path, masks: Mapping[str, np.ndarray], start: Sequence[int] = (0, 0, 0), affine: np.ndarray = tiny.AFFINE
) -> Path:
    """As Slicer writes one: each segment in a layer of its own, cropped so that it begins at the voxel `start`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    moved = np.eye(4)
    moved[:3, 3] = start
    layers = [image(mask.astype(np.uint8), affine @ moved) for mask in masks.values()]
    made = sitk.Compose(layers) if len(layers) > 1 else layers[0]
    for number, name in enumerate(masks):
        facts = {"ID": f"Segment_{number}", "Name": name, "LabelValue": "1", "Layer": str(number)}
        for key, value in facts.items():
            made.SetMetaData(f"Segment{number}_{key}", value)
    sitk.WriteImage(made, str(path), useCompression=True)
    return path


def model(run: Path) -> Model:
    """As the panel has it of a run folder."""
    table = json.loads((run / "labels.json").read_text(encoding="utf-8"))
    plan = json.loads((run / "plan.json").read_text(encoding="utf-8"))
    labels = tuple(Label(one["index"], one["name"], (0, 0, 0), "", "") for one in table["labels"])
    return Model("tiny", str(run), tuple(plan["channels"]), (), labels, table["unit"], None, "", "", 0)


def ended(run: Background, *, patience_s: float = PATIENCE_S) -> tuple[Outcome, list[Event]]:
    """The outcome of a run, and all that was heard."""
    heard: list[Event] = []
    limit = time.monotonic() + patience_s
    while time.monotonic() < limit:
        for event in run.poll():
            heard.append(event)
            if isinstance(event, Outcome):
                return event, heard
        time.sleep(0.02)
    raise AssertionError(f"no end: {heard[-3:]}")


def nifti_as_scan(path: Path, target: Path) -> Path:
    loaded = nib.load(path)
    return scan(target, np.asarray(loaded.dataobj), loaded.affine)


def run_with(place: Path, table: LabelTable, channels: tuple[str, ...] = ("CT",), name: str = "run") -> Path:
    """A folder of which only the labels and the plan matter here."""
    run = place / name
    run.mkdir(parents=True)
    (run / "labels.json").write_text(json.dumps(table.to_json()), encoding="utf-8")
    (run / "plan.json").write_text(json.dumps({"channels": channels}), encoding="utf-8")
    return run


def saved(place: Path, run: Path, masks: dict[str, np.ndarray], **how: object) -> cases.SavedCase:
    """One case of a random scan, for each of the model's channels."""
    told = model(run)
    seed = int(how.get("seed", 0))  # type: ignore[call-overload]
    images = []
    for number, channel in enumerate(told.channels):
        voxels = np.random.default_rng((seed, number)).integers(0, 99, SHAPE).astype(np.int16)
        images.append((channel, scan(place / "volumes" / f"{channel}.nrrd", voxels)))
    start = how.get("start", (0, 0, 0))
    labels = segmentation(place / "volumes" / "labels.seg.nrrd", masks, start)  # type: ignore[arg-type]
    said = {key: str(how[key]) for key in ("case", "patient", "identity") if key in how}
    return cases.save_case(place / "data", Correction(images, labels, **said), told)


def box(*slices: slice, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[slices] = True
    return mask


def label_map(data: Path, case: str) -> np.ndarray:
    return read(data / "labels" / f"{case}.nrrd").array[0]
