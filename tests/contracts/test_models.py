"""What every network of the registry keeps to."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from medseg import plugins

NAMES = plugins.names("models")
SMALLER = {
    "stunet": {"size": "S", "width": 4},
    "swin_unetr": {"feature_size": 12},
    "residual_unet": {"channels": (4, 8, 8)},
}
"""Options that make a network quick to test; one that is not named here is tested as it is by default."""


def options(name: str, **changes):
    return plugins.find("models", name).Options(**SMALLER.get(name, {}), **changes)


def network(name: str, *, in_channels: int = 1, **changes) -> torch.nn.Module:
    torch.manual_seed(0)
    return plugins.find("models", name).build(options(name, **changes), in_channels=in_channels, out_channels=3)


def scan(name: str, *, channels: int = 1, batch: int = 1) -> torch.Tensor:
    """Random input of the smallest size that the network takes, twice that along the last axis."""
    i, j, k = plugins.find("models", name).divisor(options(name))
    return torch.randn(batch, channels, i, j, 2 * k, generator=torch.Generator().manual_seed(1))


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
    assert logits.shape == (1, 3, *x.shape[2:])
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
    outputs = model(scan(name))
    sum(output.square().mean() for output in (outputs if isinstance(outputs, tuple) else [outputs])).backward()
    bad = [
        key for key, weight in model.named_parameters() if weight.grad is None or not torch.isfinite(weight.grad).all()
    ]
    assert bad == []


@pytest.mark.parametrize("name", NAMES)
def test_deep_supervision_yields_logits_finest_first(name):
    if "deep_supervision" not in plugins.find("models", name).Options.model_fields:
        assert isinstance(network(name)(scan(name)), torch.Tensor)
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
        ("residual_unet", {"channels": (8,)}),
        ("residual_unet", {"channels": (8, 16), "strides": ((2, 2, 2), (2, 2, 2))}),
        ("residual_unet", {"channels": (8, 16), "blocks": (1, 1, 1)}),
        ("residual_unet", {"kernel": (3, 3, 2)}),
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
