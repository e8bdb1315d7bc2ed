"""Corrected cases as the module gets them from Slicer: scans and segmentations as NRRD files."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from MedSegLib.background import Background
from MedSegLib.models import Label, Model
from MedSegLib.work import Event, Outcome
from tests import tiny

PATIENCE_S = 300
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
