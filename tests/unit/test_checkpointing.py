"""Recomputing activations in the backward pass: the same gradients from less memory."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medseg import models


def held(network: nn.Module, x: torch.Tensor) -> tuple[int, list[torch.Tensor]]:
    """Bytes that the forward pass keeps for the backward pass, and the gradients."""
    storages: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = network(x)
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else outputs
    torch.stack([output.square().mean() for output in outputs]).sum().backward()
    return sum(storages.values()), [weight.grad for weight in network.parameters() if weight.grad is not None]


@pytest.mark.parametrize(
    ("name", "option", "options", "share"),
    [
        ("stunet", "checkpointing", {"size": "L", "width": 4}, 0.3),
        ("unet", "checkpointing", {"features": (8, 16, 32)}, 0.5),
        ("residual_unet", "checkpointing", {"channels": (8, 16, 32)}, 0.4),
        ("swin_unetr", "use_checkpoint", {"feature_size": 12}, 0.8),
    ],
)
def test_gradients_stay_and_memory_shrinks(name, option, options, share):
    torch.manual_seed(0)
    plain = models.build(name, in_channels=1, out_channels=2, **options)
    saving = models.build(name, in_channels=1, out_channels=2, **options, **{option: True})
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(1, 1, 32, 32, 32)
    before, theirs = held(plain, x)
    after, ours = held(saving, x)
    assert after < share * before
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
