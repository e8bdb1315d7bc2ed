"""Networks by name: from Python, and described by `medseg info` without making their weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from medseg import models, plugins
from medseg.refusal import Refusal
from tests.tiny import medseg_command

PROMISED = {
    *("swin_unetr", "stunet", "swtr_unet", "swin_unet", "att_swin_unet", "rrwnet", "video_resnet", "resnet18"),
    "residual_unet",
}


def test_the_registry_has_every_promised_network() -> None:
    assert set(plugins.names("models")) == PROMISED


def test_options_reach_the_network() -> None:
    network = models.build("stunet", in_channels=2, out_channels=5, size="S", width=4, deep_supervision=False)
    assert network(torch.zeros(1, 2, 16, 16, 32)).shape == (1, 5, 16, 16, 32)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("stunett", {}, "did you mean 'stunet'"),
        ("stunet", {"sise": "S"}, "sise"),
        ("stunet", {"size": "XL"}, "size.*'S', 'B', 'L' or 'H'"),
        ("mylab.nets.thing", {}, "importable module"),
        ("swin_unet", {"img_size": 100}, "found img_size: 100 is not a multiple of 32"),
    ],
)
def test_what_cannot_be_built_is_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal, match=words):
        models.build(name, in_channels=1, out_channels=2, **options)


@pytest.mark.parametrize(
    ("words", "weights"),
    [
        (("stunet", "size=H", "out_channels=105"), "1,457,326,221"),
        (("swin_unetr", "feature_size=48", "in_channels=4", "out_channels=3"), "62,191,941"),
        (("rrwnet", "in_channels=3", "out_channels=3"), "62,063,685"),
        (("rrwnet",), "62,063,685"),
        (("video_resnet", "kind=mc3_18", "in_channels=3", "out_channels=400"), "11,695,440"),
    ],
)
def test_info_counts_weights_without_making_them(words: tuple[str, ...], weights: str) -> None:
    said = medseg_command("info", *words)
    assert said.code == 0, said.err
    assert f"parameters   {weights} " in said.out


def test_info_of_a_network_that_there_is_not() -> None:
    said = medseg_command("info", "stunett", "size=S")
    assert said.code == 2 and "did you mean 'stunet'" in said.err
