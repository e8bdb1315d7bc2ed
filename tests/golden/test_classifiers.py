"""Classifiers and their slice preparation against the originals, on weights made by a rule (fill.py, fill_2d.py).

The arrays were computed on a CPU by torchvision 0.29.2's networks, with the stems and heads of
farazahmeds/Classification-of-brain-tumor-using-Spatiotemporal-models@b46e468 and of
ahxmeds/classification-explanation@9937f6f.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import fill
import fill_2d
import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from medseg import models
from medseg.transforms.slices import ct_slice, mask_slice, pet_slice

FOLDER = Path(__file__).parent
LIMIT = 2e-4
"""Largest difference over standard deviation; the originals differ from themselves in float64 by up to 1e-6."""
LIMIT_2D = 1e-5
"""Largest difference over largest value; the original's own float32 noise is 4e-7."""

BRAIN = {"dropout": 0.5, "frames": "i"}
VIDEO = [
    # file, kind, further options, channels in and out
    ("mc3_18", "mc3_18", {"frames": "i"}, 3, 400),
    ("r2plus1d_18", "r2plus1d_18", {"frames": "i"}, 3, 400),
    ("r2plus1d_18_brain", "r2plus1d_18", BRAIN, 1, 3),
    ("r3d_18_brain", "r3d_18", BRAIN, 1, 3),
]
FLAT = [
    # file, options, channels out, name of the array that the network's output is, how the other follows from it
    ("resnet18_dr_c2", {}, 2, "out", ("prob", lambda logits: logits.softmax(dim=1))),
    ("resnet18_lymphoma_slice_g05", {"head": "lymphoma"}, 1, "logit", ("out", torch.sigmoid)),
]


def described(file: str) -> tuple[dict, dict[str, np.ndarray]]:
    path = FOLDER / ("2d" if file.startswith(("resnet", "lymphoma")) else "3d") / file
    return json.loads(path.with_suffix(".json").read_text()), dict(np.load(path.with_suffix(".npz")))


def _hear(heard: dict[str, torch.Tensor], part: str, module: torch.nn.Module, given, result: torch.Tensor) -> None:
    heard[part] = result.clone()


def listening(network: torch.nn.Module, *parts: str) -> dict[str, torch.Tensor]:
    """A dict that the outputs of these parts come into when the network runs."""
    heard: dict[str, torch.Tensor] = {}
    for part in parts:
        network.get_submodule(part).register_forward_hook(partial(_hear, heard, part))
    return heard


def record(property, *, network: str, file: str, parameters: int, error: float, limit: float) -> None:
    facts = {"network": network, "file": file, "parameters": parameters, "error": error, "limit": limit}
    property("parity", json.dumps(facts))
    assert error < limit, facts


def difference(ours: np.ndarray, golden: np.ndarray, scale: float) -> float:
    """Largest difference over `scale`. NaN must fail before a maximum can drop it."""
    assert ours.shape == golden.shape
    assert np.isfinite(ours).all() and np.isfinite(golden).all()
    return float(np.abs(ours - golden).max() / scale)


def weights(network: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize(("file", "kind", "options", "channels_in", "channels_out"), VIDEO)
def test_video_resnet_equals_the_original(file, kind, options, channels_in, channels_out, record_property):
    description, golden = described(file)
    network = models.build("video_resnet", in_channels=channels_in, out_channels=channels_out, kind=kind, **options)
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == {
        entry["key"]: entry["shape"] for entry in description["keys"]
    }
    assert weights(network) == description["param_count"]

    fill.fill(network.eval())
    arrays = listening(network, "stem", "layer1", "layer2", "layer3", "layer4")
    with torch.inference_mode():
        arrays["out"] = network(fill.network_input(description["input"]["shape"]))

    assert sorted(arrays) == sorted(golden)
    errors = []
    for name, array in arrays.items():
        assert list(array.shape) == description["outputs"][name]["full_shape"]
        thinned = tuple(slice(None, None, step) for step in description["outputs"][name]["stride"])
        errors.append(difference(array[(..., *thinned)].numpy(), golden[name], golden[name].std()))
    record(
        record_property, network="video_resnet", file=file, parameters=weights(network), error=max(errors), limit=LIMIT
    )


def test_the_frames_axis_is_not_interchangeable():
    """The comparison has teeth: a volume read along another axis gives other logits."""
    description, golden = described("r3d_18_brain")
    network = models.build("video_resnet", in_channels=1, out_channels=3, kind="r3d_18", dropout=0.5, frames="k").eval()
    fill.fill(network)
    with torch.inference_mode():
        ours = network(fill.network_input(description["input"]["shape"])).numpy()
    assert difference(ours, golden["out"], golden["out"].std()) > 0.1


@pytest.mark.parametrize(("file", "options", "channels_out", "output", "derived"), FLAT)
def test_resnet18_equals_the_original(file, options, channels_out, output, derived, record_property):
    description, golden = described(file)
    network = models.build("resnet18", in_channels=3, out_channels=channels_out, **options).eval()
    state = {key: list(value.shape) for key, value in network.state_dict().items()}
    assert state == {entry["name"]: entry["shape"] for entry in description["state_dict"]}
    assert len(state) == description["state_dict_entries"]
    assert weights(network) == description["param_count"]

    fill_2d.fill(network, description["fill_mode"])
    heard = listening(network, "avgpool")
    with torch.inference_mode():
        logits = network(fill_2d.network_input(description))
    name, function = derived
    arrays = {"features512": heard["avgpool"].flatten(1), output: logits, name: function(logits)}

    assert sorted(arrays) == sorted(golden)
    error = max(difference(array.numpy(), golden[key], np.abs(golden[key]).max()) for key, array in arrays.items())
    record(record_property, network="resnet18", file=file, parameters=weights(network), error=error, limit=LIMIT_2D)


def test_slices_are_prepared_as_by_the_original(record_property):
    _, golden = described("lymphoma_slice_pipeline")
    errors = [difference(ct_slice(golden["ct"], side=None), golden["ct_norm"], 1)]
    for side in (128, 192, 256):  # enlarged, enlarged a little, shrunk
        errors.append(difference(pet_slice(golden[f"suv{side}"]), golden[f"pet{side}"], 1))
        assert (mask_slice(golden[f"mask{side}"]) == golden[f"mask{side}_224"]).all()
    # The stored arrays are rounded to float32.
    record(
        record_property,
        network="slice preparation",
        file="lymphoma_slice_pipeline",
        parameters=0,
        error=max(errors),
        limit=1e-6,
    )


@pytest.mark.parametrize(
    ("kind", "channels", "entries", "published", "brain", "multiplications"),
    [
        ("r2plus1d_18", 3, 224, 31_505_325, 31_297_254, 40.52e9),
        ("mc3_18", 3, 122, 11_695_440, 11_472_963, 43.34e9),
        ("r3d_18", 3, 122, 33_371_472, 33_148_995, 40.70e9),
    ],
)
def test_video_resnets_have_the_published_number_of_weights(kind, channels, entries, published, brain, multiplications):
    with torch.device("meta"):
        network = models.build("video_resnet", in_channels=channels, out_channels=400, kind=kind, frames="i").eval()
        small = models.build("video_resnet", in_channels=1, out_channels=3, kind=kind, dropout=0.5)
        assert (weights(network), weights(small)) == (published, brain)
        assert len(network.state_dict()) == len(small.state_dict()) == entries
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, channels, 16, 112, 112))
    assert counter.get_total_flops() / 2 == pytest.approx(multiplications, rel=2e-4)


def test_resnet18_has_the_published_number_of_weights():
    with torch.device("meta"):
        networks = [
            models.build("resnet18", in_channels=3, out_channels=1000),
            models.build("resnet18", in_channels=3, out_channels=2),
            models.build("resnet18", in_channels=1, out_channels=1, head="lymphoma"),
        ]
    assert [weights(network) for network in networks] == [11_689_512, 11_177_538, 11_242_305]
    assert [len(network.state_dict()) for network in networks] == [122, 122, 124]
