"""Shared network parts against the PyTorch modules that they stand for."""

from __future__ import annotations

import torch
from torch import nn

from medseg.layers import InstanceNorm, ResidualBlock, Upsample, initialise_he, replace_instance_norms


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_instance_norm_equals_pytorchs_and_shares_its_keys():
    ours, theirs, x = InstanceNorm(3), nn.InstanceNorm3d(3, affine=True), noise(2, 3, 4, 5, 6)
    nn.init.normal_(theirs.weight)
    nn.init.normal_(theirs.bias)
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours(x), theirs(x))
    x = x.contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(ours(x), theirs(x))


def test_instance_norm_takes_a_map_of_one_voxel():
    norm = InstanceNorm(3)
    nn.init.normal_(norm.bias)
    torch.testing.assert_close(norm(noise(1, 3, 1, 1, 1)).flatten(), norm.bias, atol=1e-4, rtol=0)


def test_replacing_instance_norms_changes_neither_keys_nor_output():
    network = nn.Sequential(nn.Conv3d(2, 3, 3), nn.Sequential(nn.InstanceNorm3d(3), nn.InstanceNorm3d(3, affine=True)))
    x = noise(1, 2, 5, 5, 5)
    before, keys = network(x), list(network.state_dict())
    replace_instance_norms(network)
    assert not any(isinstance(part, nn.InstanceNorm3d) for part in network.modules())
    assert list(network.state_dict()) == keys
    torch.testing.assert_close(network(x), before)


def test_upsample_equals_enlarging_first():
    up, x = Upsample(4, 2, (1, 2, 3)), noise(1, 4, 3, 4, 5)
    enlarged = x.repeat_interleave(2, dim=3).repeat_interleave(3, dim=4)
    torch.testing.assert_close(up(x), up.conv(enlarged))


def test_a_residual_block_of_zero_weights_is_its_shortcut():
    block, x = ResidualBlock(2, 2), noise(1, 2, 4, 4, 4)
    for convolution in (block.conv1, block.conv2):
        nn.init.zeros_(convolution.weight)
        nn.init.zeros_(convolution.bias)
    torch.testing.assert_close(block(x), nn.functional.leaky_relu(x, 0.01))


def test_he_initialisation_keeps_the_scale():
    convolution = nn.Conv3d(64, 64, 3).apply(initialise_he)
    assert convolution.bias.abs().max() == 0
    assert abs(convolution.weight.std().item() / (2 / (64 * 27)) ** 0.5 - 1) < 0.02
