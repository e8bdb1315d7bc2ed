"""Convolutions by an operator of our own: the numbers of torch's layers, and what they say of their layout."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import nn

from medseg.engine import innermost
from medseg.layers import LAYOUTS, InstanceNorm, channels_innermost


@settings(max_examples=30, deadline=None)
@given(
    sides=some.tuples(*[some.integers(3, 7)] * 3),
    kernel=some.sampled_from([1, 3]),
    stride=some.sampled_from([1, 2]),
    groups=some.sampled_from([1, 2]),
    bias=some.booleans(),
    flat=some.booleans(),
)
def test_a_layer_keeps_its_numbers(sides, kernel, stride, groups, bias, flat):
    kind, sides = (nn.Conv2d, sides[:2]) if flat else (nn.Conv3d, sides)
    layer = kind(4, 6, kernel, stride, kernel // 2, 1, groups, bias)
    x = torch.randn(2, 4, *sides)
    expected = layer(x)
    found = innermost.by_operator(nn.Sequential(layer))(x)
    assert found.is_contiguous(memory_format=LAYOUTS[x.ndim])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.library.opcheck(
        innermost.convolution,
        (
            x.contiguous(memory_format=LAYOUTS[x.ndim]),
            layer.weight.detach(),
            *[list(one) for one in (layer.stride, layer.padding, layer.dilation)],
            groups,
        ),
    )


def test_layers_of_other_kinds_are_left_alone():
    layers = [
        nn.Conv3d(2, 2, 3, padding="same"),
        nn.Conv3d(2, 2, 3, padding=1, padding_mode="circular"),
        nn.Conv1d(2, 2, 3),
    ]
    kinds = [type(layer) for layer in innermost.by_operator(nn.Sequential(*layers))]
    assert kinds == [nn.Conv3d, nn.Conv3d, nn.Conv1d]


def test_the_network_itself_stays_as_it_is():
    """Other back ends are measured on it."""
    network = nn.Sequential(nn.Conv3d(2, 3, 3), nn.BatchNorm3d(3))
    twin = innermost.by_operator(network)
    assert type(network[0]) is nn.Conv3d and type(twin[0]) is not nn.Conv3d
    ours, theirs = [*network.parameters(), *network.buffers()], [*twin.parameters(), *twin.buffers()]
    assert all(one is other for one, other in zip(ours, theirs, strict=True)), "weights are in memory once"


def test_autocast_reaches_them():
    layer = innermost.by_operator(nn.Sequential(nn.Conv3d(2, 3, 3, padding=1)))
    x = torch.randn(1, 2, 4, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer(x).dtype == torch.float32


@pytest.mark.parametrize("affine", [True, False])
def test_a_norm_spelled_out_is_the_norm(affine):
    norm = InstanceNorm(5, affine=affine)
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    x = (3 + torch.randn(2, 5, 4, 6, 3)).contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(norm._spelled_out(x), norm(x), rtol=1e-4, atol=1e-5)
    assert channels_innermost(norm._spelled_out(x)) and norm._spelled_out(x.bfloat16()).dtype == torch.bfloat16


def test_layouts_are_told_apart():
    x = torch.randn(2, 3, 4, 5)
    assert not channels_innermost(x) and channels_innermost(x.contiguous(memory_format=torch.channels_last))
    assert not channels_innermost(torch.randn(2, 1, 4, 5)), "of one channel any layout could be said"
    assert not channels_innermost(torch.randn(3, 4))
