"""Whole runs on real scans; minutes each, so marked slow: `python3 bootstrap.py test -m slow`."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import numpy as np
import pytest

import medseg
from medseg import config
from medseg.geometry import same_grid
from tests import reference
from tests.tiny import medseg_command

RECIPES = Path(__file__).parents[2] / "pipelines"

pytestmark = [*reference.needed, pytest.mark.slow, pytest.mark.timeout(3600)]


def _verb(*words: object) -> str:
    """What a command of medseg prints; its time goes to the test's output."""
    started = time.monotonic()
    said = medseg_command(*words)
    print(f"{words[0]}: {time.monotonic() - started:.0f} s\n{said.out}")
    assert said.code == 0, said.err
    return said.out


def _table(path: Path, row: dict[str, object]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(row))
        writer.writeheader()
        writer.writerow(row)
    return path


def test_stunet_learns_one_real_ct_and_gives_it_back_in_its_own_grid(tmp_path: Path) -> None:
    folder = reference.ROOT / "ct" / "totalsegmentator"
    scan, truth = folder / "example_ct_sm.nii.gz", folder / "example_seg.nii.gz"
    names = {name: int(number) for number, name in json.loads((folder / "LABELS.json").read_text())["total"].items()}
    present = np.unique(medseg.read(truth).array)
    labels = {name: number for name, number in names.items() if number in present}
    table = _table(tmp_path / "cases.csv", {"patient": "p", "case": "ct", "image": scan, "label": truth})
    settings = [
        f"dataset={{name: table, root: {table}, labels: {json.dumps(labels)}}}",
        f"cache={tmp_path / 'cache'}",
        "split.kind=none",
        "model.size=S",
        "model.deep_supervision=false",
        "loss.batch_dice=true",
        "prepare.spacing_mm=native",
        "prepare.modalities=[CT]",
        "prepare.patch=[48,48,32]",
        "train.optimiser=adamw",
        "train.lr=0.003",
        "train.weight_decay=0.01",
        "train.schedule=cosine",
        "train.foreground=0.9",
        "train.precision=32",
        "train.epochs=16",
        "train.steps=44",
        "train.validate_every=8",
        "train.warmup_steps=20",
        *_without_augmentation(recipe_keys=config.AugmentSettings.model_fields),
    ]
    run, out = tmp_path / "run", tmp_path / "out"
    _verb("train", RECIPES / "stunet_ct.yaml", *settings, "--out", run)
    _verb("predict", run, scan, out)
    before, after = medseg.read(scan), medseg.read(out / "example_ct_sm.nii.gz")
    assert same_grid(before.affine, before.shape, after.affine, after.shape, tolerance_mm=0)
    said = _verb("evaluate", run, "--out", tmp_path / "scores")
    assert "vertebrae_L1" in said and "dice" in said
    scores = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert scores["stamp"]  # trained and measured on the same scan
    assert scores["means"]["mean of labels"]["dice"] >= 0.8


def test_swin_unetr_trains_on_a_real_four_channel_mr(tmp_path: Path) -> None:
    folder = reference.ROOT / "mr" / "tcga_fg_6692"
    images = {
        channel: folder / "raw_bet" / f"OtherEXampleFromTCIA_{short}_bet.nii.gz"
        for channel, short in (("flair", "fla"), ("t1c", "t1c"), ("t1", "t1"), ("t2", "t2"))
    }
    row = {"patient": "p", "case": "mr", **images, "label": folder / "fusion" / "mav.nii.gz"}
    table = _table(tmp_path / "cases.csv", row)
    regions = "{TC: [1, 4], WT: [1, 2, 4], ET: [4]}"
    settings = [
        f"dataset={{name: table, root: {table}, channels: [{', '.join(images)}], labels: {regions}}}",
        "paint=[1,2,4]",
        f"cache={tmp_path / 'cache'}",
        "split.kind=none",
        "model.feature_size=12",
        "model.use_checkpoint=false",
        "prepare.patch=[64,64,64]",
        "train.lr=0.001",
        "train.foreground=1",
        "train.warmup_steps=0",
        "train.precision=32",
        "train.epochs=4",
        "train.steps=15",
        "train.validate_every=4",
        "predict.overlap=0",
    ]
    run, out = tmp_path / "run", tmp_path / "out"
    _verb("train", RECIPES / "swin_unetr_brats.yaml", *settings, "--out", run)
    history = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    print(history)
    assert history[-1]["loss"] < history[0]["loss"] - 0.02
    _verb("predict", run, *[word for name, path in images.items() for word in ("--channel", f"{name}={path}")], out)
    [written] = out.glob("*.nii.gz")
    before, after = medseg.read(images["flair"]), medseg.read(written)
    assert same_grid(before.affine, before.shape, after.affine, after.shape, tolerance_mm=0)
    assert set(np.unique(after.array)) <= {0, 1, 2, 4}
    said = _verb("evaluate", run, "--out", tmp_path / "scores")
    assert "TC" in said and "WT" in said and "ET" in said


def _without_augmentation(recipe_keys: dict[str, object]) -> list[str]:
    return [f"augment.{key}=0" for key in recipe_keys if key.endswith("_p")]
