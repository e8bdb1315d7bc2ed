"""Classes of real scans: the (2+1)-D network on whole MR volumes of several scanners, formats and sizes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests import reference
from tests.tiny import medseg_command

pytestmark = reference.needed

RECIPE = """
name: brains
split: {{kind: none}}
cache: {folder}/cache
dataset:
  name: table
  root: {folder}/cases.csv
  unit: image
  labels: {{no tumour: 0, tumour: 1}}
prepare: {{size: [32, 32, 24], normalisation: [{{kind: zscore}}], workers: 0, batch: 4}}
model: {{name: video_resnet, kind: r2plus1d_18, width: 8, frames: k, dropout: 0.3}}
loss: {{name: ce}}
train: {{epochs: 2, steps: 4, optimiser: adamw, lr: 1e-3, threads: 2, device: cpu, balance: class}}
"""


def test_whole_mr_volumes_are_classified(tmp_path: Path) -> None:
    folder = reference.ROOT / "mr"
    files = {
        "freesurfer": (0, folder / "niivue_freesurfer" / "norm.mgz"),
        "flair": (0, folder / "niivue_flair" / "FLAIR.nii.gz"),
        "pyradiomics": (1, folder / "pyradiomics_brain1" / "brain1_image.nrrd"),
        "tcga": (1, folder / "tcga_fg_6692" / "raw_bet" / "OtherEXampleFromTCIA_t1c_bet.nii.gz"),
    }
    with (tmp_path / "cases.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["case", "patient", "image", "class"])
        writer.writerows([name, name, path, number] for name, (number, path) in files.items())
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(folder=tmp_path), encoding="utf-8")
    said = medseg_command("train", tmp_path / "recipe.yaml", "--out", tmp_path / "run")
    assert said.code == 0, said.err
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert all(0 < entry["loss"] < 10 for entry in log)
    for name, (_, path) in files.items():
        said = medseg_command("predict", tmp_path / "run", path, tmp_path / name)
        assert said.code == 0, said.err
        [table] = (tmp_path / name).glob("*.csv")
        with table.open(encoding="utf-8", newline="") as handle:
            [row] = csv.DictReader(handle)
        assert float(row["probability tumour"]) + float(row["probability no tumour"]) == pytest.approx(1, abs=1e-5)
