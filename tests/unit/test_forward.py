"""A network as a function: other layouts, kernels and number formats give what the plain network gives."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from medseg.engine import device, forward
from medseg.engine.networks import answers
from tests.contracts.test_models import NAMES, network, scan

CPU = torch.device("cpu")


class Called(TorchDispatchMode):
    """The names of the operators that are called while it is on."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", NAMES)
def test_every_family_answers_as_the_plain_network(name):
    """To 1e-4 of the range of its logits: group_norm adds up in another order where channels are innermost. In bf16 to
    a tenth of it, for random weights and norms over a few voxels enlarge rounding."""
    model, x = network(name).eval(), scan(name)
    with torch.no_grad():
        plain = answers(model(x))[0]
    extent = float(plain.max() - plain.min())
    model = forward.channels_last(model)
    assert all(
        weight.is_contiguous(memory_format=torch.channels_last_3d if weight.ndim == 5 else torch.channels_last)
        for weight in model.parameters()
        if weight.ndim in (4, 5) and weight.shape[1] > 1
    )
    found = forward.once(model, precision="32", device=CPU)(x)
    assert found.shape == plain.shape and float((found - plain).abs().max()) <= 1e-4 * extent
    if device.has_bf16(CPU):
        found = forward.once(model, precision="bf16", device=CPU)(x).float()
        assert 0 < float((found - plain).abs().max()) <= 0.1 * extent


@settings(max_examples=40, deadline=None)
@given(
    sides=some.tuples(*[some.integers(1, 9)] * 3),
    kernel=some.sampled_from([1, 3]),
    stride=some.sampled_from([1, 2]),
    dilation=some.sampled_from([1, 2]),
    groups=some.sampled_from([1, 2]),
    bias=some.booleans(),
    flat=some.booleans(),
)
def test_convolutions_are_the_same_by_the_faster_kernel(sides, kernel, stride, dilation, groups, bias, flat):
    sides, kind = (sides[:2], nn.Conv2d) if flat else (sides, nn.Conv3d)
    layer = kind(4, 6, kernel, stride, dilation * (kernel // 2), dilation, groups, bias)
    x = torch.randn(1, 4, *sides)
    run = forward.once(layer, precision="32", device=CPU)
    with Called() as called, torch.no_grad():
        found = run(x)
    assert "mkldnn_convolution" in called.names
    torch.testing.assert_close(found, layer(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (nn.Conv3d(1, 2, 3, padding="same"), torch.randn(1, 1, 5, 5, 5)),
        (nn.Conv3d(1, 2, 3, padding=1, padding_mode="circular"), torch.randn(1, 1, 5, 5, 5)),
        (nn.Conv3d(1, 2, 3, dtype=torch.float64), torch.randn(1, 1, 5, 5, 5, dtype=torch.float64)),
        (nn.Conv3d(1, 2, 3), torch.randn(1, 5, 5, 5)),
    ],
    ids=["padding in words", "other padding", "float64", "without a batch"],
)
def test_other_convolutions_are_left_to_torch(layer, x):
    with torch.no_grad():
        torch.testing.assert_close(forward.once(layer, precision="32", device=CPU)(x), layer(x))


def lopsided(tiles):
    """Two channels that tell every direction from its opposite."""
    return torch.cat([tiles.cumsum(2).cumsum(3), 2 * tiles.cumsum(4) - 1], dim=1)


@pytest.mark.parametrize("piece", [1, 100, 1 << 22])
@pytest.mark.parametrize(
    "passes", [[()], [(2,)], [(), (2,)], [(), (3,), (4,), (3, 4)], [(), (2,), (3,), (2, 3), (2, 3, 4)]], ids=str
)
def test_mirrored_passes_are_averaged(monkeypatch, piece, passes):
    monkeypatch.setattr(forward, "PIECE", piece)
    x = torch.randn(3, 1, 7, 5, 4)
    expected = torch.stack([lopsided(x.flip(axes)).flip(axes) for axes in passes]).mean(0)
    torch.testing.assert_close(forward.mirrored(lopsided, passes)(x), expected)


def test_mirrored_passes_in_half_precision_are_added_up_in_float32():
    x = torch.randn(1, 1, 4, 4, 4)
    half = forward.mirrored(lambda tiles: lopsided(tiles).bfloat16(), [(), (2,), (3,)])(x)
    assert half.dtype == torch.float32
    rounded = torch.stack([lopsided(x.flip(axes)).bfloat16().float().flip(axes) for axes in [(), (2,), (3,)]])
    torch.testing.assert_close(half, rounded.mean(0))


def test_a_single_channel_counts_as_innermost():
    x = torch.randn(2, 1, 4, 5, 6)
    seen = forward.innermost(x)
    assert seen.data_ptr() == x.data_ptr() and torch.equal(seen, x)
    assert seen.is_contiguous(memory_format=torch.channels_last_3d) and seen.stride(1) == 1
    layer = forward.channels_last(nn.Conv3d(1, 4, 3, padding=1))
    assert forward.once(layer, precision="32", device=CPU)(x).stride(1) == 1, "and so do the maps that are made of it"
    for other in (torch.randn(2, 3, 4, 5, 6), torch.randn(2, 1, 4, 5, 6).transpose(2, 4)):
        assert forward.innermost(other) is other
