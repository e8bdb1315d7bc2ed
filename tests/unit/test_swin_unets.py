"""Swin-Unet and Attention Swin U-Net: what their options say, published weights, refusals."""

from __future__ import annotations

import pytest
import torch

from medseg import plugins
from medseg.models import build
from medseg.refusal import Refusal

SIZES = {"img_size": 64, "embed_dim": 24, "depths": (2, 2, 2, 2), "window_size": 4}
DEEPER = {**SIZES, "depths": (2, 2, 6, 2)}
"""As Swin-T, which has more blocks in one stage than the usual Swin-Unet."""


def network(name: str, *, classes: int = 2, channels: int = 3, **options) -> torch.nn.Module:
    torch.manual_seed(0)
    return build(name, in_channels=channels, out_channels=classes, **{**SIZES, **options}).eval()


def picture(*, side: int = 64, channels: int = 3) -> torch.Tensor:
    return torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(1))


def adapted(name: str, state: dict[str, torch.Tensor], **options) -> dict[str, torch.Tensor]:
    module = plugins.find("models", name)
    return module.adapt(state, module.Options(**{**SIZES, **options}))


def answer(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model(x)


def imagenet_weights(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a Swin Transformer trained on ImageNet has: the encoder of Swin-Unet, with its own depths, and a head."""
    state = network("swin_unet", **DEEPER).state_dict()
    encoder = {key: value for key, value in state.items() if key.startswith(("patch_embed.", "layers.", "norm."))}
    return {**encoder, "head.weight": torch.zeros(1000, 192), "head.bias": torch.zeros(1000), **changes}


def test_one_channel_is_three_equal_ones():
    grey, colour = network("swin_unet", channels=1), network("swin_unet")
    x = picture(channels=1)
    assert torch.equal(answer(grey, x), answer(colour, x.repeat(1, 3, 1, 1)))


@pytest.mark.parametrize("name", ["swin_unet", "att_swin_unet"])
def test_another_size_is_refused_in_one_sentence(name):
    with pytest.raises(Refusal) as refusal:
        network(name)(picture(side=96))
    assert str(refusal.value) == (
        f"model {name}: found a picture of 96 x 96 pixels; needed 64 x 64, the size that it was built for. What to do: "
        "make the patch that large, or set the model's img_size (a multiple of 32)."
    )


@pytest.mark.parametrize("name", ["swin_unet", "att_swin_unet", "swtr_unet"])
def test_checkpointing_changes_memory_and_not_gradients(name):
    gradients = []
    for checkpointing in (False, True):
        options = SIZES if name != "swtr_unet" else {"encoder_depths": (1, 1, 1), "encoder_width": 8, "blocks": 2}
        torch.manual_seed(0)
        model = build(name, in_channels=3, out_channels=2, **options, checkpointing=checkpointing).train()
        torch.manual_seed(0)
        model(picture()).square().mean().backward()
        gradients.append([weight.grad for weight in model.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_stochastic_depth_rises_from_nothing_and_the_decoder_mirrors_it():
    model = network("swin_unet", drop_path_rate=0.7)
    rates = [[block.drop_path.rate for block in stage.blocks] for stage in model.layers]
    assert [rate for stage in rates for rate in stage] == pytest.approx([0.1 * number for number in range(8)])
    decoder = [[block.drop_path.rate for block in stage.blocks] for stage in model.layers_up[1:]]
    assert decoder == [rates[2], rates[1], rates[0]]


def test_published_weights_only_lose_their_prefix():
    first, second = network("swin_unet"), network("swin_unet")
    with torch.no_grad():
        for weight in first.parameters():
            weight.add_(0.01)
    state = {f"swin_unet.{key}": value for key, value in first.state_dict().items()}
    second.load_state_dict(adapted("swin_unet", state))
    assert torch.equal(answer(first, picture()), answer(second, picture()))


def test_imagenet_weights_go_into_encoder_and_decoder():
    state = imagenet_weights()
    first_weights = adapted("swin_unet", state)
    model = network("swin_unet")
    assert set(first_weights) <= set(model.state_dict())
    for stage, level in ((2, 1), (1, 2), (0, 3)):
        key = "blocks.1.mlp.fc1.weight"
        assert torch.equal(first_weights[f"layers_up.{level}.{key}"], state[f"layers.{stage}.{key}"])
    left = [key for key, _ in model.named_parameters() if key not in first_weights]
    assert len(left) == 21
    fresh = ("concat_back_dim.", "layers_up.0.", "norm_up.", "up.", "output.")
    assert [key for key in left if not key.startswith(fresh) and ".upsample." not in key] == []


def test_imagenet_weights_of_another_shape_are_left_out():
    table = "layers.1.blocks.0.attn.relative_position_bias_table"
    first_weights = adapted("swin_unet", imagenet_weights(**{table: torch.zeros(169, 6)}))  # a window of 7
    assert table not in first_weights
    assert "layers_up.2.blocks.0.attn.relative_position_bias_table" not in first_weights
    assert "layers.1.blocks.1.attn.relative_position_bias_table" in first_weights


@pytest.mark.parametrize("change", [{"embed_dim": 48}, {}])
def test_weights_of_no_known_kind_come_back_as_they_are(change):
    """So that whoever loads them sees what does not fit, instead of a network that silently stays random."""
    state = imagenet_weights() if change else {"features.0.weight": torch.zeros(3)}
    assert adapted("swin_unet", state, **change) == state
    own = network("swin_unet").state_dict()
    assert adapted("swin_unet", own) == own


def attention(**options) -> torch.nn.Module:
    return network("att_swin_unet", **options)


def test_without_attention_it_is_swin_unet():
    swin, att = network("swin_unet"), attention(mode="swin", spatial_attention=False)
    with torch.no_grad():
        for weight in swin.parameters():
            weight.add_(0.01)
    assert not torch.equal(answer(swin, picture()), answer(att, picture()))
    att.load_state_dict(adapted("att_swin_unet", swin.state_dict(), mode="swin"))
    assert torch.equal(answer(swin, picture()), answer(att, picture()))


@pytest.mark.parametrize("mode", ["swin", "cross_contextual_attention"])
def test_the_encoders_attention_counts_by_default(mode):
    answers = [
        answer(attention(mode=mode, **options), picture())
        for options in ({"spatial_attention": False}, {"operation": "+"}, {"operation": "mul"})
    ]
    assert all((a - b).abs().max() > 1e-5 for a, b in zip(answers, answers[1:] + answers[:1], strict=True))


def test_the_encoders_attention_is_without_effect_as_released():
    answers = [
        answer(attention(legacy=True, **options), picture())
        for options in ({"spatial_attention": False}, {"operation": "+"}, {"operation": "mul"})
    ]
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])


def test_the_mode_swin_as_released_joins_each_skip_twice():
    once = attention(mode="swin", legacy=True, spatial_attention=False)
    twice = attention(mode="swin", legacy=True, spatial_attention=True)
    assert not torch.equal(answer(once, picture()), answer(twice, picture()))
    for part in (once, twice):
        for join in part.decoder.concat_back_dim[1:]:  # joining [x, skip] gives x, so that twice is once
            torch.nn.init.eye_(join.weight)
            torch.nn.init.zeros_(join.bias)
    assert torch.equal(answer(once, picture()), answer(twice, picture()))


def test_cross_contextual_attention_starts_at_the_coarsest_skip():
    counts = []
    for skips in range(4):
        keys = attention(skip_num=skips).state_dict()
        counts.append(sorted({key.split(".")[2] for key in keys if "Crossvit_layer" in key}))
    assert counts == [[], ["2"], ["1", "2"], ["0", "1", "2"]]


def test_only_the_first_token_of_a_skip_changes():
    skip = attention().decoder.Crossvit_layer[1]
    first, second = torch.randn(2, 1, 16, 48)
    with torch.inference_mode():
        outputs = skip(first, second)
    for before, after in zip((first, second), outputs, strict=True):
        assert torch.equal(before[:, 1:], after[:, 1:])
        assert not torch.equal(before[:, 0], after[:, 0])


@pytest.mark.parametrize("legacy", [False, True])
def test_every_weight_is_used_or_is_marked_as_not_trained(legacy):
    model = attention(legacy=legacy, skip_num=1).train()
    model(picture()).square().mean().backward()
    unused = {key.split(".")[0] if legacy else key for key, weight in model.named_parameters() if weight.grad is None}
    assert unused == {key.split(".")[0] for key, weight in model.named_parameters() if not weight.requires_grad}
    assert unused == ({"patch_embed", "decoder"} if legacy else set())


@pytest.mark.parametrize("skips", [1, 3])
def test_released_weights_lose_the_dead_ones(skips):
    released = attention(legacy=True).state_dict()
    model = attention(skip_num=skips)
    model.load_state_dict(adapted("att_swin_unet", released, skip_num=skips))
    assert torch.equal(model.encoder.patch_embed.proj.weight, released["encoder.patch_embed.proj.weight"])
    attention(legacy=True).load_state_dict(adapted("att_swin_unet", released, legacy=True))


def test_imagenet_weights_go_into_both_halves():
    first_weights = adapted("att_swin_unet", imagenet_weights())
    assert set(first_weights) <= set(attention().state_dict())
    key = "blocks.0.attn.qkv.weight"
    assert torch.equal(first_weights[f"decoder.layers_up.3.{key}"], first_weights[f"encoder.layers.0.{key}"])
    assert "encoder.norm.weight" in first_weights
