"""Networks by name: from Python, and described by `medseg info` without making their weights."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

import medseg
from medseg import models, plugins
from medseg.refusal import Refusal
from tests.tiny import ENVIRONMENT, medseg_command

PROMISED = {
    *("swin_unetr", "stunet", "swtr_unet", "swin_unet", "att_swin_unet", "rrwnet", "video_resnet", "resnet18"),
    *("residual_unet", "unet"),
}


def test_the_registry_has_every_promised_network() -> None:
    assert set(plugins.names("models")) == PROMISED


def test_networks_are_built_from_python_with_one_import() -> None:
    code = "import medseg; medseg.models.build('stunet', in_channels=1, out_channels=2, size='S', width=2)"
    subprocess.run([sys.executable, "-c", code], check=True, env=ENVIRONMENT)
    assert not hasattr(medseg, "modles")


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


@pytest.mark.parametrize(("number", "found"), [(0, "0"), (-1, "-1"), ("three", "'three'"), (True, "True")])
def test_impossible_channels_are_refused(number: object, found: str) -> None:
    with pytest.raises(Refusal, match=f"out_channels: found {found}; needed a whole number from 1 on"):
        models.build("stunet", in_channels=1, out_channels=number)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("in_channels=abc", "in_channels: found 'abc'"),
        ("size", "found no '='"),
        ("size=[", "which is not YAML"),
        ("sise=S", "did you mean 'size'"),
        ("size=XL", "found 'XL'"),
        ("name=x", "no models component 'x'"),
    ],
)
def test_info_refuses_words_that_mean_nothing(word: str, message: str) -> None:
    said = medseg_command("info", "stunet", word)
    assert said.code == 2 and message in said.err


def test_info_of_a_network_beside_a_folder_of_its_name(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stunet").mkdir()
    assert "14,545,338" in medseg_command("info", "stunet", "size=S").out


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_no_network_takes_memory_on_the_meta_device(name: str, monkeypatch) -> None:
    """A parameter that is made elsewhere and moved there has taken it already."""
    monkeypatch.setattr(torch.nn.Module, "to", None)
    made: list[torch.Tensor] = []
    new = torch.nn.Parameter.__new__
    monkeypatch.setattr(torch.nn.Parameter, "__new__", lambda *given: made.append(new(*given)) or made[-1])
    with torch.device("meta"):
        network = models.build(name, in_channels=3, out_channels=3)
    assert {weight.device.type for weight in [*made, *network.parameters()]} == {"meta"}


def test_info_of_a_network_that_there_is_not() -> None:
    said = medseg_command("info", "stunett", "size=S")
    assert said.code == 2 and "did you mean 'stunet'" in said.err
