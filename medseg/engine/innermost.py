"""Convolutions that torch's compiler leaves with their channels innermost, as a GPU's matrix units want them.

The compiler takes the answer of a 3-D convolution for one with channels outermost, whatever the weights' layout. cuDNN
then turns round all maps before each convolution and after it, which takes a third of the time. An operator of our own
says truthfully how its answer lies; what comes between two convolutions is fused around it as around any other.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medseg.layers import LAYOUTS

SETTINGS = "int[] stride, int[] padding, int[] dilation, int groups"
SCHEMA = f"(Tensor x, Tensor weight, {SETTINGS}) -> Tensor"
BACKWARD = f"(Tensor gradient, Tensor x, Tensor weight, int by, {SETTINGS}) -> Tensor"


@torch.library.custom_op("medseg::convolution", mutates_args=(), schema=SCHEMA)
def convolution(
    x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int
) -> Tensor:
    """A convolution without bias of (B, C, ...) with channels innermost, whose answer lies in the same way."""
    found = torch.ops.aten.convolution(x, weight, None, stride, padding, dilation, False, [0], groups)
    return found.contiguous(memory_format=LAYOUTS[x.ndim])


@convolution.register_fake
def _answer(
    x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int
) -> Tensor:
    found = torch.ops.aten.convolution(x, weight, None, stride, padding, dilation, False, [0], groups)
    return torch.empty_like(found, memory_format=LAYOUTS[x.ndim])


@torch.library.custom_op("medseg::convolution_gradient", mutates_args=(), schema=BACKWARD)
def convolution_gradient(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    by: int,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """Of `convolution` by its input (`by` 0) or its weight (1), which lies as these do."""
    layout = LAYOUTS[x.ndim]
    found = torch.ops.aten.convolution_backward(
        gradient.contiguous(memory_format=layout),
        x,
        weight,
        None,
        stride,
        padding,
        dilation,
        False,
        [0],
        groups,
        [by == 0, by == 1, False],
    )
    return found[by].contiguous(memory_format=layout)


@convolution_gradient.register_fake
def _like(gradient: Tensor, x: Tensor, weight: Tensor, by: int, *settings: Any) -> Tensor:
    return torch.empty_like((x, weight)[by], memory_format=LAYOUTS[x.ndim])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, *ctx.settings = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    found = [
        convolution_gradient(gradient, x, weight, by, *ctx.settings) if ctx.needs_input_grad[by] else None
        for by in (0, 1)
    ]
    return *found, None, None, None, None


convolution.register_autograd(_backward, setup_context=_keep)


def _convolved(layer: nn.Conv2d | nn.Conv3d, x: Tensor) -> Tensor:
    """What the layer does, by the operator; the bias is added outside of it, where it is fused."""
    kind, layout = x.dtype, LAYOUTS[x.ndim]
    if torch.is_autocast_enabled(x.device.type):
        kind = torch.get_autocast_dtype(x.device.type)
    x, weight = (one.to(kind).contiguous(memory_format=layout) for one in (x, layer.weight))
    found = convolution(x, weight, layer.stride, layer.padding, layer.dilation, layer.groups)
    return found if layer.bias is None else found + layer.bias.to(kind).reshape(-1, *[1] * (x.ndim - 2))


class _Conv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return _convolved(self, x)


class _Conv3d(nn.Conv3d):
    def forward(self, x: Tensor) -> Tensor:
        return _convolved(self, x)


def by_operator(network: nn.Module) -> nn.Module:
    """A twin of the network, with the same weights, whose plain convolutions go by the operator."""
    kinds: dict[type, type] = {nn.Conv2d: _Conv2d, nn.Conv3d: _Conv3d}
    shared = {id(one): one for one in itertools.chain(network.parameters(), network.buffers())}
    network = copy.deepcopy(network, shared)
    for module in network.modules():
        if type(module) in kinds and not isinstance(module.padding, str) and module.padding_mode == "zeros":
            module.__class__ = kinds[type(module)]
    return network
