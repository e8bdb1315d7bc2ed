"""What only a CUDA device can show of training: the same bits again, batches made ahead, the compiler, memory."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from medseg.engine import fit
from medseg.engine.batches import Batches
from tests import tiny

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
WORDS = (
    "train.device=cuda",
    "train.epochs=2",
    "train.steps=6",
    "train.workers=2",
    "train.examples=0",
    "augment.rotate_p=1",
    "augment.noise_p=1",
    "augment.blur_p=1",
)
MODELS = {
    "unet": "model={name: unet, features: [8, 16, 16]}",
    "stunet": "model={name: stunet, size: S, width: 4, pools: [[2, 2, 2], [2, 2, 2]]}",
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    return tiny.recipe(folder / "recipe.yaml", tiny.data_set(folder / "data"))


def trained(recipe: Path, out: Path, *words: str) -> str:
    said = tiny.medseg_command("train", recipe, *WORDS, *words, "--out", out)
    assert said.code == 0, said.err
    return hashlib.sha256((out / "weights.safetensors").read_bytes()).hexdigest()


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_a_stopped_run_ends_with_the_same_bits(model, precision, recipe, tmp_path, monkeypatch):
    words = (MODELS[model], "train.deterministic=true", f"train.precision={precision}")
    whole = trained(recipe, tmp_path / "whole", *words)
    step, steps = fit._step, iter(range(100))

    def asked(*args, **kwargs):
        value, stop, due = step(*args, **kwargs)
        return value, 15 if next(steps) == 3 else stop, due

    monkeypatch.setattr(fit, "_step", asked)
    assert tiny.medseg_command("train", recipe, *WORDS, *words, "--out", tmp_path / "stopped").code == 75
    assert trained(recipe, tmp_path / "stopped", *words) == whole


def test_the_compiler_trains_the_same(recipe, tmp_path):
    found = {}
    for choice in ("false", "true"):
        trained(recipe, tmp_path / choice, MODELS["unet"], f"train.compile={choice}")
        found[choice] = losses(tmp_path / choice)
    assert found["true"] == pytest.approx(found["false"], rel=1e-2)


def test_batches_made_ahead_are_those_of_their_steps(recipe, tmp_path, monkeypatch):
    """One is made while the numbers of a step are on their way; none is lost, and none comes twice."""
    given, follow = [], Batches.__next__

    def told(self):
        batch = follow(self)
        given.append((batch.cases, float(batch.images.sum())))
        return batch

    monkeypatch.setattr(Batches, "__next__", told)
    trained(recipe, tmp_path / "ahead", "train.deterministic=true")
    ahead, given = given, []
    monkeypatch.setattr(Batches, "meanwhile", lambda self, facts: facts.tolist())
    trained(recipe, tmp_path / "after", "train.deterministic=true")
    assert len(ahead) == 12 and ahead == given


def test_memory_of_a_step_is_that_of_the_plan(recipe, tmp_path):
    words = (MODELS["unet"], "train.epochs=1", "prepare.patch=auto", "prepare.batch=auto", "prepare.memory_gib=1")
    torch.cuda.reset_peak_memory_stats()
    trained(recipe, tmp_path / "run", *words)
    planned = json.loads((tmp_path / "run" / "plan.json").read_text(encoding="utf-8"))["step_memory"]
    assert planned["how"] == "measured" and planned["gib"] <= 1
    assert (
        torch.cuda.max_memory_allocated() / 2**30 <= planned["gib"] * 1.1 + 0.1
    )  # batches, and workspaces of libraries
