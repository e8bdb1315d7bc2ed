"""Memory of a training step, estimated without computing anything."""

from __future__ import annotations

import torch
from torch import nn

from medseg import config
from medseg.engine import footprint

MINIMAL = {"name": "x", "dataset": {"name": "folder", "root": "data"}, "model": {"name": "residual_unet"}}


def test_one_convolution_on_paper():
    """Kept: the input (4 bytes). Losses: four copies of two channels of logits. All times the overhead."""
    with torch.device("meta"):
        network = nn.Conv3d(1, 2, 3, padding=1)
    found = footprint.bytes_per_voxel(network, channels=1, divisor=(1, 1, 1))
    assert found == footprint.OVERHEAD * (4 + 4 * 2 * 4)


def test_a_wider_network_takes_more_and_half_precision_half():
    def of(**changes: object) -> float:
        recipe = config.parse({**MINIMAL, **changes}, where="test")
        return footprint.of_recipe(recipe, channels=1, out_channels=3)

    narrow, wide = ({"name": "residual_unet", "channels": [width, 2 * width]} for width in (8, 16))
    # the logits and the input do not widen
    assert 1.6 < of(model=wide) / of(model=narrow) < 2
    assert of(model=wide, train={"precision": "bf16"}) == of(model=wide) / 2


def test_memory_of_this_machine():
    assert 0.1 < footprint.available_gib(torch.device("cpu")) < 10_000
