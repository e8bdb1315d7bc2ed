"""Run by the Python that has medseg: small models with random weights, scans, and what the command line itself makes of
them, written down for those that have no medseg.

    python maker.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from medseg.labels import LabelTable
from medseg.readers import read
from tests import dicom_sources
from tests.tiny import Said, medseg_command, phantom, untrained_run

SHAPE = (22, 18, 15)
ORGANS: dict[str, int | list[int]] = {"liver": 1, "spleen": 2, "Gefäß": 7}
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def oblique() -> np.ndarray:
    """Voxel index -> RAS mm of a scan that is tilted about all axes, with three voxel sizes, and left-handed."""
    generator = np.random.default_rng(3)
    turned, _ = np.linalg.qr(np.eye(3) + 0.35 * generator.normal(size=(3, 3)))
    turned = turned * np.sign(np.diag(turned))
    turned[:, 0] *= -1
    affine = np.eye(4)
    affine[:3, :3] = turned * (0.9, 1.3, 2.1)
    affine[:3, 3] = (12.3456789, -20.1, 33.3)
    assert np.linalg.det(turned) < 0
    return affine


def nrrd(path: Path, array: np.ndarray, affine: np.ndarray) -> Path:
    image, lps = sitk.GetImageFromArray(array.T), LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(image, str(path))
    return path


def own_result(folder: Path, model: str, words: list[object], *, output: str) -> None:
    """Of the command line, as arrays: `labels` (C, I, J, K) and `affine`."""
    said: Said = medseg_command("predict", folder / "models" / model, *words, folder / model, "--output", output)
    assert said.code == 0, said.err
    record = json.loads((folder / model / "predict.json").read_text(encoding="utf-8"))["cases"][0]
    (file,) = record["files"]
    (folder / f"{model}.json").write_text(json.dumps({**record["facts"], "file": file}), encoding="utf-8")
    if file.endswith(".nrrd"):
        volume = read(folder / model / file)
        np.savez(folder / f"{model}.npz", labels=volume.array, affine=volume.affine)


def main(folder: Path) -> None:
    models = folder / "models"
    untrained_run(models / "organs", labels=ORGANS)
    untrained_run(models / "pair", channels=("T1", "FLAIR"), labels={"whole": [1, 2], "core": [2]}, seed=1)
    grades = LabelTable.classes({"plain": 0, "striped": 1})
    untrained_run(models / "classes", labels=grades, changes=("model={name: video_resnet, kind: r3d_18, width: 4}",))
    image, affine = phantom(0, SHAPE)[0], oblique()
    np.savez(folder / "scan.npz", image=image, affine=affine)
    scan, other = nrrd(folder / "scan.nrrd", image, affine), nrrd(folder / "other.nrrd", image // 2, affine)
    own_result(folder, "organs", [scan], output="seg_nrrd")
    own_result(folder, "pair", ["--channel", f"T1={scan}", "--channel", f"FLAIR={other}"], output="seg_nrrd")
    own_result(folder, "classes", [scan], output="scores")
    series = read(dicom_sources.ct(folder / "dicom"))
    np.savez(folder / "series.npz", image=series.array[0], affine=series.affine)


main(Path(sys.argv[1]))
