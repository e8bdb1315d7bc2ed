"""What the classifiers do with channels, neighbouring slices, centres and published weights."""

from __future__ import annotations

import pytest
import torch

from medseg import models, plugins
from medseg.refusal import Refusal

RESNET, VIDEO = plugins.find("models", "resnet18"), plugins.find("models", "video_resnet")


def build(name: str, *, channels: int = 1, classes: int = 2, **options) -> torch.nn.Module:
    torch.manual_seed(0)
    return models.build(name, in_channels=channels, out_channels=classes, width=8, **options).eval()


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def same(first: torch.Tensor, second: torch.Tensor) -> bool:
    return torch.allclose(first, second, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("channels", "order"), [(1, [0, 0, 0]), (2, [0, 1, 0]), (3, [0, 1, 2])])
def test_few_planes_become_three_in_the_documented_order(channels, order):
    x, network, three = noise(2, channels, 40, 48), build("resnet18", channels=channels), build("resnet18", channels=3)
    assert network.conv1.weight.shape[1] == 3
    assert same(network(x), three(x[:, order]))


@pytest.mark.parametrize(
    ("channels", "neighbours", "planes", "width"), [(5, 0, "colour", 5), (1, 2, "colour", 5), (2, 0, "own", 2)]
)
def test_other_numbers_of_planes_get_a_stem_of_their_own(channels, neighbours, planes, width):
    network = build("resnet18", channels=channels, neighbours=neighbours, planes=planes)
    assert network.conv1.weight.shape[1] == width
    assert network(noise(1, channels, 32, 32, 2 * neighbours + 1)).shape == (1, 2)


def test_a_stack_of_slices_is_the_picture_of_its_planes():
    network, x = build("resnet18", channels=2, neighbours=1), noise(1, 2, 48, 32, 3)
    picture = torch.stack([x[0, channel, :, :, k].T for channel in range(2) for k in range(3)])[None]
    assert picture.shape == (1, 6, 32, 48) and same(network(x), network(picture))


@pytest.mark.parametrize("head", ["linear", "lymphoma"])
@pytest.mark.parametrize("neighbours", [0, 1])
def test_centres_reach_only_the_last_layer(head, neighbours):
    """The logits of two centres differ by the difference of the last layer's weights for them, whatever the image."""
    network = build("resnet18", channels=3, head=head, neighbours=neighbours, centres=2)
    image = noise(2, 1, 32, 32, 2 * neighbours + 1)
    here, there = torch.zeros(2, 2, 32, 32, image.shape[4]), torch.zeros(2, 2, 32, 32, image.shape[4])
    here[:, 0], there[:, 1] = 1, 1
    last = network.fc if head == "linear" else network.fc[-1]
    first, second = last.weight[:, -2], last.weight[:, -1]
    gap = network(torch.cat([image, here], dim=1)) - network(torch.cat([image, there], dim=1))
    assert same(gap, (first - second).expand(2, -1))
    assert gap.abs().max() > 1e-3
    plain = build("resnet18", channels=1, head=head, neighbours=neighbours)
    assert network.conv1.weight.shape == plain.conv1.weight.shape


def test_centres_without_an_image_are_refused():
    with pytest.raises(Refusal, match="2 of 2 input channels"):
        build("resnet18", channels=2, centres=2)


@pytest.mark.parametrize(("frames", "order"), [("i", (0, 1, 2)), ("j", (1, 0, 2)), ("k", (2, 1, 0))])
def test_frames_names_the_axis_that_becomes_time(frames, order):
    x = noise(1, 1, 24, 32, 40)
    along_i = build("video_resnet", frames="i")
    turned = x.permute(0, 1, *(2 + axis for axis in order))
    assert same(build("video_resnet", frames=frames)(x), along_i(turned))


@pytest.mark.parametrize(("kind", "frames"), [("r3d_18", 2), ("mc3_18", 16), ("r2plus1d_18", 2)])
def test_mc3_never_shortens_the_frames(kind, frames):
    network, seen = build("video_resnet", kind=kind, frames="i"), []
    network.layer4.register_forward_hook(lambda *call: seen.append(call[2].shape))
    network(noise(1, 1, 16, 32, 32))
    assert seen == [(1, 64, frames, 2, 2)]


@pytest.mark.parametrize(("name", "size"), [("resnet18", (32, 32, 1)), ("video_resnet", (16, 16, 8))])
def test_one_image_that_shrinks_to_one_value_can_be_classified_but_not_trained_on(name, size):
    network = build(name)
    assert network(noise(1, 1, *size)).shape == (1, 2)
    network.train()
    assert network(noise(2, 1, *size)).shape == (2, 2)
    assert network(noise(1, 1, size[0] + 1, *size[1:])).shape == (1, 2)
    with pytest.raises(Refusal, match="batch of 2"):
        network(noise(1, 1, *size))


def test_weights_start_as_published_recipes_start():
    network = models.build("video_resnet", in_channels=1, out_channels=400, kind="mc3_18", width=16)
    fc, convolution = network.fc, network.layer1[0].conv1[0]
    assert fc.bias.abs().max() == 0 and fc.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert convolution.weight.std().item() == pytest.approx((2 / (16 * 27)) ** 0.5, rel=0.05)  # fan out: 16 maps * 27


def test_video_weights_find_their_names():
    published = build("video_resnet", channels=3).state_dict()
    options = VIDEO.Options(width=8, dropout=0.3)
    adapted = VIDEO.adapt(published, options)
    renamed = {"fc.weight": "fc.1.weight", "fc.bias": "fc.1.bias"}
    assert list(adapted) == [renamed.get(key, key) for key in published]
    assert list(VIDEO.adapt(adapted, VIDEO.Options(width=8))) == list(published)
    build("video_resnet", channels=3, dropout=0.3).load_state_dict(adapted)


@pytest.mark.parametrize("kind", ["r3d_18", "mc3_18", "r2plus1d_18"])
def test_a_summed_stem_sees_one_channel_as_three_equal_colours(kind):
    video = build("video_resnet", channels=3, kind=kind)
    network = build("video_resnet", kind=kind)
    network.load_state_dict(VIDEO.adapt(video.state_dict(), VIDEO.Options(width=8, kind=kind, stem="sum")))
    x = noise(1, 1, 16, 32, 32)
    assert same(network(x), video(x.expand(-1, 3, -1, -1, -1)))


def test_a_fresh_stem_leaves_out_all_of_the_published_one():
    published = build("video_resnet", channels=3).state_dict()
    kept = VIDEO.adapt(published, VIDEO.Options(width=8, stem="fresh"))
    assert set(published) - set(kept) == {key for key in published if key.startswith("stem.")} and len(kept) < 224


def test_imagenets_last_layer_has_no_place_under_the_lymphoma_head():
    published = build("resnet18", channels=3, classes=1000).state_dict()
    network = build("resnet18", head="lymphoma", classes=1)
    adapted = RESNET.adapt(published, RESNET.Options(width=8, head="lymphoma"))
    outcome = network.load_state_dict(adapted, strict=False)
    assert outcome.unexpected_keys == [] and all(key.startswith("fc.") for key in outcome.missing_keys)
    lymphoma = network.state_dict()
    assert RESNET.adapt(lymphoma, RESNET.Options(width=8, head="lymphoma")).keys() == lymphoma.keys()
    assert RESNET.adapt(published, RESNET.Options(width=8)).keys() == published.keys()
