"""Which weights training changes, and how fast: frozen parts, and rates that fall with the distance from the heads.

The distance counts stages in the order in which the network first computes with them, which is found by a forward pass
over shapes alone. A stage is what bears the same name up to its first number (`layer3`, `encoder.stages.2`); a layer
that stands alone (a transposed convolution, a norm between stages) belongs to the stage after it. Heads, and what
comes last without being a stage, have distance 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from medseg import plugins
from medseg.config import Recipe
from medseg.engine import footprint
from medseg.engine.matching import Target
from medseg.labels import LabelTable
from medseg.plan import Plan
from medseg.refusal import Refusal


def freeze(network: nn.Module, recipe: Recipe, announce: Callable[[str], None]) -> None:
    """Take the parts that `train.freeze` names out of training; before any strategy wraps the network.

    Raises:
        Refusal: no such part, one without weights, or nothing is left to train; or the weights are random.
    """
    names = recipe.train.freeze
    if not names:
        return
    if recipe.init is None:
        raise Refusal(
            "train.freeze",
            found=f"{', '.join(names)}, and no init",
            needed="weights that are worth keeping: random ones would stay random",
            remedy="name a run or a file in init.weights, or leave train.freeze out",
        )
    parts = {name: part for name, part in network.named_modules() if name and any(True for _ in part.parameters())}
    for name in names:
        if name not in parts:
            near = plugins.nearest(name, tuple(parts))
            raise Refusal(
                "train.freeze",
                found=f"'{name}'",
                needed=f"the name of a part of {recipe.model.name} that has weights",
                remedy=near if near.startswith("did") else f"take one of {', '.join(_tops(parts))}, or a part of these",
            )
        parts[name].requires_grad_(False)
    sizes = [(weight.numel(), weight.requires_grad) for weight in network.parameters()]
    frozen, total = sum(size for size, trained in sizes if not trained), sum(size for size, _ in sizes)
    if frozen == total:
        raise Refusal(
            "train.freeze", found="all weights", needed="some to train", remedy="leave the last layers out of it"
        )
    announce(f"train.freeze: {frozen:,} of {total:,} weights stay as they are")


def hold(network: nn.Module, names: Sequence[str]) -> None:
    """Keep frozen parts in evaluation, after `train()`: their norms must not learn statistics, nor shall they drop
    anything."""
    for name in names:
        network.get_submodule(name).eval()


def trained(network: nn.Module, recipe: Recipe, plan: Plan, table: LabelTable) -> list[dict[str, Any]]:
    """Groups of parameters for an optimiser, each with a `scale` by which the learning rate is multiplied:
    `train.layer_decay` to the power of the distance from the heads. Frozen ones are in none."""
    weights = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    decay = recipe.train.layer_decay
    if decay == 1:
        return [{"params": list(weights.values()), "scale": 1.0}]
    away = distances(recipe, plan, table)
    return [
        {"params": [weight for name, weight in weights.items() if away[name] == distance], "scale": decay**distance}
        for distance in sorted({away[name] for name in weights})
    ]


def distances(recipe: Recipe, plan: Plan, table: LabelTable) -> dict[str, int]:
    """Of each parameter from the heads, in stages."""
    network, batch = footprint.example(recipe, plan, out_channels=table.network_channels)
    target = Target(recipe.model, plan.in_channels, table.network_channels)
    weights = {
        layer: [f"{layer}.{name}".lstrip(".") for name, _ in module.named_parameters(recurse=False)]
        for layer, module in network.named_modules()
    }
    bodies = [layer for layer, names in weights.items() if not all(target.is_head(name) for name in names)]
    used: list[str] = []
    for layer in bodies:
        network.get_submodule(layer).register_forward_pre_hook(lambda *_, layer=layer: used.append(layer))
    network.train()(batch)
    away = _away(list(dict.fromkeys([*used, *bodies])))
    of_bodies = {name: away[layer] for layer in bodies for name in weights[layer]}
    return {name: of_bodies.get(name, 0) for name, _ in network.named_parameters()}


def _away(layers: Sequence[str]) -> dict[str, int]:
    """Distance of the stage of each layer from the end, of layers in the order of their use."""
    stages: dict[str, list[str]] = {}
    for layer in layers:
        stages.setdefault(_stage(layer), []).append(layer)
    away, left = {}, sum(len(own) > 1 for own in stages.values())
    for own in stages.values():
        away.update(dict.fromkeys(own, left))
        left -= len(own) > 1
    return away


def _stage(layer: str) -> str:
    """Its name up to the first number; the whole name if there is none."""
    parts = layer.split(".")
    numbered = next((place for place, part in enumerate(parts, start=1) if part[-1:].isdigit()), len(parts))
    return ".".join(parts[:numbered])


def _tops(parts: Mapping[str, nn.Module]) -> list[str]:
    return [name for name in parts if "." not in name]
