"""Damaged files: a reader reads them or refuses them. Any other exception, or none where voxels are missing, fails."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg import readers
from medseg.outputs import dicom_seg
from medseg.refusal import Refusal
from tests import dicom_series as ds
from tests.contracts.test_outputs import REGIONS, prediction, scan

HEADER_SHARE = 0.7
"""Most mutations hit the header: flipped voxels are still voxels."""


def mutated(whole: bytes, header: int, rng: np.random.Generator) -> bytes:
    """Cut, or 1 to 4 bytes changed."""
    if rng.random() < 0.25:
        return whole[: rng.integers(0, len(whole))]
    changed = bytearray(whole)
    for _ in range(rng.integers(1, 5)):
        end = min(header, len(whole)) if rng.random() < HEADER_SHARE else len(whole)
        changed[rng.integers(0, end)] = rng.integers(0, 256)
    return bytes(changed)


def read_or_refuse(path: Path) -> bool:
    try:
        volume = readers.read(path)
    except Refusal as refusal:
        assert refusal.found and refusal.remedy
        return False
    assert np.isfinite(volume.affine).all()
    return True


@pytest.mark.filterwarnings("ignore")  # parsers have their own words for damage
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scan{suffix}"
    array = np.random.default_rng(1).normal(size=(6, 5, 4)).astype(np.float32)
    nib.save(nib.Nifti1Image(array, np.diag([1, 2, 3, 1])), path)
    whole, rng = path.read_bytes(), np.random.default_rng(2)
    outcomes = []
    for _ in range(80):
        path.write_bytes(mutated(whole, 352, rng))
        outcomes.append(read_or_refuse(path))
    assert outcomes.count(False) > 5


@pytest.mark.filterwarnings("ignore")
def test_dicom(tmp_path: Path) -> None:
    folder = ds.series(tmp_path, ds.places(3))
    path = folder / "IM0001.dcm"
    whole, rng = path.read_bytes(), np.random.default_rng(3)
    outcomes = []
    for _ in range(100):
        path.write_bytes(mutated(whole, len(whole) - 240, rng))
        outcomes.append(read_or_refuse(folder))
    assert outcomes.count(False) > 20


@pytest.mark.filterwarnings("ignore")
def test_dicom_seg(tmp_path: Path) -> None:
    path = tmp_path / "seg.dcm"
    dicom_seg.write(prediction(scan(tmp_path), REGIONS), path, dicom_seg.Options())
    whole, rng = path.read_bytes(), np.random.default_rng(4)
    outcomes = []
    for _ in range(100):
        path.write_bytes(mutated(whole, len(whole), rng))
        outcomes.append(read_or_refuse(path))
    assert outcomes.count(False) > 20
