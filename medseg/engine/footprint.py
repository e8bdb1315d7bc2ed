"""How much memory a training step takes, found by a forward pass that computes nothing."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn

from medseg.config import Recipe

OVERHEAD = 1.5
"""Gradients of activations, workspaces and the allocator's slack, on top of what autograd keeps."""
SHARE = {"cuda": 0.75, "cpu": 0.5, "mps": 0.5}
"""Part of the memory that there is which a step may take."""
SMALLEST = 64


def bytes_per_voxel(network: nn.Module, *, channels: int, divisor: tuple[int, int, int]) -> float:
    """Bytes of memory a training step takes for each voxel of the batch.

    Args:
        network: on the meta device, where tensors have shapes and no storage.
        channels: of the input.
        divisor: input sides must be multiples of it.
    """
    sides = [side * -(-SMALLEST // side) for side in divisor]
    image = torch.empty((1, channels, *sides), device="meta")
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
    return OVERHEAD * total / (sides[0] * sides[1] * sides[2])


def available_gib(device: torch.device) -> float:
    """Memory that a training step may take on `device`."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:
        total = 8 * 2**30  # Windows has no sysconf; what a small laptop has
    return SHARE[device.type] * total / 2**30


def of_recipe(recipe: Recipe, *, channels: int, out_channels: int) -> float:
    """`bytes_per_voxel` of a recipe's network, halved for half precision."""
    chosen = recipe.model
    with torch.device("meta"):
        network = chosen.module().build(chosen.options, in_channels=channels, out_channels=out_channels)
    divisor = chosen.module().divisor(chosen.options)
    full = bytes_per_voxel(network, channels=channels, divisor=divisor)
    return full if recipe.train.precision == "32" else full / 2
