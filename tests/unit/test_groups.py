"""Frozen parts and layer-wise learning rates, with every network family."""

from __future__ import annotations

import copy

import pytest
import torch

from medseg import config, plugins
from medseg.engine import checkpoint, groups
from medseg.labels import LabelTable
from medseg.models import residual_unet
from medseg.plan import Normalisation, Plan
from medseg.refusal import Refusal
from tests import tiny
from tests.contracts.test_models import NAMES, SMALLER, network, scan

EACH = pytest.mark.parametrize("name", NAMES)
TABLE = LabelTable.of({"one": [1], "two": [2], "three": [1, 2]})


def recipe(name: str, **train: object) -> config.Recipe:
    given = {"name": "x", "dataset": "none", "model": {"name": name, **SMALLER.get(name, {})}, "train": train}
    return config.parse(given | {"init": {"weights": "some/run"}}, where="r")


def plan(name: str) -> Plan:
    return Plan(
        orientation="RAS",
        spacing_mm="native",
        patch=scan(name).shape[2:],
        batch=1,
        normalisation=(Normalisation(),),
        crop="none",
        order=3,
        channels=("one",),
        context=getattr(plugins.find("models", name), "context", lambda options: 0)(
            plugins.find("models", name).Options(**SMALLER.get(name, {}))
        ),
    )


def stages(name: str) -> dict[str, int]:
    return groups.distances(recipe(name), plan(name), TABLE)


def weightless(name: str) -> torch.nn.Module:
    with torch.device("meta"):
        return plugins.find("models", name).build(recipe(name).model.options, in_channels=1, out_channels=3)


def say_nothing(text: str) -> None:
    pass


@EACH
def test_groups_hold_every_weight_once_and_rates_fall_away_from_the_heads(name):
    model = weightless(name)
    made = groups.trained(model, recipe(name, layer_decay=0.5), plan(name), TABLE)
    held = [weight for group in made for weight in group["params"]]
    assert len(held) == len(list(model.parameters())) and set(held) == set(model.parameters())
    assert [group["scale"] for group in made] == [0.5**step for step in range(len(made))]
    assert 4 <= len(made) <= 30
    away = stages(name)
    places = {weight: step for step, group in enumerate(made) for weight in group["params"]}
    assert {key: places[weight] for key, weight in model.named_parameters()} == away


@EACH
def test_what_is_computed_first_is_the_farthest_and_what_is_computed_last_the_nearest(name):
    model, away, used = weightless(name), stages(name), []
    for key, layer in model.named_modules():
        for weight, _ in layer.named_parameters(recurse=False):
            layer.register_forward_pre_hook(lambda *_, weight=f"{key}.{weight}": used.append(weight))
    model.train()(scan(name, batch=2).to("meta"))
    assert away[used[0]] == max(away.values()) and away[used[-1]] == 0


def test_stages_are_those_of_the_network():
    away = stages("stunet")
    context = [away[f"conv_blocks_context.{stage}.0.conv1.weight"] for stage in range(6)]
    up = [away[f"upsample_layers.{stage}.conv.weight"] for stage in range(5)]
    back = [away[f"conv_blocks_localization.{stage}.0.conv1.weight"] for stage in range(5)]
    assert (context, up, back) == ([11, 10, 9, 8, 7, 6], [5, 4, 3, 2, 1], [5, 4, 3, 2, 1])
    assert {distance for key, distance in away.items() if key.startswith("seg_outputs")} == {0}
    away = stages("resnet18")
    order = ("conv1.weight", "bn1.bias", "layer1.1.conv2.weight", "layer2.0.conv1.weight", "layer4.1.bn2.bias")
    assert [away[key] for key in (*order, "fc.weight")] == [4, 4, 4, 3, 1, 0]


@EACH
def test_frozen_parts_do_not_change_by_a_bit(name):
    model = network(name)
    first, *_ = (key for key, part in model.named_children() if any(True for _ in part.parameters()))
    chosen = recipe(name, freeze=[first], layer_decay=0.9)
    said: list[str] = []
    groups.freeze(model, chosen, said.append)
    before = copy.deepcopy(model.state_dict())
    optimiser = torch.optim.AdamW(groups.trained(model, chosen, plan(name), TABLE), lr=0.01, weight_decay=0.1)
    assert all(weight.requires_grad for group in optimiser.param_groups for weight in group["params"])
    groups.hold(model.train(), chosen.train.freeze)
    outputs = model(scan(name, batch=2))
    sum(output.square().mean() for output in (outputs if isinstance(outputs, tuple) else [outputs])).backward()
    optimiser.step()
    same = {key for key, value in model.state_dict().items() if torch.equal(value, before[key])}
    assert {key for key in before if key.startswith(f"{first}.")} <= same
    trained = {key for key, _ in model.named_parameters() if not key.startswith(f"{first}.")}
    assert trained and not trained & same
    frozen, total = (sum(p.numel() for p in of.parameters()) for of in (model.get_submodule(first), model))
    assert said == [f"train.freeze: {frozen:,} of {total:,} weights stay as they are"]


def test_frozen_norms_and_dropout_work_as_in_prediction():
    model = network("resnet18").train()
    groups.hold(model, ["layer1", "bn1"])
    assert not any(part.training for top in (model.bn1, model.layer1) for part in top.modules())
    assert model.training and model.layer2.training


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["layer5"], r"'layer5'.*did you mean 'layer"),
        (["zzz"], r"'zzz'.*take one of conv1, bn1, layer1, layer2, layer3, layer4, fc, or a part"),
        (["layer1", "maxpool"], "'maxpool'"),
        ([""], "''"),
        (["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"], "all weights"),
    ],
)
def test_parts_that_cannot_be_frozen_are_refused(names, words):
    with pytest.raises(Refusal, match=rf"train\.freeze: found {words}"):
        groups.freeze(network("resnet18"), recipe("resnet18", freeze=names), say_nothing)


def test_random_weights_are_not_frozen():
    chosen = recipe("resnet18", freeze=["layer1"]).model_copy(update={"init": None})
    with pytest.raises(Refusal, match="no init"):
        groups.freeze(network("resnet18"), chosen, say_nothing)


def test_without_either_all_weights_learn_alike():
    model = network("unet")
    (group,) = groups.trained(model, recipe("unet"), plan("unet"), TABLE)
    assert group["scale"] == 1 and list(map(id, group["params"])) == list(map(id, model.parameters()))


def test_training_keeps_to_them(tmp_path, monkeypatch):
    """A run from another run's weights: a frozen stage, and rates that fall from stage to stage."""
    monkeypatch.setattr(residual_unet, "InstanceNorm", torch.nn.BatchNorm3d)  # which learns statistics
    deeper = "model.channels=[4,8,8]"
    start = tiny.untrained_run(tmp_path / "start", seed=3, changes=(deeper,))
    file = tiny.recipe(tmp_path / "recipe.yaml", tiny.data_set(tmp_path / "data"))
    changes = [deeper, f"init.weights={start.folder}", "init.heads=load"]
    changes += [
        "train.freeze=[decoder.0]",
        "train.layer_decay=0.1",
        "train.optimiser=sgd",
        "train.epochs=1",
        "train.ema=0.5",
        "train.momentum=0",
        "train.weight_decay=0",
    ]
    said = tiny.medseg_command("train", file, "--out", tmp_path / "run", *changes)
    assert said.code == 0, said.err
    assert "train.freeze:" in said.err
    before, *_ = checkpoint.load(start.folder / "weights.safetensors")
    after, *_ = checkpoint.load(tmp_path / "run" / "last.safetensors")
    moved = {key: float((after[f"network.{key}"] - value).abs().max()) for key, value in before.items()}
    assert all(value == 0 for key, value in moved.items() if key.startswith("decoder.0."))
    assert all(
        torch.equal(after[f"average.module.{key}"], before[key]) for key in before if key.startswith("decoder.0.")
    )
    tops = ("encoder.0", "decoder.1", "heads")
    largest = [max(moved[key] for key in moved if key.startswith(top) and key.endswith("weight")) for top in tops]
    assert 0 < largest[0] < 0.2 * largest[1] < 0.2 * 0.5 * largest[2]
    said = tiny.medseg_command("train", file, "--out", tmp_path / "run", "--resume", *changes[:4])
    assert said.code and "train.layer_decay" in said.err
