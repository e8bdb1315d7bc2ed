"""The README's first command: what it prints, what it leaves, and that it may be run again. About four minutes."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

import medseg
from medseg.geometry import same_grid
from tests import pages

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(1800)


@dataclass(frozen=True)
class Shown:
    """Where the demo left its files, and what it said."""

    out: Path
    said: str


def run(out: Path) -> str:
    command = [sys.executable, "-m", "medseg", "demo", "--out", str(out)]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=1500).stdout


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    out = tmp_path_factory.mktemp("demo")
    return Shown(out, run(out))


def test_demo(shown: Shown) -> None:
    out, said = shown.out, shown.said
    dice, thresholds = (
        float(re.search(rf"{words}\s+([\d.]+)", said)[1])  # type: ignore[index]
        for words in ("mean Dice on the unseen patient", "best intensity thresholds, same patient")
    )
    assert dice >= 0.85 and thresholds <= 0.6
    for place in re.findall(rf"^  ({re.escape(str(out))}\S*)", said, flags=re.MULTILINE):
        assert Path(place).exists()
    scan = medseg.read(ROOT / "sample_data" / "ct_dicom" / "p08_a")
    labels = medseg.read(out / "unseen" / "p08_a.nii.gz")
    assert same_grid(scan.affine, scan.shape, labels.affine, labels.shape, tolerance_mm=1e-4)
    segmentation = highdicom.seg.Segmentation.from_dataset(pydicom.dcmread(out / "unseen" / "p08_a.seg.dcm"))
    assert segmentation.number_of_segments == len(np.unique(labels.array)) - 1
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp") == 6 and not re.search(r"(?:src|href|url)\W+http", page)
    weights = (out / "run" / "weights.safetensors").read_bytes()
    assert "took" in run(out) and (out / "run" / "weights.safetensors").read_bytes() == weights


@pytest.mark.browser
@pages.NEEDED
def test_the_demos_report_opens_without_a_network_and_prints(shown: Shown) -> None:
    with pages.chromium() as browser, pages.opening(browser) as opened:
        page = opened(shown.out / "report.html")
        widths = page.locator("img").evaluate_all("all => all.map(img => img.naturalWidth)")
        assert len(widths) == 6 and min(widths) > 200
        linked = page.locator("nav a").all_inner_texts()
        assert {"Results", "Pictures", "Training", "Model card", "Provenance"} <= set(linked)
        assert "none" in page.locator("#data").inner_text(), "no patient on both sides"
        assert len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4"))) > 1
