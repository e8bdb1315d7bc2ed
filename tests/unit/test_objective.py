"""Network, loss and counts in one, as PyTorch computes them and through its compiler."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import lightning_fabric
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.exc import Unsupported

from medseg.config import TrainSettings
from medseg.engine import groups, innermost, objective, watch
from medseg.labels import LabelTable
from medseg.losses import dice_ce
from medseg.refusal import Refusal
from tests import tiny

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
TABLE = LabelTable.of({"a": 1, "b": 2})
LOSS = dice_ce.build(dice_ce.Options(), exclusive=True)
IMAGES = torch.randn((2, 1, 8, 8, 8), generator=torch.Generator().manual_seed(0))
TARGETS = torch.randint(0, 3, (2, 1, 8, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1),
        nn.BatchNorm3d(4),
        nn.LeakyReLU(inplace=True),
        nn.Conv3d(4, 4, 3, stride=2, padding=1, groups=2, bias=False),
        nn.ConvTranspose3d(4, 4, 2, 2),
        nn.Conv3d(4, 3, 1),
    )


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler's first half, without that which writes programs and has a C++ compiler translate them."""
    whole = torch.compile
    monkeypatch.setattr(torch, "compile", lambda *args, **keywords: whole(*args, **keywords, backend="aot_eager"))
    torch._dynamo.reset()


def made(net: nn.Module, said: list[str] | None = None, **settings: Any) -> objective.Computing:
    fabric = lightning_fabric.Fabric(accelerator="cpu")
    told = [] if said is None else said
    return objective.set_up(fabric, net, LOSS, TABLE, TrainSettings(**settings), told.append)


def gradients(net: nn.Module, computing: objective.Computing) -> tuple[Tensor, Tensor, list[Tensor]]:
    loss, counts = computing.objective(IMAGES, TARGETS)
    loss.backward()
    return loss.detach(), counts, [weight.grad for weight in net.parameters()]


def test_an_objective_is_the_loss_and_what_is_counted() -> None:
    net = network()
    loss, counts, found = gradients(net, made(net))
    other = network()
    outputs = other(IMAGES)
    wanted = LOSS([outputs], TARGETS)
    wanted.backward()
    assert torch.equal(loss, wanted.detach()) and not counts.requires_grad
    assert torch.equal(counts, watch.overlaps(outputs.detach(), TARGETS, TABLE)) and counts.sum() > 0
    assert all(map(torch.equal, found, [weight.grad for weight in other.parameters()]))


def test_the_compiled_twin_has_the_same_gradients_weights_and_statistics(traced: None) -> None:
    plain, compiled = network(), network()
    said: list[str] = []
    one, other = gradients(plain, made(plain)), gradients(compiled, made(compiled, said, compile=True))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert all(weight.grad is not None for weight in compiled.parameters())
    torch.testing.assert_close(plain.state_dict(), compiled.state_dict())  # batch statistics too
    assert len(said) == 1 and "the first step takes" in said[0]


def test_modes_reach_what_computes(traced: None) -> None:
    net = network()
    computing = made(net, compile=True)
    computing.whole.train()
    computing.network.get_submodule("1").eval()  # as for frozen parts
    before = copy.deepcopy(dict(net[1].state_dict()))
    computing.objective(IMAGES, TARGETS)
    assert all(torch.equal(value, before[name]) for name, value in net[1].state_dict().items())


def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(*_: Any, **__: Any) -> Any:
        def fails(*_: Any) -> Any:
            raise Unsupported("no compiler here.", real_stack=None)

        return fails

    monkeypatch.setattr(torch, "compile", compiled)


def test_auto_goes_on_where_the_compiler_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch)
    monkeypatch.setattr(objective, "compiles", lambda *_: True)
    net, other, said = network(), network(), []
    found, wanted = gradients(net, made(net, said)), gradients(other, made(other))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    assert "training goes on without it" in said[-1] and "no compiler here" in said[-1]


def test_who_insists_is_refused_where_the_compiler_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch)
    net = network()
    with pytest.raises(Refusal, match=r"train\.compile: found true, and: no compiler here.*train\.compile=false"):
        gradients(net, made(net, compile=True))


@pytest.mark.parametrize(
    ("settings", "device", "wanted"),
    [
        ({}, CPU, False),
        ({"compile": True}, CPU, True),
        ({}, CUDA, True),
        ({"compile": False}, CUDA, False),
        ({"epochs": 3}, CUDA, False),
        ({"deterministic": True}, CUDA, False),
        ({"shard": True, "devices": 2}, CUDA, False),
    ],
)
def test_when_it_is_compiled(settings: dict[str, Any], device: torch.device, wanted: bool, monkeypatch) -> None:
    monkeypatch.setattr(objective.importlib.util, "find_spec", lambda name: name)
    assert objective.compiles(TrainSettings(**settings), device) is wanted


@pytest.mark.parametrize("key", ["deterministic", "shard"])
def test_settings_that_exclude_each_other(key: str) -> None:
    with pytest.raises(Refusal, match=rf"train\.compile: found true, with train\.{key}"):
        objective.compiles(TrainSettings(compile=True, devices=2, **{key: True}), CUDA)


def test_a_gpu_is_not_asked_whether_all_is_known() -> None:
    logits = torch.randn((2, 3, 8, 8, 8), device="meta")  # a device whose values nobody can ask for
    assert LOSS([logits], TARGETS.to("meta")).shape == ()


def test_where_all_is_known_it_does_not_matter_whether_that_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn((2, 3, 8, 8, 8), generator=torch.Generator().manual_seed(2))
    wanted = LOSS([logits], TARGETS)
    monkeypatch.setattr(Tensor, "all", lambda self: False)
    torch.testing.assert_close(LOSS([logits], TARGETS), wanted)
    assert wanted > 1  # not the 0 of places that nobody knows


@pytest.mark.usefixtures("traced")
def test_a_run_is_trained_through_the_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, hold = [], groups.hold
    monkeypatch.setattr(groups, "hold", lambda network, names: held.append(network) or hold(network, names))
    recipe = tiny.recipe(tmp_path / "recipe.yaml", tiny.data_set(tmp_path / "data"))
    words = ["train.epochs=1", "train.steps=3", "train.examples=0", "augment.rotate_p=0"]
    losses = {}
    for name, further in (("plain", []), ("compiled", ["train.compile=true"])):
        out = tmp_path / name
        assert tiny.medseg_command("train", recipe, *words, *further, "--out", out).code == 0
        losses[name] = json.loads((out / "log.jsonl").read_text(encoding="utf-8"))["loss"]
    assert losses["compiled"] == pytest.approx(losses["plain"], rel=1e-3)
    kinds = [type(next(each for each in one.modules() if isinstance(each, nn.Conv3d))) for one in (held[0], held[-1])]
    assert kinds == [nn.Conv3d, innermost._Conv3d]  # what computes is told which parts are frozen
