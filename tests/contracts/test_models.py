"""What every network of the registry keeps to."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from medseg import plugins

NAMES = plugins.names("models")
TINY_SWIN = {"img_size": 32, "embed_dim": 8, "depths": (2, 2), "num_heads": (2, 4), "window_size": 4}
SMALLER = {
    "stunet": {"size": "S", "width": 4},
    "swin_unetr": {"feature_size": 12},
    "residual_unet": {"channels": (4, 8, 8)},
    "unet": {"features": (4, 8, 8)},
    "resnet18": {"width": 8},
    "video_resnet": {"width": 8},
    "rrwnet": {"base_channels": 4, "iterations": 1},
    "swin_unet": TINY_SWIN,
    "att_swin_unet": {**TINY_SWIN, "skip_num": 1},
    "swtr_unet": {
        "encoder_depths": (1, 1, 1),
        "encoder_width": 8,
        "embed_dim": 16,
        "num_heads": 2,
        "blocks": 2,
        "window_size": 2,
        "bridge_width": 16,
        "decoder_widths": (16, 8, 8, 4),
    },
}
"""Options that make a network quick to test; one that is not named here is tested as it is by default."""


def options(name: str, **changes):
    return plugins.find("models", name).Options(**SMALLER.get(name, {}), **changes)


def network(name: str, *, in_channels: int = 1, **changes) -> torch.nn.Module:
    torch.manual_seed(0)
    return plugins.find("models", name).build(options(name, **changes), in_channels=in_channels, out_channels=3)


SMALLEST = 32
"""No network is asked to work on less than this many voxels a side."""


def scan(name: str, *, channels: int = 1, batch: int = 1) -> torch.Tensor:
    """Random input of a small size that the network takes; a 2-D network gets one slice and its neighbours."""
    module = plugins.find("models", name)
    i, j, k = (step * -(-SMALLEST // step) for step in module.divisor(options(name)))
    k = 2 * module.context(options(name)) + 1 if hasattr(module, "context") else k
    return torch.randn(batch, channels, i, j, k, generator=torch.Generator().manual_seed(1))


def answer_shape(name: str, x: torch.Tensor) -> tuple[int, ...]:
    """Of the logits: those of a classifier have no place, those of a 2-D network belong to the middle slice."""
    module = plugins.find("models", name)
    if getattr(module, "CLASSIFIES", False):
        return (len(x), 3)
    return (len(x), 3, *x.shape[2:4], 1 if hasattr(module, "context") else x.shape[4])


def finest(output) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output


def test_the_list_equals_the_folder():
    folder = plugins.PACKAGE / "models"
    assert tuple(sorted(file.stem for file in folder.glob("[!_]*.py"))) == NAMES
    assert {"residual_unet", "stunet", "swin_unetr"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_has_a_summary_and_documented_options(name):
    assert plugins.summary("models", name)
    fields = plugins.find("models", name).Options.model_fields
    assert [key for key, field in fields.items() if not field.description] == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 4])
def test_logits_have_the_size_of_the_scan(name, channels):
    x = scan(name, channels=channels)
    with torch.inference_mode():
        logits = finest(network(name, in_channels=channels).eval()(x))
    assert logits.shape == answer_shape(name, x)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_is_deterministic_and_ignores_the_rest_of_the_batch(name):
    # In float64, because a norm over the two voxels of the coarsest map enlarges float32's rounding.
    model, x = network(name).eval().double(), scan(name, batch=2).double()
    with torch.inference_mode():
        first, second, alone = finest(model(x)), finest(model(x)), finest(model(x[:1]))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    torch.testing.assert_close(first[:1], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_gets_a_finite_gradient(name):
    model = network(name).train()
    outputs = model(scan(name, batch=2))
    sum(output.square().mean() for output in (outputs if isinstance(outputs, tuple) else [outputs])).backward()
    bad = [
        key for key, weight in model.named_parameters() if weight.grad is None or not torch.isfinite(weight.grad).all()
    ]
    assert bad == []


@pytest.mark.parametrize("name", NAMES)
def test_deep_supervision_yields_logits_finest_first(name):
    if "deep_supervision" not in plugins.find("models", name).Options.model_fields:
        outputs = network(name).eval()(scan(name))  # one case of 32 a side is too little to train some classifiers
        assert isinstance(outputs, torch.Tensor) or len(outputs) > 1  # a recursion's outputs, the answer first
        return
    x = scan(name)
    with torch.inference_mode():
        outputs, single = network(name, deep_supervision=True)(x), network(name, deep_supervision=False)(x)
    assert isinstance(outputs, tuple)
    assert len(outputs) > 1
    assert isinstance(single, torch.Tensor)
    assert outputs[0].shape == single.shape == (1, 3, *x.shape[2:])
    voxels = [output[0, 0].numel() for output in outputs]
    assert voxels == sorted(voxels, reverse=True)
    assert all(output.shape[:2] == (1, 3) for output in outputs)


@pytest.mark.parametrize("name", NAMES)
def test_weights_can_be_saved_and_loaded(name, tmp_path):
    first, second, x = network(name).eval(), network(name).eval(), scan(name)
    with torch.no_grad():
        for weight in second.parameters():
            weight.add_(1)
    torch.save(first.state_dict(), tmp_path / "weights.pt")
    second.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    with torch.inference_mode():
        torch.testing.assert_close(finest(first(x)), finest(second(x)), rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_options_are_refused(name):
    with pytest.raises(ValidationError, match="no_such_option"):
        plugins.find("models", name).Options(no_such_option=1)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("stunet", {"size": "M"}),
        ("stunet", {"pools": ((2, 2, 2),) * 6}),
        ("stunet", {"pools": ((0, 2, 2),)}),
        ("swin_unetr", {"feature_size": 20}),
        ("swin_unetr", {"patch_merging": "merging_v3"}),
        ("swin_unetr", {"drop_rate": 1.0}),
        ("rrwnet", {"iterations": -1}),
        ("rrwnet", {"base_channels": 0}),
        ("rrwnet", {"variant": "wwnet"}),
        ("residual_unet", {"channels": (8,)}),
        ("residual_unet", {"channels": (8, 16), "strides": ((2, 2, 2), (2, 2, 2))}),
        ("residual_unet", {"channels": (8, 16), "blocks": (1, 1, 1)}),
        ("residual_unet", {"kernel": (3, 3, 2)}),
        ("unet", {"features": (8,)}),
        ("unet", {"features": (8, 16), "strides": ((2, 2, 2), (2, 2, 2))}),
        ("unet", {"features": (8, 16), "kernels": ((3, 3, 3),)}),
        ("unet", {"kernels": ((3, 3, 2),) * 5}),
        ("unet", {"features": (8, 16), "convs": (1, 1, 1)}),
        ("unet", {"features": (8, 16), "decoder_convs": (1, 1)}),
        ("resnet18", {"head": "sigmoid"}),
        ("resnet18", {"neighbours": -1}),
        ("video_resnet", {"kind": "r3d_34"}),
        ("video_resnet", {"frames": "t"}),
        ("video_resnet", {"dropout": 1.0}),
        ("swin_unet", {"img_size": 200}),
        ("swin_unet", {"window_size": 6}),
        ("swin_unet", {"num_heads": (3, 6, 12)}),
        ("swin_unet", {"num_heads": (3, 6, 12, 25)}),
        ("swin_unet", {"depths": (2,), "num_heads": (3,)}),
        ("att_swin_unet", {"skip_num": 4}),
        ("att_swin_unet", {"operation": "-"}),
        ("att_swin_unet", {"window_size": 6}),
        ("swtr_unet", {"num_heads": 7}),
        ("swtr_unet", {"placement": "each_stage", "blocks": 5}),
        ("swtr_unet", {"placement": "each_stage", "encoder_width": 20}),
        ("swtr_unet", {"neighbours": -1}),
        ("swtr_unet", {"encoder_depths": (3, 4, 6, 3)}),
    ],
)
def test_impossible_options_are_refused(name, wrong):
    with pytest.raises(ValidationError):
        plugins.find("models", name).Options(**wrong)


def test_checkpointing_changes_memory_and_not_gradients():
    gradients = []
    for checkpointing in (False, True):
        model = network("stunet", checkpointing=checkpointing).train()
        model(scan("stunet"))[0].square().mean().backward()
        gradients.append([weight.grad for weight in model.parameters() if weight.grad is not None])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_flat_kernels_and_strides_suit_a_photograph():
    residual_unet = plugins.find("models", "residual_unet")
    chosen = residual_unet.Options(channels=(4, 8, 8), strides=((2, 2, 1), (2, 2, 1)), kernel=(3, 3, 1))
    model = residual_unet.build(chosen, in_channels=3, out_channels=2)
    assert residual_unet.divisor(chosen) == (4, 4, 1)
    assert model(torch.zeros(1, 3, 8, 12, 1)).shape == (1, 2, 8, 12, 1)
