"""Weights of Swin UNETR: the encoder alone, the order of its merging, its tables of integers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from medseg import config, models, plugins
from medseg.engine.matching import Target
from medseg.engine.run import Run
from tests import published, tiny
from tests.published import PREPARE, bring_in, labels, refused

GOLDEN = Path(__file__).parents[1] / "golden" / "3d"


@pytest.fixture(scope="module")
def swin() -> torch.nn.Module:
    torch.manual_seed(0)
    return models.build("swin_unetr", in_channels=1, out_channels=2, feature_size=12)


SWIN = ["model.feature_size=12", "model.patch_merging=merging_legacy"]


def test_names_of_the_self_supervised_encoder_are_those_that_monai_reads():
    """Against the map that MONAI's own `load_from` makes."""
    known = json.loads((GOLDEN / "swin_ssl_swinvit_keymap.json").read_text())["map"]
    module = plugins.find("models", "swin_unetr")
    state = {entry["src"].removeprefix("module."): torch.empty(entry["shape"], device="meta") for entry in known}
    adapted = module.adapt(state, module.Options())
    assert list(adapted) == [entry["dst"] for entry in known] and len(known) == 126
    target = Target(config.choose("models", {"name": "swin_unetr"}), 1, 14)
    expected = {name: tuple(entry.shape) for name, entry in target.expected.items()}
    assert all(expected[entry["dst"]] == tuple(entry["shape"]) for entry in known)


def test_an_encoder_alone_is_a_part_that_cannot_predict(tmp_path, swin):
    file = tmp_path / "model_swinvit.pt"
    torch.save({"state_dict": published.swin_encoder(swin.state_dict())}, file)
    assert "--partial" in refused(
        bring_in(file, "swin_unetr", "--labels", labels(tmp_path), settings=[*SWIN, *PREPARE]), tmp_path
    )
    said = bring_in(file, "swin_unetr", "--partial", settings=SWIN)
    assert said.code == 0 and "matched 126" in said.err and "unexpected 1: rotation_head.weight" in said.err
    said = tiny.medseg_command("predict", tmp_path / "run", file, tmp_path / "out", "--device", "cpu")
    assert said.code == 2 and "a part of swin_unetr that was imported with --partial" in said.err
    assert "part of a network" in tiny.medseg_command("info", tmp_path / "run").out


def test_nothing_that_matches_is_an_error_even_for_a_part(tmp_path):
    file = published.monai(tmp_path / "w.pt", {"encoder.fc1.weight": torch.zeros(3)})
    text = refused(bring_in(file, "swin_unetr", "--partial", settings=SWIN), tmp_path)
    assert "0 of the" in text and "names of swin_unetr are in it" in text


def test_an_encoder_is_not_spread_over_more_channels_in_silence(tmp_path, swin):
    file = tmp_path / "w.pt"
    torch.save({"state_dict": published.swin_encoder(swin.state_dict())}, file)
    text = refused(bring_in(file, "swin_unetr", "--partial", "--channels", "a,b,c,d", settings=SWIN), tmp_path)
    assert "1 input channels in the file, 4 in the network" in text and "stem: repeat" in text


def test_an_encoder_of_another_width(tmp_path, swin):
    file = tmp_path / "w.pt"
    torch.save({"state_dict": published.swin_encoder(swin.state_dict())}, file)
    text = refused(bring_in(file, "swin_unetr", "--partial", settings=["model.feature_size=24", SWIN[1]]), tmp_path)
    assert "model.feature_size: found 24; needed 12, the width of these weights" in text


def test_the_patch_merging_must_be_said(tmp_path, swin):
    file = published.monai(tmp_path / "w.pt", swin.state_dict())
    words = ("--labels", labels(tmp_path, "{tumour: [1, 2], core: [2]}"))
    settings = [SWIN[0], *PREPARE]
    text = refused(bring_in(file, "swin_unetr", *words, settings=settings), tmp_path)
    assert "model.patch_merging not given" in text and "need `merging_legacy`" in text
    assert bring_in(file, "swin_unetr", *words, settings=[*settings, "model.patch_merging=merging"]).code == 0


def test_tables_of_integers_may_be_absent(tmp_path, swin):
    state = {name: tensor for name, tensor in swin.state_dict().items() if tensor.is_floating_point()}
    words = ("--labels", labels(tmp_path, "{tumour: [1, 2], core: [2]}"))
    said = bring_in(published.safetensors(tmp_path / "w", state), "swin_unetr", *words, settings=[*SWIN, *PREPARE])
    assert said.code == 0 and "absent, but computed anew 8: " in said.err
    network, _ = Run(tmp_path / "run").load_network()
    name = "swinViT.layers1.0.blocks.0.attn.relative_position_index"
    assert torch.equal(network.state_dict()[name], swin.state_dict()[name])
