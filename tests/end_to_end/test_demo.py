"""The README's first command: what it prints, what it leaves, and that it may be run again. About four minutes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

import medseg
from medseg.geometry import same_grid

ROOT = Path(__file__).parents[2]


def run(out: Path) -> str:
    command = [sys.executable, "-m", "medseg", "demo", "--out", str(out)]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=1500).stdout


@pytest.mark.timeout(1800)
def test_demo(tmp_path: Path) -> None:
    said = run(tmp_path)
    dice, thresholds = (
        float(re.search(rf"{words}\s+([\d.]+)", said)[1])  # type: ignore[index]
        for words in ("mean Dice on the unseen patient", "best intensity thresholds, same patient")
    )
    assert dice >= 0.85 and thresholds <= 0.6
    for place in re.findall(rf"^  ({re.escape(str(tmp_path))}\S*)", said, flags=re.MULTILINE):
        assert Path(place).exists()
    scan = medseg.read(ROOT / "sample_data" / "ct_dicom" / "p08_a")
    labels = medseg.read(tmp_path / "unseen" / "p08_a.nii.gz")
    assert same_grid(scan.affine, scan.shape, labels.affine, labels.shape, tolerance_mm=1e-4)
    segmentation = highdicom.seg.Segmentation.from_dataset(pydicom.dcmread(tmp_path / "unseen" / "p08_a.seg.dcm"))
    assert segmentation.number_of_segments == len(np.unique(labels.array)) - 1
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp") == 6 and not re.search(r"(?:src|href|url)\W+http", page)
    weights = (tmp_path / "run" / "weights.safetensors").read_bytes()
    assert "took" in run(tmp_path) and (tmp_path / "run" / "weights.safetensors").read_bytes() == weights
