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
BACKWARD = f"(Tensor gradient, Tensor x, Tensor weight, {SETTINGS}) -> Tensor"


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


@torch.library.custom_op("medseg::input_gradient", mutates_args=(), schema=BACKWARD)
def input_gradient(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """Of `convolution`, by its input, which lies as the input does."""
    found = _gradients(gradient, x, weight, stride, padding, dilation, groups, [True, False, False])[0]
    return found.contiguous(memory_format=LAYOUTS[x.ndim])


@torch.library.custom_op("medseg::weight_gradient", mutates_args=(), schema=BACKWARD)
def weight_gradient(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """Of `convolution`, by its weight."""
    found = _gradients(gradient, x, weight, stride, padding, dilation, groups, [False, True, False])[1]
    return found.contiguous(memory_format=LAYOUTS[x.ndim])


def _gradients(gradient: Tensor, x: Tensor, weight: Tensor, *settings: Any) -> tuple[Tensor, Tensor, Tensor]:
    *rest, groups, wanted = settings
    gradient = gradient.contiguous(memory_format=LAYOUTS[x.ndim])
    return torch.ops.aten.convolution_backward(gradient, x, weight, None, *rest, False, [0], groups, wanted)


@input_gradient.register_fake
def _like_input(gradient: Tensor, x: Tensor, weight: Tensor, *settings: Any) -> Tensor:
    return torch.empty_like(x, memory_format=LAYOUTS[x.ndim])


@weight_gradient.register_fake
def _like_weight(gradient: Tensor, x: Tensor, weight: Tensor, *settings: Any) -> Tensor:
    return torch.empty_like(weight, memory_format=LAYOUTS[x.ndim])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, *ctx.settings = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    by_input = input_gradient(gradient, x, weight, *ctx.settings) if ctx.needs_input_grad[0] else None
    by_weight = weight_gradient(gradient, x, weight, *ctx.settings) if ctx.needs_input_grad[1] else None
    return by_input, by_weight, None, None, None, None


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
