"""Swin-Unet and Attention Swin U-Net against outputs of the original code, on weights made by a rule (fill_2d.py).

The arrays were computed on a CPU by HuCaoFighting/Swin-Unet@f48f623 and NITR098/AttSwinUNet@4b14f37, except for those
named `intended`: they come from the latter's modules, put together as its figure has it (attention merged after the
softmax), which its own code does not do. Each JSON file names its source and every state_dict key with its shape.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fill_2d import fill, golden_keys, network_input

from medseg import models
from medseg.models.att_swin_unet import CrossTransformer

FOLDER = Path(__file__).parent / "2d"
LIMIT = 1e-4
"""Largest difference over largest value. The originals differ from themselves in float64 by up to 1.6e-6; tanh-GELU for
erf-GELU makes 1.8e-4 to 3.7e-4."""
PREFIX = "swin_unet."
DEAD = ("patch_embed.", "decoder.norm.")
"""Weights of the released Attention Swin U-Net that nothing uses; only the legacy network has them."""

SWIN_UNET = ["swin_unet_tiny64_c3", "swin_unet_wrapper_tiny64_gray", "swin_unet_lite_c1_224"]
RELEASED = [
    "attswinunet_repo_default_c9",
    "attswinunet_cross_skip0_c1",
    "attswinunet_cross_skip3_c1",
    "attswinunet_swin_noattn_d2222_c1",
    "attswinunet_swin_attn_d2222_c1",
    "attswinunet_e24_cross_skip3_c1",
    "attswinunet_e24_swin_attn0_c1",
]
INTENDED = ["attswinunet_intended_cross_add_c1", "attswinunet_intended_e24_cross_add_c1"]


def described(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text())


def build(description: dict, **changes) -> torch.nn.Module:
    """The network of a reference's `config`."""
    config = description["config"]
    options = {key: config[key] for key in ("embed_dim", "depths", "num_heads", "window_size", "mlp_ratio", "qkv_bias")}
    options |= {key: config[key] for key in ("patch_size", "drop_path_rate")}
    channels = description["input"]["shape"][1]
    if "mode" not in config:
        classes, options["img_size"] = config["num_classes"], config["img_size"]
        return models.build("swin_unet", in_channels=channels, out_channels=classes, **options, **changes)
    options |= {
        "mode": config["mode"],
        "skip_num": int(config["skip_num"]),
        "operation": config["operationaddatten"],
        "spatial_attention": config["spatial_attention"] == "1",
    }
    classes = description["outputs"]["logits"]["shape"][1]  # the released code has 9, whatever it is asked for
    return models.build("att_swin_unet", in_channels=channels, out_channels=classes, **options, **changes)


def error(ours: torch.Tensor, golden: np.ndarray) -> float:
    """Largest difference over largest value. NaN must fail before a maximum can drop it."""
    assert ours.shape == golden.shape
    assert torch.isfinite(ours).all()
    return float(np.abs(ours.numpy() - golden).max() / np.abs(golden).max())


def parity(record_property, name: str, network: torch.nn.Module, errors: dict[str, float]) -> None:
    """Compare, and leave the result for the table of docs/parity.md."""
    weights = sum(weight.numel() for weight in network.parameters())
    entry = {"network": type(network).__name__, "file": name, "parameters": weights}
    record_property("parity", json.dumps({**entry, "error": max(errors.values()), "limit": LIMIT}))
    assert max(errors.values()) <= LIMIT, errors


def rename(key: str) -> str:
    return key.removeprefix(PREFIX)


def logits(network: torch.nn.Module, description: dict) -> torch.Tensor:
    fill(network, description["fill_mode"], golden_keys(description, rename))
    with torch.inference_mode():
        return network.eval()(network_input(description))


@pytest.mark.parametrize("name", [*SWIN_UNET, *RELEASED])
def test_equals_the_original(name, record_property):
    description = described(name)
    network = build(description, **({"legacy": True} if name in RELEASED else {}))
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == {
        rename(entry["name"]): entry["shape"] for entry in description["state_dict"]
    }
    assert sum(weight.numel() for weight in network.parameters()) == description["param_count"]
    golden = np.load(FOLDER / f"{name}.npz")["logits"]
    parity(record_property, name, network, {"logits": error(logits(network, description), golden)})


@pytest.mark.parametrize("name", INTENDED)
def test_equals_the_attention_that_the_figure_has_without_the_dead_weights(name, record_property):
    description = described(name)
    network = build(description)
    shapes = {entry["name"]: entry["shape"] for entry in description["state_dict"]}
    dead = {key: shape for key, shape in shapes.items() if key.startswith(DEAD)}
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == {
        key: shape for key, shape in shapes.items() if key not in dead
    }
    weights = sum(weight.numel() for weight in network.parameters())
    assert weights == description["param_count"] - sum(int(np.prod(shape)) for shape in dead.values())
    golden = np.load(FOLDER / f"{name}.npz")["logits"]
    parity(record_property, name, network, {"logits": error(logits(network, description), golden)})


def test_the_skips_transformer_equals_the_original(record_property):
    name = "crosstransformer_d24_n49"
    description, golden = described(name), np.load(FOLDER / f"{name}.npz")
    network = CrossTransformer(description["config"]["sm_dim"]).eval()
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == {
        entry["name"]: entry["shape"] for entry in description["state_dict"]
    }
    assert sum(weight.numel() for weight in network.parameters()) == description["param_count"]
    fill(network)  # its keys are exactly the original's, so the rule needs no list of them
    x = network_input(description)
    with torch.inference_mode():
        first, second = network(x[:2], x[2:])
    errors = {"first": error(first, golden["sm_out"]), "second": error(second, golden["lg_out"])}
    parity(record_property, name, network, errors)


def test_the_wrong_arithmetic_is_seen():
    """The comparison has teeth: the figure's attention is not what was released, and the limit tells them apart."""
    description = described("attswinunet_e24_cross_skip3_c1")
    golden = np.load(FOLDER / "attswinunet_e24_cross_skip3_c1.npz")["logits"]
    assert error(logits(build(description), description), golden) > 100 * LIMIT


@pytest.mark.parametrize(
    ("name", "options", "classes", "weights"),
    [
        ("swin_unet", {}, 9, 27_168_900),
        ("swin_unet", {"depths": (2, 2, 6, 2)}, 2, 41_380_164),
        ("att_swin_unet", {"legacy": True}, 1, 46_901_124),
        ("att_swin_unet", {"legacy": True, "depths": (2, 2, 2, 2)}, 1, 32_689_188),
        ("att_swin_unet", {"mode": "swin", "spatial_attention": False}, 9, 41_388_804 - 7_968),
        # A reconstruction: the number is that of its description, not of a published network.
        ("swtr_unet", {}, 3, 40_517_811),
        ("swtr_unet", {"embed_dim": 768, "num_heads": 24, "blocks": 12}, 3, 101_822_803),
    ],
)
def test_number_of_weights(name, options, classes, weights):
    with torch.device("meta"):
        network = models.build(name, in_channels=1, out_channels=classes, **options)
    assert sum(weight.numel() for weight in network.parameters()) == weights
