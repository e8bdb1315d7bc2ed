"""What a network keeps for the backward pass, counted without computing anything."""

from __future__ import annotations

from medseg import config
from medseg.engine import footprint
from medseg.plan import Normalisation, Plan

MINIMAL = {"name": "x", "dataset": {"name": "folder", "root": "data"}}


def kept(model: dict[str, object], *, sides: tuple[int, int, int] = (16, 16, 16), out_channels: int = 2) -> float:
    plan = Plan(
        orientation="RAS",
        spacing_mm="native",
        patch=sides,
        batch=1,
        normalisation=(Normalisation(),),
        crop="none",
        order=1,
        channels=("CT",),
    )
    return footprint.kept(config.parse({**MINIMAL, "model": model}, where="test"), plan, out_channels=out_channels)


def test_answers_on_paper():
    """A class more: four copies of a map more, in the loss. The network keeps nothing of its last layer."""
    net = {"name": "residual_unet", "channels": [4, 8], "blocks": 1}
    assert kept(net, out_channels=3) - kept(net, out_channels=2) == footprint.LOGITS * 4 * 16**3


def test_a_wider_network_keeps_more_and_a_larger_patch_as_much_more():
    narrow, wide = ({"name": "residual_unet", "channels": [width, 2 * width]} for width in (8, 16))
    # the logits and the input do not widen
    assert 1.6 < kept(wide) / kept(narrow) < 2
    assert 1.98 < kept(wide, sides=(16, 16, 32)) / kept(wide) < 2.02
    assert kept(wide | {"checkpointing": True}) < 0.4 * kept(wide)
