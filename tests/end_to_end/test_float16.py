"""Training in float16, whose loss has a scale: on a CPU here, slowly, for what does not hang on a GPU."""

from __future__ import annotations

from collections.abc import Callable

import lightning_fabric
import pytest
import torch
from lightning_fabric.plugins import MixedPrecision
from torch import nn

from medseg import config, interrupts
from medseg.config import Recipe, TrainSettings
from medseg.engine import checkpoint, launch
from medseg.engine import device as devices
from medseg.engine import train as training
from medseg.engine.train import train
from medseg.interrupts import Interrupted
from medseg.refusal import Refusal
from tests.end_to_end.test_resume import stopping_after, weights


@pytest.fixture
def float16(trained, monkeypatch) -> Callable[[float], Recipe]:
    """A recipe whose loss begins with a scale."""

    def begins_with(scale: float) -> Recipe:
        def launched(settings: TrainSettings) -> lightning_fabric.Fabric:
            scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=3)
            made = lightning_fabric.Fabric(accelerator="cpu", plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
            made.launch()
            return made

        monkeypatch.setattr(launch, "launched", launched)
        monkeypatch.setattr(devices, "check_precision", lambda *words, **named: None)
        words = ("train.precision=16", "train.epochs=2", "train.steps=8", "train.examples=0", "predict.precision=32")
        return config.load(trained.recipe, words)

    return begins_with


@pytest.mark.parametrize("steps", [5, 9])
def test_a_stopped_run_goes_on_with_the_scale_that_it_had(float16, tmp_path, monkeypatch, steps):
    """The scale is far too high at first, so that some steps are passed over until it is not."""
    recipe = float16(2.0**24)
    train(recipe, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(interrupts, "requests", lambda: stopping_after(steps))
        with pytest.raises(Interrupted):
            train(recipe, tmp_path / "broken")
    train(recipe, tmp_path / "broken")
    scale = checkpoint.load(tmp_path / "whole" / "last.safetensors")[1]["scaler"]
    assert 2**10 < scale["scale"] < 2**24
    assert checkpoint.load(tmp_path / "broken" / "last.safetensors")[1]["scaler"] == scale
    assert weights(tmp_path / "broken") == weights(tmp_path / "whole")


def test_gradients_that_no_scale_makes_finite_are_refused(float16, tmp_path, monkeypatch):
    """Else every step would be passed over, and random weights would be the result."""
    build = training.build_network

    def built(*words: object) -> nn.Module:
        network = build(*words)
        next(network.parameters()).register_hook(lambda gradient: gradient * float("inf"))
        return network

    monkeypatch.setattr(training, "build_network", built)
    with pytest.raises(Refusal, match=r"training step 4: found gradient (inf|nan) .*train\.precision=bf16 or 32"):
        train(float16(2.0**-10), tmp_path / "run")
