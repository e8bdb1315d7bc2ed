"""What is seen of a training while it runs; and that seeing it changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medseg.engine import checkpoint, fit, validate, watch
from tests import tiny

LONG = ("train.epochs=4", "train.steps=3", "train.validate_every=2")


def history(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def sha256(run: Path) -> str:
    return checkpoint.load(run / "weights.safetensors")[2]


def train(recipe: Path, run: Path, *words: str) -> tiny.Said:
    said = tiny.medseg_command("train", recipe, *LONG, *words, "--out", run)
    assert said.code == 0, said.err
    return said


@pytest.fixture(scope="module")
def seen(trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("seen") / "run"
    train(trained.recipe, run, "train.loggers=[tensorboard]", "train.examples=3")
    return run


def test_pictures_and_loggers_change_no_bit(trained, seen: Path, tmp_path: Path) -> None:
    train(trained.recipe, tmp_path / "run", "train.examples=0")
    assert sha256(seen) == sha256(tmp_path / "run")
    assert not (tmp_path / "run" / "validation").exists() and not (tmp_path / "run" / "tensorboard").exists()


def test_a_training_leaves_pictures_curves_and_dice_of_its_patches(seen: Path) -> None:
    cases = {path.name for path in (seen / "validation" / "last").iterdir()}
    assert cases and cases == {path.name for path in (seen / "validation" / "best").iterdir()}
    page = (seen / "training.html").read_text(encoding="utf-8")
    assert "epoch 4 of 4" in page
    for title in ("Loss", "Dice", "Learning rate", "Samples a second", "Share of the time that was waited for data"):
        assert f"{title} over epochs" in page
    entries = history(seen)
    assert all(0 <= entry["train_dice"] <= 1 and entry["samples_a_second"] > 0 for entry in entries)
    assert set(entries[0]["train_dice_per_label"]) == {"left", "right"}
    by_label = sorted(entries[-1]["dice_per_label"].items(), key=lambda one: one[1])
    listed = ", ".join(f"{name} {value:.3f}" for name, value in by_label)
    assert f"Dice of each label at the validation of epoch 4: {listed}" in page


def test_a_stop_in_an_epoch_loses_nothing_of_its_dice(trained, seen: Path, tmp_path: Path, monkeypatch) -> None:
    step, steps = fit._step, iter(range(100))

    def asked(*args: Any, **kwargs: Any) -> tuple[float, int, bool]:
        value, stop, due = step(*args, **kwargs)
        return value, 15 if next(steps) == 4 else stop, due

    monkeypatch.setattr(fit, "_step", asked)
    words = [
        "train",
        trained.recipe,
        *LONG,
        "train.loggers=[tensorboard]",
        "train.examples=3",
        "--out",
        tmp_path / "run",
    ]
    assert tiny.medseg_command(*words).code == 75
    assert "going on after step 5 of 12" in tiny.medseg_command(*words).err
    dice = [[entry["train_dice_per_label"] for entry in history(run)] for run in (seen, tmp_path / "run")]
    assert dice[0] == dice[1]
    assert sha256(seen) == sha256(tmp_path / "run")


def test_dice_on_patches_is_of_all_steps_of_the_epoch_and_of_no_other(trained, tmp_path: Path, monkeypatch) -> None:
    steps = iter(range(1, 100))

    def counted(*_: object) -> torch.Tensor:
        return torch.tensor([[float(next(steps)), 0.0], [20.0, 0.0]])

    monkeypatch.setattr(watch, "overlaps", counted)
    train(trained.recipe, tmp_path / "run", "train.epochs=2", "train.examples=0")
    assert [entry["train_dice_per_label"] for entry in history(tmp_path / "run")] == [
        {"left": 0.1, "right": None},
        {"left": 0.25, "right": None},
    ]


def test_a_network_that_finds_nothing_is_told_in_words(trained, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(validate, "dice_sums", lambda *_, **__: torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
    monkeypatch.setattr(watch, "overlaps", lambda *_: torch.tensor([[0.0, 0.0], [10.0, 10.0]]))
    said = train(trained.recipe, tmp_path / "run", "train.validate_every=1")
    assert said.err.count("collapsed to background") == 1
    assert [bool(entry.get("warnings")) for entry in history(tmp_path / "run")] == [False, False, True, False]
    page = (tmp_path / "run" / "training.html").read_text(encoding="utf-8")
    assert "Epoch 3: the network finds no label" in page


COUNTED = """
import os, sys
from medseg.__main__ import main
from medseg.engine import validate

answers = validate.answers

def counted(*words):
    with open(os.environ["COUNTED"] + os.environ.get("LOCAL_RANK", "0"), "a") as file:
        file.write(".")
    return answers(*words)

validate.answers = counted
if __name__ == "__main__":
    main()
"""
CLASSES = """
name: classes
dataset: {{name: folder, root: {root}}}
split: {{kind: kfold, folds: 2}}
prepare: {{spacing_mm: [1, 1, 1], batch: 1, workers: 0, crop: none, normalisation: [{{kind: zscore}}]}}
cache: {root}/cache
model: {{name: video_resnet, width: 4}}
loss: {{name: ce}}
train: {{epochs: 1, steps: 1, optimiser: adamw, lr: 1e-3, threads: 1, workers: 0, device: cpu}}
"""


def test_two_processes_find_the_auroc_of_one(tmp_path: Path) -> None:
    """They share the cases; with a rate of next to nothing both trainings have the same network."""
    root, generator = tmp_path / "data", np.random.default_rng(0)
    rows = []
    for number in range(10):
        name = f"p{number}"
        image = generator.normal(0, 30, (16, 16, 16)) + 3 * (number % 2)
        tiny.nifti(root / "images" / f"{name}.nii.gz", image.astype(np.float32), np.eye(4))
        rows.append(f"{name},{number % 2}\n")
    (root / "labels.yaml").write_text("labels: {plain: 0, bright: 1}\nunit: image\n", encoding="utf-8")
    (root / "classes.csv").write_text("case,class\n" + "".join(rows), encoding="utf-8")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(CLASSES.format(root=root), encoding="utf-8")
    shared = [recipe, "train.lr=1e-12", "train.weight_decay=0", "predict.precision=32"]
    assert tiny.medseg_command("train", *shared, "--out", tmp_path / "one").code == 0
    (tmp_path / "counted.py").write_text(COUNTED, encoding="utf-8")
    command = [sys.executable, tmp_path / "counted.py", "train", *shared, "train.devices=2", "--out", tmp_path / "two"]
    environment = tiny.ENVIRONMENT | {"COUNTED": str(tmp_path / "answers")}
    done = subprocess.run(map(str, command), env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    one, two = (history(tmp_path / name)[0]["auroc_per_label"] for name in ("one", "two"))
    assert one == two and 0 <= one["bright"] <= 1
    assert [len((tmp_path / f"answers{rank}").read_text()) for rank in (0, 1)] == [3, 2]  # of five cases
    assert not (tmp_path / "one" / "validation").exists()  # classes have no outlines
