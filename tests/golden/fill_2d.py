"""Weights and inputs of the 2-D reference networks, made from a rule alone, so that no weights need to be shipped.

Entry number i of the sorted state_dict keys is drawn from seed 1000 + i. Its scale is 0.05 (mode "std"); in the other
two modes weights with two or more axes have the standard deviation of He's initialisation ("he"), or half of that
("g05"). Each reference's JSON file names its mode, and the number and kind of every key of the original network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

SCALE = 0.05
GAINS = {"he": 2.0, "g05": 0.5}
"""Variance times fan-in of weights with two or more axes; not in mode "std"."""
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)


class Key(NamedTuple):
    """What the rule needs to know of a state_dict entry."""

    index: int
    """Position among the sorted keys of the original network."""
    kind: str
    """param, norm_weight, running_var, zero (counters), or keep (as the network computes it)."""


def value(key: Key, shape: tuple[int, ...], mode: str) -> np.ndarray:
    """Float32 value of one entry of kind param, norm_weight or running_var."""
    scale = SCALE if mode == "std" or len(shape) < 2 else float(np.sqrt(GAINS[mode] * shape[0] / np.prod(shape)))
    draw = (np.random.RandomState(1000 + key.index).standard_normal(shape) * scale).astype(np.float32)
    if key.kind == "norm_weight":
        return np.float32(1) + draw
    return np.abs(draw) + np.float32(0.5) if key.kind == "running_var" else draw


def golden_keys(description: dict[str, Any], rename: Callable[[str], str] = str) -> dict[str, Key]:
    """The reference's keys under our names. Of a weight with two names the last one is drawn (`effective_index`)."""
    return {
        rename(entry["name"]): Key(entry.get("effective_index", entry["index"]), entry["kind"])
        for entry in description["state_dict"]
    }


def own_keys(network: nn.Module) -> dict[str, Key]:
    """The keys of a network whose state_dict is exactly the original's."""
    norms = {f"{name}.weight".lstrip(".") for name, part in network.named_modules() if isinstance(part, NORMS)}
    state = network.state_dict()
    keys = {}
    for index, name in enumerate(sorted(state)):
        if name.endswith("num_batches_tracked"):
            kind = "zero"
        elif not state[name].is_floating_point() or name.endswith("attn_mask"):
            kind = "keep"
        elif name.endswith("running_var"):
            kind = "running_var"
        else:
            kind = "norm_weight" if name in norms else "param"
        keys[name] = Key(index, kind)
    return keys


def fill(network: nn.Module, mode: str = "std", keys: Mapping[str, Key] | None = None) -> None:
    """Overwrite every weight in place.

    Args:
        network: what to fill.
        mode: "std", "he" or "g05"; a reference's `fill_mode`.
        keys: number and kind of each of the network's keys, where its state_dict is not exactly the original's; may
            hold more keys than the network has, but not fewer.
    """
    keys = own_keys(network) if keys is None else keys
    with torch.no_grad():
        for name, entry in network.state_dict().items():
            if keys[name].kind == "zero":
                entry.zero_()
            elif keys[name].kind != "keep":
                entry.copy_(torch.from_numpy(value(keys[name], tuple(entry.shape), mode)))


def network_input(description: dict[str, Any]) -> torch.Tensor:
    """The reference's input; its checksum is compared."""
    given = description["input"]
    generator = np.random.RandomState(given["seed"])
    draw = generator.standard_normal if given["dist"] == "normal" else generator.random_sample
    x = np.asarray(draw(given["shape"])).astype("<f4")
    assert hashlib.sha256(x.tobytes()).hexdigest() == given["sha256_float32_le"]
    return torch.from_numpy(x)
