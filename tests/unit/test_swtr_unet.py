"""SWTR-Unet: its ablation switches, sizes, slices and first weights."""

from __future__ import annotations

import pytest
import torch

from medseg.models import build
from medseg.models.swtr_unet import Options, adapt, context
from medseg.refusal import Refusal
from medseg.swin_layers import SwinBlock

SMALL = {
    "encoder_depths": (1, 1, 1),
    "encoder_width": 8,
    "embed_dim": 32,
    "num_heads": 4,
    "blocks": 6,
    "window_size": 2,
    "bridge_width": 16,
    "decoder_widths": (16, 8, 8, 4),
}


def network(*, channels: int = 1, classes: int = 3, **options) -> torch.nn.Module:
    torch.manual_seed(0)
    return build("swtr_unet", in_channels=channels, out_channels=classes, **{**SMALL, **options}).eval()


def picture(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def answer(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model(x)


def blocks(model: torch.nn.Module) -> list[int]:
    """Channels of every Swin block."""
    return [part.norm1.normalized_shape[0] for part in model.modules() if isinstance(part, SwinBlock)]


def test_the_transformer_stands_behind_the_encoder():
    assert blocks(network()) == [32] * 6


def test_the_transformer_can_be_left_out():
    model = network(transformer=False)
    assert blocks(model) == []
    assert {key.split(".")[0] for key in network().state_dict()} - {
        key.split(".")[0] for key in model.state_dict()
    } == {
        "swin",
        "norm",
    }


@pytest.mark.parametrize(
    ("count", "widths"), [(6, [32] * 2 + [64] * 2 + [32] * 2), (8, [32] * 2 + [64] * 2 + [32] * 4)]
)
def test_blocks_can_stand_behind_each_stage(count, widths):
    assert blocks(network(placement="each_stage", blocks=count)) == widths


def test_without_shift_a_token_sees_its_own_window_alone():
    """4 x 4 tokens in windows of 2 x 2. What happens in one corner stays in its window, unless windows are shifted."""
    x = picture(1, 32, 4, 4)
    changed = x.clone()
    changed[..., 0, 0] = -x[..., 0, 0]
    reach = {}
    for shift in (False, True):
        swin = network(shift=shift, blocks=2).swin[2]
        difference = (answer(swin, changed) - answer(swin, x)).abs().amax(dim=(0, 1))
        reach[shift] = (difference > 0).int().tolist()
    assert reach[False] == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert reach[True] == [[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]


def test_any_multiple_of_sixteen_is_taken_and_nothing_else():
    model = network(window_size=7)
    assert answer(model, picture(1, 1, 48, 144)).shape == (1, 3, 48, 144)
    with pytest.raises(Refusal, match="found a picture of 40 x 48 pixels; needed a height and a width that are mult"):
        answer(model, picture(1, 1, 40, 48))


@pytest.mark.parametrize(("neighbours", "channels", "stem"), [(0, 1, 3), (0, 2, 2), (1, 1, 3), (2, 1, 5), (1, 2, 6)])
def test_neighbouring_slices_are_channels(neighbours, channels, stem):
    model = network(neighbours=neighbours, channels=channels)
    assert model.conv1.weight.shape[1] == stem
    slices = 2 * neighbours + 1
    assert context(Options(neighbours=neighbours)) == neighbours
    x = picture(1, channels, 32, 48, slices)
    before = answer(model, x)
    assert before.shape == (1, 3, 32, 48, 1)
    for k in range(slices):
        changed = x.clone()
        changed[..., k] += 1
        assert (answer(model, changed) - before).abs().max() > 1e-6


def test_a_single_slice_is_three_equal_channels():
    grey, colour = network(channels=1), network(channels=3)
    x = picture(1, 1, 32, 32)
    assert torch.equal(answer(grey, x), answer(colour, x.repeat(1, 3, 1, 1)))


def test_the_encoder_has_the_names_and_sizes_of_torchvisions_resnet_50():
    with torch.device("meta"):
        model = build("swtr_unet", in_channels=1, out_channels=3)
    encoder = {
        key: tuple(weight.shape)
        for key, weight in model.named_parameters()
        if key.startswith(("conv1", "bn1", "layer"))
    }
    assert encoder["conv1.weight"] == (64, 3, 7, 7)
    assert encoder["layer1.0.downsample.0.weight"] == (256, 64, 1, 1)
    assert encoder["layer1.0.downsample.1.bias"] == (256,)
    assert encoder["layer2.0.conv2.weight"] == (128, 128, 3, 3)
    assert encoder["layer3.5.bn3.weight"] == (1024,)
    # 23,508,032 weights of ResNet-50 without its classifier, 14,964,736 of them in the last stage
    assert sum(torch.Size(shape).numel() for shape in encoder.values()) == 23_508_032 - 14_964_736
    assert model.layer2[0].conv2.stride == (2, 2)  # the 3 x 3 convolution has the stride, not the one before it
    assert model.layer2[0].conv1.stride == (1, 1)


def test_resnet_weights_lose_what_has_no_place():
    state = {key: torch.zeros(1) for key in ("conv1.weight", "layer3.5.bn3.weight", "layer4.0.conv1.weight", "fc.bias")}
    assert sorted(adapt(state, Options())) == ["conv1.weight", "layer3.5.bn3.weight"]


def test_a_small_one_learns_a_disc():
    model = network(classes=2, blocks=2).train()
    place = torch.stack(torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij"))
    centres = torch.tensor([[8, 10], [16, 22], [22, 12], [12, 18]]).view(4, 2, 1, 1)
    target = ((place - centres).square().sum(1) < 36).long()
    x = target.float().unsqueeze(1) + 0.1 * picture(4, 1, 32, 32)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), target)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
