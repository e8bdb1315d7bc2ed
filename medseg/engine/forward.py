"""A network as a plain function from tiles to logits: mirrored passes, number format and memory layout in one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from medseg.engine import device as devices
from medseg.engine.networks import answers

Forward = Callable[[Tensor], Tensor]
"""Tiles (B, C, i, j, k) float32 -> logits (B, N, i, j, k), floating point of any kind and order in memory."""


def forward(network: nn.Module, *, passes: Sequence[tuple[int, ...]], precision: str, device: torch.device) -> Forward:
    """The function of a network in evaluation mode on `device`.

    Args:
        passes: tensor axes to flip (and flip back), of each pass that is averaged; see `tiles.flips`.
        precision: 32, bf16 or 16.
    """

    def run(tiles: Tensor) -> Tensor:
        tiles = tiles.to(device)
        total: Tensor | None = None
        for axes in passes:
            with torch.no_grad(), devices.autocast(device, precision):
                out = answers(network(tiles.flip(axes) if axes else tiles))[0]
            if len(passes) > 1:
                out = out.float()
            out = out.flip(axes) if axes else out
            total = out if total is None else total.add_(out)
        assert total is not None  # there is always at least one pass
        return total.div_(len(passes)) if len(passes) > 1 else total

    return run
