"""How much memory a training step takes, found by a forward pass that computes nothing."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn

from medseg.config import Recipe
from medseg.engine import networks
from medseg.plan import Plan

OVERHEAD = 1.5
"""Gradients of activations, workspaces and the allocator's slack, on top of what autograd keeps."""
SHARE = {"cuda": 0.75, "cpu": 0.5, "mps": 0.5}
"""Part of the memory that there is which a step may take."""
SMALLEST = 64
BATCH = 2
"""Cases looked at: batch normalisation takes no single value."""
SMALLEST_FLAT = 32
"""Of 2-D networks: smaller than any size that one is fixed to."""


def bytes_per_voxel(
    network: nn.Module, *, channels: int, divisor: tuple[int, int, int], context: int | None = None
) -> float:
    """Bytes of memory a training step takes for each voxel of the batch.

    Args:
        network: on the meta device, where tensors have shapes and no storage.
        channels: of the input.
        divisor: input sides must be multiples of it.
        context: of a 2-D network, slices that it sees on each side of the one that it answers for.
    """
    smallest = SMALLEST if context is None else SMALLEST_FLAT
    sides = [side * -(-smallest // side) for side in divisor]
    sides[2] = sides[2] if context is None else 2 * context + 1
    image = torch.empty((BATCH, channels, *sides), device="meta")
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Any:
        if not isinstance(tensor, nn.Parameter):
            kept[id(tensor.untyped_storage())] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = network.train()(image)
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    # the losses keep about four copies of the logits (softmax, its gradient, one-hot target, products)
    total = sum(kept.values()) + 4 * sum(output.nbytes for output in outputs)
    return OVERHEAD * total / BATCH / (sides[0] * sides[1] * (sides[2] if context is None else 1))


def available_gib(device: torch.device) -> float:
    """Memory that a training step may take on `device`."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:
        total = 8 * 2**30  # Windows has no sysconf; what a small laptop has
    return SHARE[device.type] * total / 2**30


def check_patch(recipe: Recipe, plan: Plan, *, out_channels: int) -> None:
    """One forward pass over shapes alone, so that a network that is made for other patches says so before the data
    are prepared.

    Raises:
        Refusal: the network's own.
    """
    network, batch = example(recipe, plan, out_channels=out_channels)
    network.train()(batch)


def example(recipe: Recipe, plan: Plan, *, out_channels: int) -> tuple[nn.Module, Tensor]:
    """A recipe's network and a batch of its patches, on the meta device."""
    with torch.device("meta"):
        network: nn.Module = recipe.model.module().build(
            recipe.model.options, in_channels=plan.in_channels, out_channels=out_channels
        )
    sides = (*plan.patch[:2], plan.patch[2] if networks.context(recipe.model) is None else 2 * plan.context + 1)
    return network, torch.empty((BATCH, plan.in_channels, *sides), device="meta")


def of_recipe(recipe: Recipe, *, channels: int, out_channels: int) -> float:
    """`bytes_per_voxel` of a recipe's network, halved for half precision."""
    chosen = recipe.model
    with torch.device("meta"):
        network = chosen.module().build(chosen.options, in_channels=channels, out_channels=out_channels)
    divisor = chosen.module().divisor(chosen.options)
    full = bytes_per_voxel(network, channels=channels, divisor=divisor, context=networks.context(chosen))
    return full if recipe.train.precision == "32" else full / 2
