"""RRWNet and its ablations against outputs of the original implementation, on weights made by a rule (see fill_2d.py).

The arrays were computed by j-morano/rrwnet@03069bb on a CPU. Each JSON file names its configuration, every state_dict
key with its shape, and the second names that the original gives to all convolutions but one.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fill_2d import fill, golden_keys, network_input

from medseg.models import rrwnet

FOLDER = Path(__file__).parent / "2d"
LIMIT = 1e-4
"""Largest difference over largest value. The original differs from itself in float64 by up to 1e-6."""
NAMES = sorted(path.stem for path in FOLDER.glob("rrwnet_*.json") if path.stem != "rrwnet_pipeline")
VARIANTS = {"RRWNet": "rrwnet", "UNet": "unet", "WNet": "wnet", "RRUNet": "rrunet", "RRWNetAll": "rrwnetall"}


def description_of(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text())


def build(description: dict) -> torch.nn.Module:
    config = description["config"]
    options = rrwnet.Options(
        base_channels=config["base_ch"],
        iterations=config.get("iterations", config.get("num_iterations", 0)),
        variant=VARIANTS[config["cls"].partition(".")[0]],
    )
    return rrwnet.build(options, in_channels=config["input_ch"], out_channels=config["output_ch"])


def filled(description: dict) -> torch.nn.Module:
    network = build(description)
    fill(network, description["fill_mode"], golden_keys(description))
    return network.eval()


def answers(description: dict, network: torch.nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    with torch.inference_mode():
        maps = network.refine(x) if description["config"]["cls"].endswith(".refine") else network(x)
    return maps if isinstance(maps, tuple) else (maps,)


def weights(network: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def test_all_references_are_here():
    assert len(NAMES) == 7


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_original(name, record_property):
    description, golden = description_of(name), np.load(FOLDER / f"{name}.npz")
    network = filled(description)
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == {
        entry["name"]: entry["shape"] for entry in description["state_dict"] if "conv_block" not in entry["name"]
    }
    assert weights(network) == description["param_count"]

    maps = answers(description, network, network_input(description))

    stored = sorted((key for key in golden.files if key != "input"), reverse=True)  # the original's last is the answer
    assert len(maps) == len(stored) == len(description["outputs"])
    error = 0.0
    for ours, key in zip(maps, stored, strict=True):
        assert ours.shape == golden[key].shape and torch.isfinite(ours).all()
        error = max(error, float(np.abs(ours.numpy() - golden[key]).max() / np.abs(golden[key]).max()))
    parity = {"file": name, "parameters": weights(network), "error": error, "limit": LIMIT}
    record_property("parity", json.dumps({"network": description["config"]["cls"], **parity}))
    assert error < LIMIT


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("rrwnet", 62_063_685),
        ("unet", 31_031_875),
        ("wnet", 62_063_750),
        ("rrunet", 31_033_603),
        ("rrwnetall", 62_063_750),
    ],
)
def test_the_published_size(variant, expected):
    with torch.device("meta"):
        network = rrwnet.build(rrwnet.Options(variant=variant), in_channels=3, out_channels=3)
    assert weights(network) == expected


def test_the_size_for_photograph_and_enhanced_copy_together():
    with torch.device("meta"):
        network = rrwnet.build(rrwnet.Options(), in_channels=6, out_channels=3)
    assert weights(network) == 62_065_413
    assert (weights(network.first_u), weights(network.second_u)) == (31_033_603, 31_031_810)


@pytest.mark.parametrize("kept", ["both names", "short names", "long names"])
def test_published_checkpoints_fit(kept):
    """They name each convolution twice; files without doubles keep one name or the other."""
    description = description_of("rrwnet_base8_k2_he")
    network = filled(description)
    state = {}
    for entry in description["state_dict"]:
        names = [entry["name"], *entry.get("aliases", [])]
        value = next(network.state_dict()[name] for name in names if "conv_block" not in name)
        if kept == "both names" or len(names) == 1 or ("conv_block" in entry["name"]) == (kept == "long names"):
            state[entry["name"]] = value
    assert len(state) == (180 if kept == "both names" else 92)

    adapted = rrwnet.adapt(state, rrwnet.Options(base_channels=8, iterations=2))
    fresh = build(description).eval()
    fresh.load_state_dict(adapted)
    x = network_input(description)
    assert torch.equal(answers(description, fresh, x)[0], answers(description, network, x)[0])


def test_too_few_refinements_are_seen():
    """The comparison has teeth: with the first refinement in the last one's place it fails by far."""
    description, golden = description_of("rrwnet_base8_k2_he"), np.load(FOLDER / "rrwnet_base8_k2_he.npz")
    once = answers(description, filled(description), network_input(description))[-2].numpy()
    assert np.abs(once - golden["pred3"]).max() / np.abs(golden["pred3"]).max() > 10 * LIMIT
