"""Weights and inputs of the reference networks, made from a rule alone, so that no weights need to be shipped.

Entry number i of the sorted state_dict keys is drawn from seed 1000 + i and scaled by what it is. Weights with two or
more axes are divided by the square root of their fan-in, or the attention would be nearly uniform and hide mistakes.
"""

from __future__ import annotations

import math

import numpy as np
import torch


def network_input(shape: list[int]) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(0).standard_normal(shape).astype(np.float32))


def entry(key: str, shape: tuple[int, ...], position: int) -> np.ndarray:
    """Float32 value of one state_dict entry; `position` is its index among the sorted keys."""
    draw = np.random.RandomState(1000 + position).standard_normal(shape)
    if key.endswith("running_var") or (key.endswith(".weight") and len(shape) == 1):
        draw = np.abs(draw) + 0.5
    elif key.endswith("relative_position_bias_table"):
        draw *= 0.5
    elif key.endswith((".bias", "running_mean")):
        draw *= 0.05
    else:
        draw /= math.sqrt(math.prod(shape[1:]))
    return draw.astype(np.float32)


def fill(network: torch.nn.Module) -> None:
    """Overwrite every weight in place. Integer buffers keep what the network computed, but take up a position."""
    state = network.state_dict()
    for position, key in enumerate(sorted(state)):
        if state[key].is_floating_point():
            state[key].copy_(torch.from_numpy(entry(key, tuple(state[key].shape), position)))
