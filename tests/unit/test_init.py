"""`init` in a recipe: training from weights that exist."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from medseg import config, models, plugins
from medseg.engine import checkpoint, weights
from medseg.engine.matching import Target
from medseg.engine.run import Run
from medseg.labels import LabelTable
from medseg.plan import Normalisation, Plan
from medseg.refusal import Refusal
from tests import published, tiny
from tests.published import bring_in


@pytest.fixture(scope="module")
def swin() -> torch.nn.Module:
    torch.manual_seed(0)
    return models.build("swin_unetr", in_channels=1, out_channels=2, feature_size=12)


SWIN = ["model.feature_size=12", "model.patch_merging=merging_legacy"]


def start(network: torch.nn.Module, model: dict, init: dict, *, channels: int = 1, classes: int = 2) -> list[str]:
    """`initialise` with a recipe; what it says."""
    given = {"name": "x", "dataset": "none", "model": model, "init": init}
    said: list[str] = []
    names = {f"label{number}": number for number in range(1, classes)}
    plan = tiny_plan(channels)
    weights.initialise(network, config.parse(given, where="r"), plan, LabelTable.of(names), said.append)
    return said


def tiny_plan(channels: int):
    return Plan(
        orientation="RAS",
        spacing_mm="native",
        patch=(32, 32, 32),
        batch=1,
        normalisation=(Normalisation(),) * channels,
        crop="none",
        order=3,
        channels=tuple(f"c{number}" for number in range(channels)),
    )


MODEL = {"name": "stunet", **published.OPTIONS}


@pytest.fixture
def source(tmp_path) -> Path:
    """An imported run with 3 classes."""
    assert bring_in(published.monai(tmp_path / "w.pt", published.stunet(seed=1).state_dict())).code == 0
    return tmp_path / "run"


def same(network: torch.nn.Module, other: torch.nn.Module) -> set[str]:
    theirs = other.state_dict()
    return {name for name, tensor in network.state_dict().items() if torch.equal(tensor, theirs[name])}


def test_everything_but_the_heads_is_loaded(source):
    network = published.stunet(classes=3)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    said = start(network, MODEL, {"weights": str(source)}, classes=3)
    heads = {name for name in before if name.startswith("seg_outputs.")}
    loaded = same(network, published.stunet(seed=1))
    assert before.keys() - loaded == {name for name in heads if name.endswith("weight")}
    assert all(torch.equal(network.state_dict()[name], before[name]) for name in heads)
    assert said == [
        f"init: 120 of 130 tensors from {source}; 10 stay random: seg_outputs.0.weight, seg_outputs.0.bias, "
        "seg_outputs.1.weight, seg_outputs.1.bias, and 6 more"
    ]
    start(network, MODEL, {"weights": str(source / "weights.safetensors"), "heads": "load"}, classes=3)
    assert same(network, published.stunet(seed=1)) == before.keys()


def test_another_preparation_is_told(source):
    """Weights load into any: of axes that were exchanged nothing else speaks."""
    path = source / "plan.json"
    plan = json.loads(path.read_text())
    path.write_text(json.dumps({**plan, "orientation": "SAR", "normalisation": [{"kind": "none"}]}))
    said = start(published.stunet(), MODEL, {"weights": str(source)}, classes=3)
    assert said[1:] == [
        "init: these weights were trained with orientation SAR, not RAS; normalisation none, not zscore"
    ]


def test_other_classes_need_no_setting_and_loading_their_heads_is_refused(source):
    network = published.stunet(classes=6)
    start(network, MODEL, {"weights": str(source)}, classes=6)
    with pytest.raises(Refusal, match="3 classes in the file, 6 in the label table"):
        start(network, MODEL, {"weights": str(source), "heads": "load"}, classes=6)


def test_first_layers_are_repeated_undivided(source):
    network, theirs = published.stunet(channels=4), published.stunet(seed=1).state_dict()
    with pytest.raises(Refusal, match="1 input channels in the file, 4 in the network"):
        start(network, MODEL, {"weights": str(source)}, channels=4, classes=3)
    said = start(network, MODEL, {"weights": str(source), "stem": "repeat"}, channels=4, classes=3)
    for layer in ("conv1", "conv3"):
        name = f"conv_blocks_context.0.0.{layer}.weight"
        assert name in said[0]
        for channel in range(4):
            assert torch.equal(network.state_dict()[name][:, channel], theirs[name][:, 0])


def test_a_network_without_constants_shows_its_heads_and_stem_by_their_shapes(monkeypatch):
    module = plugins.find("models", "stunet")
    target = Target(config.choose("models", MODEL), 1, 3)
    named = (target.heads, target.stem)
    monkeypatch.delattr(module, "HEADS")
    monkeypatch.delattr(module, "STEM")
    derived = Target(config.choose("models", MODEL), 1, 3)
    assert (derived.heads, derived.stem) == named and len(named[0]) == 10 and len(named[1]) == 2


def test_constants_of_every_network_name_what_depends_on_classes_and_channels():
    small = {"stunet": MODEL, "swin_unetr": {"name": "swin_unetr", "feature_size": 12}}
    for name in plugins.names("models"):
        module = plugins.find("models", name)
        target = Target(config.choose("models", small.get(name, {"name": name})), 3, 3)
        if hasattr(module, "HEADS"):
            assert target.heads == target._changing(0, 1), name
        if hasattr(module, "STEM"):
            assert target.stem == target._changing(1, 0), name
        for option in getattr(module, "UNSEEN", ()):
            assert option in module.Options.model_fields, name


def test_pools_must_be_those_of_the_weights_unless_said(source):
    network = published.stunet()
    other = {**MODEL, "pools": [[2, 2, 1], [2, 2, 2]]}
    with pytest.raises(Refusal, match=r"model\.pools: found .* while the weights of .* were made with"):
        start(network, other, {"weights": str(source)}, classes=3)
    start(network, other, {"weights": str(source), "changed": ["pools"]}, classes=3)


def test_weights_that_do_not_fit_are_refused(source, tmp_path):
    residual = models.build("residual_unet", in_channels=1, out_channels=3)
    with pytest.raises(Refusal, match="nothing for residual_unet"):
        start(residual, {"name": "residual_unet"}, {"weights": str(source)}, classes=3)
    heads = {name: t for name, t in published.stunet().state_dict().items() if name.startswith("seg_outputs.")}
    save_file(heads, tmp_path / "heads.safetensors")
    with pytest.raises(Refusal, match="nothing for stunet but 10 tensors of its heads"):
        start(published.stunet(), MODEL, {"weights": str(tmp_path / "heads.safetensors")}, classes=3)
    body = dict(published.stunet().state_dict())
    del body["upsample_layers.0.conv.weight"]
    save_file(body, tmp_path / "body.safetensors")
    with pytest.raises(Refusal, match=r"missing 11: .*upsample_layers\.0\.conv\.weight|missing 11: "):
        start(published.stunet(), MODEL, {"weights": str(tmp_path / "body.safetensors")}, classes=3)
    with pytest.raises(Refusal, match="bring it in by `medseg import-weights`"):
        start(published.stunet(), MODEL, {"weights": str(tmp_path / "w.pt")}, classes=3)


def test_an_encoder_starts_a_training(tmp_path, swin):
    file = tmp_path / "model_swinvit.pt"
    torch.save({"state_dict": published.swin_encoder(swin.state_dict())}, file)
    assert bring_in(file, "swin_unetr", "--partial", settings=SWIN).code == 0
    model = {"name": "swin_unetr", "feature_size": 12, "patch_merging": "merging_legacy"}
    torch.manual_seed(5)
    network = models.build(**model, in_channels=4, out_channels=3)
    said = start(network, model, {"weights": str(tmp_path / "run"), "stem": "repeat"}, channels=4, classes=3)
    assert said[0].startswith("init: 126 of 159 tensors") and "repeated for 4 channels: swinViT.patch_embed" in said[0]
    loaded = network.state_dict()
    assert all(torch.equal(loaded[name], t) for name, t in swin.state_dict().items() if "swinViT.layers" in name)
    with pytest.raises(Refusal, match="found merging, while the weights of"):
        start(network, {**model, "patch_merging": "merging"}, {"weights": str(tmp_path / "run")}, channels=4, classes=3)


def test_training_starts_from_weights_and_resumes_without_them(tmp_path):
    source = tiny.untrained_run(tmp_path / "source" / "run", seed=7)
    recipe = tiny.recipe(tmp_path / "recipe.yaml", tiny.data_set(tmp_path / "data"))
    words = ["train", recipe, "--out", tmp_path / "run", f"init.weights={source.folder}"]
    # steps so small that they change nothing but zeros
    quick = ["train.lr=1e-30", "train.optimiser=sgd", "train.steps=1", "train.workers=0"]
    said = tiny.medseg_command(*words, *quick, "train.epochs=1")
    assert said.code == 0, said.err
    assert "init: " in said.err and "2 stay random: heads.0.weight, heads.0.bias" in said.err
    ours, theirs = (checkpoint.load(run.path("weights.safetensors"))[0] for run in (Run(tmp_path / "run"), source))
    unchanged = {name for name in ours if torch.allclose(ours[name], theirs[name], rtol=0, atol=1e-20)}
    assert ours.keys() - unchanged == {"heads.0.weight"}
    source.path("weights.safetensors").unlink()
    said = tiny.medseg_command(*words, "--resume", *quick, "train.epochs=2")
    assert said.code == 0, said.err
