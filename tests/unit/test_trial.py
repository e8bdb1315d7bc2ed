"""Steps that are done for their memory are those of a training, for every kind of task."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from medseg.engine import footprint, step
from medseg.engine.trial import Trial
from medseg.labels import LabelTable
from medseg.plan import Plan
from tests.unit.test_rehearsal import TABLE, plan, recipe

CPU = torch.device("cpu")
REGIONS = LabelTable.of({"whole": [1, 2], "core": [2]})
FLAT = "model={name: swtr_unet, encoder_depths: [1, 1, 1], encoder_width: 4, blocks: 2, embed_dim: 16, num_heads: 2, "
FLAT += "window_size: 2, bridge_width: 8, decoder_widths: [8, 4, 4, 4], neighbours: 1}"
TASKS = {
    "labels": ("train.ema=0.9", TABLE, {}, (2, 1, 8, 8, 8)),
    "regions": ("train.optimiser=sgd", REGIONS, {}, (2, 2, 8, 8, 8)),
    "slices with context": (FLAT, TABLE, {"patch": (32, 32, 1), "context": 1}, (2, 1, 32, 32, 1)),
    "classes of images": ("model={name: video_resnet, width: 4}", replace(TABLE, unit="image"), {}, (2, 1, 1, 1, 1)),
    "classes of slices": (
        "model={name: resnet18, width: 4, neighbours: 1}",
        replace(REGIONS, unit="slice"),
        {"patch": (32, 32, 1), "context": 1},
        (2, 2, 1, 1, 1),
    ),
}


@pytest.mark.parametrize("task", TASKS)
def test_each_task_is_learned_as_in_training(task, monkeypatch):
    """In float32, to which the answers are brought, with targets as `Samples` makes them."""
    change, table, changes, expected = TASKS[task]
    wanted = recipe(change, f"loss={'{name: ce}' if table.unit != 'voxel' else '{name: dice_ce}'}")
    planned: Plan = plan(8).model_copy(update=changes)
    trial, seen = Trial(wanted, table, planned, CPU), []
    once = step.Gradient.once

    def look(gradient: step.Gradient, samples: step.Samples, at_once: int) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append((samples[0].shape, samples[1].shape, at_once))
        return once(gradient, samples, at_once)

    monkeypatch.setattr(step.Gradient, "once", look)
    sides = footprint.sides(wanted, planned)
    before = [one.clone() for one in trial._state.network.parameters()]
    assert trial.peaks(sides, 2) is not None
    assert seen == [((2, 1, *sides), expected, 2)]
    assert any(not torch.equal(*pair) for pair in zip(before, trial._state.network.parameters(), strict=True))


def test_a_first_step_in_float16_makes_what_stays():
    """However far the gradients of made-up data are out of its reach."""
    trial = Trial(recipe("train.precision=16", "train.optimiser=adamw"), TABLE, plan(8), CPU)
    next(trial._state.network.parameters()).register_hook(lambda gradient: gradient * float("inf"))
    assert trial.peaks((8, 8, 8), 2) is not None
    assert trial._state.optimiser.state


def test_more_than_there_is_leaves_no_gradient(monkeypatch):
    once = step.Gradient.once

    def full(gradient: step.Gradient, samples: step.Samples, at_once: int) -> None:
        once(gradient, samples, at_once)
        raise MemoryError

    trial = Trial(recipe(), TABLE, plan(8), CPU)
    monkeypatch.setattr(step.Gradient, "once", full)
    assert trial.peaks((8, 8, 8), 2) is None
    assert all(one.grad is None for one in trial._state.network.parameters())
