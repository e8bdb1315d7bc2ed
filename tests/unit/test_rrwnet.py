"""What RRWNet and its ablations give and take, beyond the numbers of the originals (tests/golden/test_rrwnet.py)."""

from __future__ import annotations

import pytest
import torch

from medseg.models import rrwnet
from medseg.refusal import Refusal


def build(variant: str = "rrwnet", *, maps: int = 3, channels: int = 3, iterations: int = 2) -> torch.nn.Module:
    torch.manual_seed(3)
    options = rrwnet.Options(base_channels=2, iterations=iterations, variant=variant)
    return rrwnet.build(options, in_channels=channels, out_channels=maps).eval()


def picture(*sides: int, channels: int = 3) -> torch.Tensor:
    return torch.rand(2, channels, *(sides or (32, 16)), generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize(("variant", "answers"), [("rrwnet", 4), ("wnet", 2), ("rrunet", 3), ("rrwnetall", 4)])
def test_number_of_answers(variant, answers):
    assert len(build(variant)(picture())) == answers


def test_a_unet_alone_gives_one():
    assert build("unet")(picture()).shape == (2, 3, 32, 16)


def test_vessels_are_never_refined_by_the_published_network():
    *refined, first = build()(picture())
    assert all(torch.equal(maps[:, 2], first[:, 2]) for maps in refined)
    assert not any(torch.equal(maps[:, :2], first[:, :2]) for maps in refined)
    *refined, first = build("rrwnetall")(picture())
    assert not any(torch.equal(maps[:, 2], first[:, 2]) for maps in refined)


def test_the_last_refinement_comes_first():
    longer, shorter = build(iterations=3)(picture()), build(iterations=2)(picture())
    assert all(torch.equal(a, b) for a, b in zip(longer[1:], shorter, strict=True))


def test_refine_goes_on_where_the_first_network_ended():
    network, x = build(), picture()
    *refined, first = network(x)
    again = network.refine(first.sigmoid())
    assert len(again) == 3
    torch.testing.assert_close(again, tuple(logits.sigmoid() for logits in refined))
    assert torch.equal(again[0][:, 2], first.sigmoid()[:, 2])


def test_gradients_reach_the_first_network_through_the_recursion():
    network = build()
    network(picture())[0][:, :2].square().sum().backward()
    assert network.first_u.outconv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("variant", ["rrwnet", "unet", "wnet", "rrunet", "rrwnetall"])
def test_a_patch_of_the_pipeline_is_a_picture(variant):
    network, x = build(variant), picture()
    flat, deep = network(x), network(x.transpose(2, 3)[..., None])
    if variant == "unet":
        flat, deep = (flat,), (deep,)
    assert all(torch.equal(a.transpose(2, 3)[..., None], b) for a, b in zip(flat, deep, strict=True))


def test_refine_takes_patches_of_the_pipeline():
    x = torch.rand(1, 3, 16, 32, 1)
    assert [maps.shape for maps in build().refine(x)] == [x.shape] * 3


def test_other_than_three_labels_are_refused():
    with pytest.raises(Refusal, match="artery, vein, all vessels"):
        build(maps=2)
    for variant in ("unet", "wnet", "rrunet", "rrwnetall"):
        answer = build(variant, maps=2)(picture())
        assert (answer if variant == "unet" else answer[0]).shape == (2, 2, 32, 16)


def test_sides_and_channels_that_do_not_fit_are_refused():
    with pytest.raises(Refusal, match="multiples of 16"):
        build()(picture(24, 16))
    with pytest.raises(Refusal, match=r"\(batch, 3, height, width\)"):
        build()(picture(channels=1))
    with pytest.raises(Refusal, match=r"\(batch, 3, height, width\)"):
        build().refine(picture(channels=1))
