"""A network as a plain function from tiles to logits: mirrored passes, number format and memory layout in one place."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from medseg.engine import device as devices
from medseg.engine.networks import answers
from medseg.layers import LAYOUTS

Forward = Callable[[Tensor], Tensor]
"""Tiles (B, C, i, j, k) float32 -> logits (B, N, i, j, k), floating point of any kind and order in memory."""
PIECE = 1 << 22
"""Logits that are turned round at once where mirrored passes are added up; a copy of all of them is never made."""


def forward(network: nn.Module, *, passes: Sequence[tuple[int, ...]], precision: str, device: torch.device) -> Forward:
    """The function of a network in evaluation mode on `device`.

    Args:
        passes: tensor axes to flip (and flip back), of each pass that is averaged; see `tiles.flips`.
        precision: 32, bf16 or 16.
    """
    return mirrored(once(network, precision=precision, device=device), passes)


def once(network: Callable[[Tensor], Any], *, precision: str, device: torch.device, compiled: bool = False) -> Forward:
    """A single pass through a network in evaluation mode on `device`; one that is compiled chose its own kernels."""
    kernels = contextlib.nullcontext if compiled else partial(_convolutions, device, precision)

    def run(tiles: Tensor) -> Tensor:
        with torch.no_grad(), devices.autocast(device, precision), kernels():
            return answers(network(innermost(devices.moved(tiles, device))))[0]

    return run


def innermost(tiles: Tensor) -> Tensor:
    """The same tiles; of a single channel, whose place in memory is a matter of words, it is said that it is innermost,
    for kernels look at strides alone and would answer the other way round."""
    if tiles.shape[1] > 1 or not tiles.is_contiguous():
        return tiles
    return tiles.as_strided(tiles.shape, (tiles.stride(0), 1, *tiles.stride()[2:]))


def mirrored(run: Forward, passes: Sequence[tuple[int, ...]]) -> Forward:
    """The mean over passes, each on tiles flipped along some axes; in float32 where there are several."""
    if list(passes) == [()]:
        return run

    def mean(tiles: Tensor) -> Tensor:
        total: Tensor | None = None
        for axes in passes:
            out = run(tiles.flip(axes) if axes else tiles)
            if total is None:
                total = out.flip(axes).float() if axes else out.float()
            else:
                _add_flipped(total, out, axes)
        assert total is not None  # there is always at least one pass
        return total.div_(len(passes)) if len(passes) > 1 else total

    return mean


def _add_flipped(total: Tensor, out: Tensor, axes: Sequence[int]) -> None:
    """total += out.flip(axes), piece by piece along i."""
    size, others = out.shape[2], [axis for axis in axes if axis != 2]
    rows = max(1, PIECE * size // out.numel())
    for first in range(0, size, rows):
        count = min(rows, size - first)
        if 2 in axes:
            piece = out.narrow(2, size - first - count, count).flip([2, *others])
        else:
            piece = out.narrow(2, first, count).flip(others)
        total.narrow(2, first, count).add_(piece)


def channels_last(network: nn.Module) -> nn.Module:
    """The same network, with the weights of its convolutions laid out so that maps keep their channels innermost.

    Convolutions hand the layout on to what they compute, so the tiles may come as they are. A network that is still to
    be trained is better left alone: its optimiser and checkpoints hold on to the weights.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            module.weight.data = module.weight.data.contiguous(memory_format=LAYOUTS[module.weight.ndim])
    return network


def _convolutions(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """For float32 on a CPU: every convolution by oneDNN."""
    if device.type != "cpu" or precision != "32" or not torch.backends.mkldnn.is_available():
        return contextlib.nullcontext()
    return _ByOneDnn()


class _ByOneDnn(TorchFunctionMode):
    """torch sends a float32 convolution of one image to a slower kernel where channels and the first two sides multiply
    to less than 20,481: the first layer of a network that sees one channel, and the coarsest maps of every 3-D network.
    That kernel takes two to three times as long, and for each voxel as many numbers as the window has weights."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (torch.conv2d, torch.conv3d) and not kwargs and len(args) == 7 and _suits(*args):
            image, weight, bias, stride, padding, dilation, groups = args
            return torch.ops.aten.mkldnn_convolution(image, weight, bias, padding, stride, dilation, groups)
        return func(*args, **(kwargs or {}))


def _suits(image: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> bool:
    """Whether oneDNN computes this: what comes from `nn.Conv2d` and `nn.Conv3d`, unless padding is given as a word."""
    whole = image.ndim == weight.ndim and not isinstance(padding, str) and image.numel() > 0
    return whole and image.dtype == weight.dtype == torch.float32 and image.device.type == "cpu"
