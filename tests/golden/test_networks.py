"""3-D networks against outputs of the original implementations, on weights made by a rule (see fill.py).

The arrays were computed by uni-medical/STU-Net@0652eaf, by MONAI 1.6.1 (legacy merging: MONAI 1.4.0) and by
dynamic_network_architectures 0.4.4 (U-Net), on a CPU. Each JSON file names its source, every state_dict key with its
shape, and the decimation of every stored array.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fill import fill, network_input

from medseg import plugins

FOLDER = Path(__file__).parent / "3d"
LIMIT = 2e-4
"""Largest difference over standard deviation. The originals differ from themselves in float64 by up to 3e-5 (STU-Net S)
and 9e-6 (Swin UNETR); the smallest mistake that was tried, tanh-GELU for erf-GELU, makes 1e-3."""

ALL_TWO = ((2, 2, 2),) * 5
ANISOTROPIC = {
    "features": (8, 16, 32, 32),
    "strides": ((1, 2, 2), (2, 2, 2), (2, 2, 1)),
    "kernels": ((1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "convs": (2, 2, 3, 1),
    "decoder_convs": (1, 2, 2),
}
CASES = [
    # file, model, options, channels in and out, limit
    ("stunet_small", "stunet", {"size": "S"}, 1, 105, LIMIT),
    ("stunet_small_in4_c4_pool2", "stunet", {"size": "S", "pools": ALL_TWO}, 4, 4, LIMIT),
    # 440 million weights: the original's own float32 noise is 7e-5.
    pytest.param("stunet_large", "stunet", {"size": "L"}, 1, 105, 5e-4, id="stunet_large"),
    ("unet_c5", "unet", {"features": (16, 32, 64, 128)}, 1, 5, 1e-4),
    ("unet_anisotropic_in2_c3", "unet", ANISOTROPIC, 2, 3, 1e-4),
    ("swin_unetr_fs24_v1", "swin_unetr", {"feature_size": 24}, 4, 3, LIMIT),
    (
        "swin_unetr_fs24_v1_legacymerge",
        "swin_unetr",
        {"feature_size": 24, "patch_merging": "merging_legacy"},
        4,
        3,
        LIMIT,
    ),
    ("swin_unetr_fs24_v1_mergingv2", "swin_unetr", {"feature_size": 24, "patch_merging": "mergingv2"}, 4, 3, LIMIT),
    ("swin_unetr_fs24_v2", "swin_unetr", {"feature_size": 24, "use_v2": True}, 4, 3, LIMIT),
    ("swin_unetr_fs48_v1", "swin_unetr", {"feature_size": 48}, 4, 3, LIMIT),
    ("swin_unetr_fs48_v2", "swin_unetr", {"feature_size": 48, "use_v2": True}, 4, 3, LIMIT),
]


def build(model: str, options: dict, channels_in: int, channels_out: int) -> torch.nn.Module:
    component = plugins.find("models", model)
    return component.build(component.Options(**options), in_channels=channels_in, out_channels=channels_out)


def outputs(network: torch.nn.Module, x: torch.Tensor) -> dict[str, np.ndarray]:
    """Every array that the reference stored, by its name there."""
    hidden: list[torch.Tensor] = []
    if hasattr(network, "swinViT"):
        network.swinViT.register_forward_hook(lambda module, arguments, result: hidden.extend(result))
    with torch.inference_mode():
        result = network(x)
    if isinstance(result, tuple):
        return {f"out{level}": logits.numpy() for level, logits in enumerate(result)}
    return {"out": result.numpy(), **{f"hidden{level}": h.numpy() for level, h in enumerate(hidden)}}


def error(ours: np.ndarray, golden: np.ndarray) -> float:
    """Largest difference, in standard deviations of the reference. NaN must fail before a maximum can drop it."""
    assert ours.shape == golden.shape
    assert np.isfinite(ours).all()
    assert np.isfinite(golden).all()
    return float(np.abs(ours - golden).max() / golden.std())


@pytest.mark.parametrize(("name", "model", "options", "channels_in", "channels_out", "limit"), CASES)
def test_equals_the_original(name, model, options, channels_in, channels_out, limit, record_property):
    description = json.loads((FOLDER / f"{name}.json").read_text())
    golden = np.load(FOLDER / f"{name}.npz")
    # STU-Net has no buffers, so its costly random initialisation can be skipped.
    with torch.device("meta" if model == "stunet" else "cpu"):
        network = build(model, options, channels_in, channels_out)
    if model == "stunet":
        network.to_empty(device="cpu")
    state = network.state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == {
        entry["key"]: entry["shape"] for entry in description["keys"]
    }
    assert sum(weight.numel() for weight in network.parameters()) == description["param_count"]

    fill(network)
    arrays = outputs(network.eval(), network_input(description["input"]["shape"]))

    assert sorted(arrays) == sorted(golden.files)
    errors = {}
    for key, array in arrays.items():
        assert list(array.shape) == description["outputs"][key]["full_shape"]
        i, j, k = description["outputs"][key]["stride"] or (1, 1, 1)
        errors[key] = error(array[:, :, ::i, ::j, ::k], golden[key])
    result = {"network": model, "file": name, "parameters": description["param_count"]}
    record_property("parity", json.dumps({**result, "error": max(errors.values()), "limit": limit}))
    assert max(errors.values()) < limit, errors


@pytest.mark.parametrize(
    ("size", "weights", "entries"),
    [("S", 14_596_941, 130), ("B", 58_262_669, 130), ("L", 440_302_605, 218), ("H", 1_457_326_221, 306)],
)
def test_stunet_has_the_published_number_of_weights(size, weights, entries):
    with torch.device("meta"):
        network = build("stunet", {"size": size}, 1, 105)
    assert sum(weight.numel() for weight in network.parameters()) == weights
    assert len(network.state_dict()) == entries


def test_published_pools_need_sides_of_16_16_32():
    stunet = plugins.find("models", "stunet")
    assert stunet.divisor(stunet.Options()) == (16, 16, 32)


def test_the_wrong_patch_merging_is_seen():
    """The comparison has teeth: weights of one order, run in another, fail by far."""
    description = json.loads((FOLDER / "swin_unetr_fs24_v1_legacymerge.json").read_text())
    golden = np.load(FOLDER / "swin_unetr_fs24_v1_legacymerge.npz")
    network = build("swin_unetr", {"feature_size": 24}, 4, 3).eval()
    fill(network)
    ours = outputs(network, network_input(description["input"]["shape"]))["out"]
    assert error(ours[:, :, ::2, ::2, ::2], golden["out"]) > 1
