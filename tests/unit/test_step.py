"""A step in parts: what is undone when memory runs out, and what is said where that is not enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf, nan

import lightning_fabric
import pytest
import torch
from torch import Tensor, nn

from medseg import config
from medseg.config import TrainSettings
from medseg.engine import checkpoint, fit, state, step
from medseg.engine.objective import set_up
from medseg.engine.train import train
from medseg.labels import LabelTable
from medseg.losses import Loss
from medseg.refusal import Refusal
from tests import tiny

IMAGES = torch.randn((4, 1, 3, 3, 3), generator=torch.Generator().manual_seed(1))
SAMPLES = (IMAGES, torch.zeros(4, 1, 3, 3, 3), ["a", "b", "c", "d"])


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2), nn.Dropout(0.5), nn.Conv3d(2, 1, 1))


def gradient(fabric: lightning_fabric.Fabric, net: nn.Module, loss: Loss, announce: Callable[[str], None]):
    computing = set_up(fabric, net, loss, LabelTable.of({"a": 1}), TrainSettings(), announce)
    return step.Gradient(fabric, computing, announce)


def gradients(*failing: int, at_once: int = 4) -> tuple[list[Tensor], dict[str, Tensor], list[str], int]:
    """Of calls of the loss, `failing` run out of memory: gradients, state and what was said afterwards."""
    fabric = lightning_fabric.Fabric(accelerator="cpu")
    net, calls, said = network(), [], []

    def loss(outputs: list[Tensor], target: Tensor) -> Tensor:
        calls.append(None)
        if len(calls) in failing:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte")
        return (outputs[0] - target).square().mean()

    made = gradient(fabric, net, loss, said.append)
    losses, counts, used = made.of(SAMPLES, at_once=at_once, seed=3, where="training step 7")
    assert len(losses) == -(-4 // used) and counts.shape == (2, 1)
    return [p.grad.clone() for p in net.parameters()], dict(net.state_dict()), said, used


@pytest.mark.parametrize(("failing", "used"), [((1,), 2), ((1, 3), 1), ((1, 2), 1)])
def test_nothing_stays_of_what_failed(failing, used):
    """Gradients, dropout and statistics are those of a step that was meant to have such parts."""
    found, state, said, now = gradients(*failing)
    expected, other, silent, _ = gradients(at_once=used)
    assert now == used and len(said) == len(failing) and not silent
    assert all(map(torch.equal, found, expected))
    assert state.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in state.items())


class TwoProcesses(lightning_fabric.Fabric):
    """Says that there is another one."""

    world_size = 2


def failing(message: str) -> Callable[[list[Tensor], Tensor], Tensor]:
    def loss(outputs: list[Tensor], target: Tensor) -> Tensor:
        raise RuntimeError(message)

    return loss


@pytest.mark.parametrize(
    ("kind", "at_once", "remedy"),
    [
        (TwoProcesses, 3, r"last checkpoint with --resume train\.micro_batch=2\."),
        (TwoProcesses, 1, r"a single sample \(CUDA out of memory\).*smaller prepare\.patch"),
        (lightning_fabric.Fabric, 1, r"a single sample \(CUDA out of memory\).*smaller prepare\.patch"),
    ],
)
def test_where_fewer_at_once_are_no_way_out(kind, at_once, remedy):
    """One of several processes cannot begin again, because the others wait for its gradients."""
    fabric, said = kind(accelerator="cpu"), []
    made = gradient(fabric, network(), failing("CUDA out of memory\nmore"), said.append)
    with pytest.raises(Refusal, match=rf"training step 7: .*{remedy}"):
        made.of(SAMPLES, at_once=at_once, seed=3, where="training step 7")
    assert not said


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    fabric = lightning_fabric.Fabric(accelerator="cpu")
    made = gradient(fabric, network(), failing("expected 3 channels"), print)
    with pytest.raises(RuntimeError, match="expected 3 channels"):
        made.of(SAMPLES, at_once=4, seed=0, where="x")


@pytest.mark.parametrize(
    ("losses", "norm", "spoilt", "found"),
    [
        ([1.0, nan], 1.0, None, "loss nan on the cases c, d;"),
        ([1.0, nan], nan, 3, "loss nan on the cases d;"),
        ([1.0, 1.0], inf, None, "gradient inf on the cases a, b, c, d;"),
        ([1.0, 1.0], nan, 1, "gradient nan on the cases b;"),
    ],
)
def test_those_are_named_that_may_be_to_blame(losses, norm, spoilt, found):
    images = IMAGES.clone()
    if spoilt is not None:
        images[spoilt, 0, 1, 1, 1] = nan
    samples = (images, *SAMPLES[1:])
    refusal = step.not_finite(samples, torch.tensor(losses), norm, at_once=2, step=5, kept="run", precision="32")
    assert f"training step 5: found {found}" in str(refusal) and "in run" in str(refusal)
    assert "train.precision" not in str(refusal)


def test_networks_and_labels_that_mix_samples_say_so(tmp_path):
    words = ["model={name: video_resnet}", "loss={name: ce, weights: [1, 2]}"]
    plain = config.load(tiny.recipe(tmp_path / "recipe.yaml", tmp_path))
    mixing = config.load(tmp_path / "recipe.yaml", words)
    table, open_table = LabelTable.of({"a": 1}), replace(LabelTable.of({"a": 1}), ignore=2)
    steady = nn.Sequential(nn.Conv3d(1, 1, 1), nn.InstanceNorm3d(1))
    assert step.mixing(plain, steady, table) == []
    assert [said.split()[0] for said in step.mixing(mixing, network(), open_table)] == [
        "video_resnet",
        "the",
        "samples",
    ]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory\nmore"), MemoryError("of the host")])
def test_a_lack_of_memory_beside_the_gradient_is_met_in_words(error):
    said = str(error).partition("\n")[0]
    refused = pytest.raises(Refusal, match=rf"too little memory beside the gradient \({said}\).*last checkpoint")
    with refused, step.explained():
        raise error


@pytest.mark.parametrize("part", ["optimiser", "average"])
def test_an_update_that_runs_out_of_memory_leaves_the_last_checkpoint(part, tmp_path, monkeypatch):
    """Weights may be changed in part by then, so they are not saved."""
    recipe = config.load(
        tiny.recipe(tmp_path / "recipe.yaml", tiny.data_set(tmp_path / "data")), ["train.ema=0.9", "train.steps=1"]
    )
    owner, name = {"optimiser": (torch.optim.AdamW, "step"), "average": (state.State, "averaged")}[part]
    real, calls, given_back = getattr(owner, name), [], []

    def failing(self: object, *rest: object, **more: object) -> object:
        calls.append(None)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, *rest, **more)

    monkeypatch.setattr(owner, name, failing)
    monkeypatch.setattr(fit.devices, "give_back", lambda **_: given_back.append(len(calls)))
    with pytest.raises(Refusal, match="beside the gradient"):
        train(recipe, tmp_path / "run")
    _, facts = checkpoint.latest(tmp_path / "run" / state.LAST, tmp_path / "run" / state.FORMER, print)
    assert facts["position"]["step"] == 1
    assert given_back.count(0) and not given_back.count(1)  # room is made for the optimiser's state, once


def test_what_has_no_repeatable_kernel_is_refused():
    said = "max_pool3d_backward_cuda does not have a deterministic implementation, but you set "
    refused = pytest.raises(Refusal, match=r"train\.deterministic: .*\(max_pool3d_backward_cuda does not have a deter")
    with refused, step.explained():
        raise RuntimeError(f"{said}'torch.use_deterministic_algorithms(True)'. You can turn it off")
    with pytest.raises(RuntimeError, match="shape"), step.explained():
        raise RuntimeError("shape")
