"""One training on two devices: two CPU processes, with whole networks or with one that is divided between them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medseg.config import TrainSettings
from medseg.engine import checkpoint
from medseg.engine.train import strategy
from medseg.refusal import Refusal
from tests import tiny

STUNET = "model={name: stunet, size: S, width: 4, pools: [[2, 2, 2], [2, 2, 2]], checkpointing: true}"
SETTINGS = ("train.devices=2", "train.optimiser=sgd", "train.schedule=constant", "train.validate_every=2")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("devices")
    return tiny.recipe(root / "recipe.yaml", tiny.data_set(root / "data"))


def train(recipe: Path, run: Path, *words: str) -> tiny.Said:
    """In a process of its own, because it starts others that run the same command."""
    command = [sys.executable, "-m", "medseg", "train", recipe, STUNET, *SETTINGS, *words, "--out", run]
    done = subprocess.run(map(str, command), env=tiny.ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return tiny.Said(done.returncode, done.stdout, done.stderr)


def test_a_divided_network_learns_what_whole_ones_learn_and_goes_on_after_a_stop(recipe: Path, tmp_path: Path) -> None:
    divided, whole = tmp_path / "divided", tmp_path / "whole"
    train(recipe, divided, "train.shard=true", "train.epochs=1")
    train(recipe, divided, "train.shard=true", "--resume")
    said = train(recipe, whole)
    assert said.out == f"{whole}\n" and said.err.count("epoch 2/2") == 1  # one process speaks for both
    states = [checkpoint.load(run / "last.safetensors")[0] for run in (divided, whole)]
    assert states[0].keys() == states[1].keys() and any(name.startswith("optimiser.") for name in states[0])
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-3, atol=1e-5, msg=name)  # sums in another order
    log = [json.loads(line) for line in (divided / "log.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in log] == [1, 2] and log[1]["dice"] is not None
    scan = recipe.parent / "data" / "images" / "p1_a.nii.gz"
    said = tiny.medseg_command("predict", divided, scan, tmp_path / "out", "--device", "cpu")
    assert said.code == 0, said.err


@pytest.mark.parametrize(
    ("change", "needed"),
    [({"devices": 1}, "at least 2"), ({"precision": "16"}, "bf16 or 32"), ({"ema": 0.9}, "0, because")],
)
def test_what_sharding_cannot_do_is_refused(change: dict[str, object], needed: str) -> None:
    settings = TrainSettings.model_validate({"devices": 2, "shard": True, **change})
    with pytest.raises(Refusal, match=f"train.{next(iter(change))}.*{needed}"):
        strategy(settings)
