"""Steps in parts, by wish or because memory runs out, and steps that give no number."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from medseg import config, interrupts
from medseg.engine import checkpoint
from medseg.engine import train as training
from medseg.engine.state import LAST
from medseg.engine.train import train
from medseg.interrupts import Interrupted
from medseg.refusal import Refusal

STEADY = ("train.optimiser=sgd", "train.schedule=constant", "train.validate_every=2", "prepare.batch=4")
"""AdamW makes large steps of the smallest differences."""


def state(run: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(run / LAST)[0]


def trained_with(trained, run: Path, *words: str) -> list[str]:
    """What was said of a training of four samples a step, with some changes."""
    said: list[str] = []
    train(config.load(trained.recipe, [*STEADY, *words]), run, announce=said.append)
    return said


def assert_close(run: Path, other: Path) -> None:
    found, expected = state(run), state(other)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5, msg=name)


@pytest.fixture(scope="module")
def whole(trained, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    assert not [line for line in trained_with(trained, run) if "not the same" in line]
    return run


@pytest.mark.parametrize(
    "words",
    [
        ("prepare.batch=1", "train.accumulate=4"),
        ("prepare.batch=2", "train.accumulate=2"),
        ("train.micro_batch=3",),
    ],
    ids=" ".join,
)
def test_gradients_that_are_added_up_are_those_of_the_large_batch(trained, whole, tmp_path, words):
    said = trained_with(trained, tmp_path / "run", *words)
    assert not [line for line in said if "not the same" in line]
    assert_close(tmp_path / "run", whole)


def test_a_loss_of_all_samples_together_is_said_to_be_another_in_parts(trained, tmp_path):
    loss = "loss={name: dice_ce, batch_dice: true}"
    said = trained_with(trained, tmp_path / "run", loss, "train.micro_batch=2", "train.epochs=1")
    [line] = [line for line in said if "not the same" in line]
    assert line.startswith("a step of 4 samples, 2 at once") and "the loss dice_ce" in line


@pytest.fixture
def room(monkeypatch) -> Callable[..., None]:
    """Lets memory run out for every training pass of more than some samples, from some pass on, as a GPU's does."""
    build = training.build_network

    def limit(samples: int, *, passes: int = 0) -> None:
        done: list[int] = []

        def check(network: nn.Module, inputs: tuple[torch.Tensor]) -> None:
            if network.training:
                done.append(len(inputs[0]))
                if len(done) > passes and done[-1] > samples:
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

        def built(*words: object) -> nn.Module:
            network = build(*words)
            network.register_forward_pre_hook(check)
            return network

        monkeypatch.setattr(training, "build_network", built)

    return limit


def test_where_memory_runs_out_twice_a_quarter_is_computed_at_once(trained, whole, room, tmp_path):
    room(1)
    said = trained_with(trained, tmp_path / "run")
    out = [line for line in said if "too little memory" in line]
    assert [re.findall(r"training step (\d).* for (\d) samples.* on (\d) are", line) for line in out] == [
        [("0", "4", "2")],
        [("0", "2", "1")],
    ]
    trained_with(trained, tmp_path / "single", "train.micro_batch=1")
    found, expected = (checkpoint.load(tmp_path / name / "weights.safetensors")[2] for name in ("run", "single"))
    assert found == expected  # bit for bit: the same samples, the same chance
    assert_close(tmp_path / "run", whole)


def test_a_smaller_part_is_kept_to_after_a_stop(trained, room, tmp_path, monkeypatch):
    """Memory runs out in the second step; the broken run has enough of it afterwards."""
    room(2, passes=1)
    trained_with(trained, tmp_path / "whole")
    room(2, passes=1)
    answers = iter([0, 0, 15])
    with monkeypatch.context() as patch:
        patch.setattr(interrupts, "requests", lambda: contextlib.nullcontext(lambda: next(answers)))
        with pytest.raises(Interrupted) as stop:
            trained_with(trained, tmp_path / "broken")
    assert stop.value.number == 15
    assert checkpoint.load(tmp_path / "broken" / LAST)[1]["position"]["micro_batch"] == 2
    room(4)
    trained_with(trained, tmp_path / "broken")
    found, expected = state(tmp_path / "broken"), state(tmp_path / "whole")
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def test_a_sample_that_does_not_fit_is_refused_and_nothing_is_lost(trained, whole, room, tmp_path):
    room(0, passes=3)
    with pytest.raises(Refusal, match=r"training step 3: .*a single sample .*out of memory.*last checkpoint.*patch"):
        trained_with(trained, tmp_path / "run")
    room(4)
    said = trained_with(trained, tmp_path / "run")
    assert "going on after step 2 of 4" in said
    found, expected = state(tmp_path / "run"), state(whole)
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


@pytest.mark.parametrize("words", [(), ("prepare.batch=1", "train.accumulate=4", "loss.once=11")], ids=" ".join)
def test_a_loss_that_is_no_number_stops_and_the_last_good_state_is_kept(trained, whole, tmp_path, words):
    """In the third of four steps; in parts, only the case of the third part is to blame."""
    with pytest.raises(Refusal, match=r"training step 2: found loss nan on the cases (p\w+(, )?)+; needed") as refused:
        trained_with(trained, tmp_path / "run", "loss={name: tests.spoilt}", *words)
    if words:
        assert len(refused.value.found.split(", ")) == 1
    tensors, facts, _ = checkpoint.load(tmp_path / "run" / LAST)
    assert facts["position"]["step"] == 2 and all(value.isfinite().all() for value in tensors.values())
    trained_with(trained, tmp_path / "run", "loss={name: tests.spoilt}", *words)  # this time it is none of its calls
    assert_close(tmp_path / "run", whole)


def test_a_gradient_that_is_no_number_stops_before_the_weights_are_changed(trained, tmp_path, monkeypatch):
    build = training.build_network

    def built(*words: object) -> nn.Module:
        network = build(*words)
        parameter, calls = next(network.parameters()), []

        def spoil(gradient: torch.Tensor) -> torch.Tensor:
            calls.append(None)
            return gradient * (float("inf") if len(calls) == 3 else 1)

        parameter.register_hook(spoil)
        return network

    monkeypatch.setattr(training, "build_network", built)
    with pytest.raises(Refusal, match=r"training step 2: found gradient (inf|nan) on the cases p"):
        trained_with(trained, tmp_path / "run")
    assert all(value.isfinite().all() for value in state(tmp_path / "run").values())


def test_each_step_has_a_chance_of_its_own_and_the_same_again(trained, tmp_path, monkeypatch):
    """Of dropout and the like: else every step would drop the same."""
    build, seeds = training.build_network, []

    def look(network: nn.Module, inputs: object) -> None:
        if network.training:
            seeds.append(torch.initial_seed())

    def built(*words: object) -> nn.Module:
        network = build(*words)
        network.register_forward_pre_hook(look)
        return network

    monkeypatch.setattr(training, "build_network", built)
    for name, seed in (("run", 0), ("again", 0), ("other", 1), ("the time in nanoseconds", 1_732_662_000_123_456_789)):
        trained_with(trained, tmp_path / name, f"seed={seed}")
    first, again, other, late = (seeds[start : start + 4] for start in range(0, 16, 4))
    assert len(set(first)) == len(set(late)) == 4 and again == first
    assert not set(first) & set(other)
