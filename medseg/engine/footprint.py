"""What a recipe's network keeps for the backward pass, found by a forward pass over shapes that computes nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from medseg.config import Recipe
from medseg.engine import networks
from medseg.plan import Plan

BATCH = 2
"""Cases looked at: batch normalisation takes no single value."""
LOGITS = 4
"""Copies of the answers that losses keep (softmax, its gradient, one-hot target, products)."""


def kept(recipe: Recipe, plan: Plan, *, out_channels: int) -> float:
    """Bytes that autograd keeps of each sample until the backward pass, activations in float32, with what a plain loss
    keeps of the answers.

    Raises:
        Refusal: the network's own, where it is made for other patches.
    """
    network, batch = example(recipe, plan, out_channels=out_channels)
    seen: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Any:
        if not isinstance(tensor, nn.Parameter):
            seen[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = networks.answers(network.train()(batch))
    total = sum(tensor.untyped_storage().nbytes() for tensor in seen.values())
    return (total + LOGITS * sum(output.nbytes for output in outputs)) / BATCH


def example(recipe: Recipe, plan: Plan, *, out_channels: int) -> tuple[nn.Module, Tensor]:
    """A recipe's network and a batch of its patches, on the meta device."""
    with torch.device("meta"):
        network: nn.Module = recipe.model.module().build(
            recipe.model.options, in_channels=plan.in_channels, out_channels=out_channels
        )
    return network, torch.empty((BATCH, plan.in_channels, *sides(recipe, plan)), device="meta")


def sides(recipe: Recipe, plan: Plan) -> tuple[int, int, int]:
    """Of a patch as the network sees it, with the slices of context around it."""
    flat = networks.context(recipe.model) is not None
    return *plan.patch[:2], 2 * plan.context + 1 if flat else plan.patch[2]
