"""Weights that others made become run folders: read without running them, whole or not at all."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from medseg import models, plugins
from medseg.engine import checkpoint, foreign, matching
from medseg.engine.run import Run
from medseg.refusal import Refusal
from tests import published, tiny
from tests.published import PREPARE, STUNET, bring_in, refused


@pytest.mark.parametrize("layout", published.LAYOUTS, ids=lambda layout: layout.__name__)
def test_an_imported_network_predicts_what_it_says_by_hand(tmp_path, layout):
    network = published.stunet()
    said = bring_in(layout(tmp_path / "weights.pth", network.state_dict()))
    assert said.code == 0, said.err
    assert "matched 130\nmissing 0\nreshaped 0\nunexpected 0\n" in said.err
    image, _ = tiny.phantom(0, (32, 32, 32))
    scan = tiny.nifti(tmp_path / "scan.nii.gz", image, np.diag([1.5, 1.5, 2, 1]))  # axes towards R, A, S
    predicted = tiny.medseg_command("predict", tmp_path / "run", scan, tmp_path / "out", "--device", "cpu")
    assert predicted.code == 0, predicted.err
    values = image.astype(np.float32)
    x = torch.from_numpy((values - values.mean()) / values.std())[None, None]
    with torch.inference_mode():
        by_hand = network(x)[0].argmax(1)[0].numpy()
    assert len(np.unique(by_hand)) == 3
    assert np.array_equal(np.asarray(nib.load(tmp_path / "out" / "scan.nii.gz").dataobj), by_hand)


def test_axes_as_nnunet_saw_them(tmp_path):
    """Through SimpleITK a file of orientation RAS is (k, j, i): `orientation: SAR` shows the network the same."""
    network = published.stunet()
    settings = [*STUNET, *PREPARE[:-1], "prepare.orientation=SAR"]
    assert bring_in(published.monai(tmp_path / "w.pt", network.state_dict()), settings=settings).code == 0
    image, _ = tiny.phantom(1, (32, 32, 32))
    scan = tiny.nifti(tmp_path / "scan.nii.gz", image, np.eye(4))
    assert tiny.medseg_command("predict", tmp_path / "run", scan, tmp_path / "out", "--device", "cpu").code == 0
    values = image.astype(np.float32).transpose(2, 1, 0).copy()
    x = torch.from_numpy((values - values.mean()) / values.std())[None, None]
    with torch.inference_mode():
        by_hand = network(x)[0].argmax(1)[0].numpy().transpose(2, 1, 0)
    assert np.array_equal(np.asarray(nib.load(tmp_path / "out" / "scan.nii.gz").dataobj), by_hand)


def test_the_run_folder_says_where_it_came_from(tmp_path):
    file = published.nnunet_v2(tmp_path / "w.pth", published.stunet().state_dict())
    said = bring_in(file, settings=[*STUNET, *PREPARE, "licence=CC-BY-4.0", "prepare.crop=nonzero"])
    assert said.code == 0 and said.out.strip() == str(tmp_path / "run")
    run = Run.open(tmp_path / "run")
    assert run.recipe.dataset.name == "none" and run.recipe.licence == "CC-BY-4.0"
    assert run.plan.crop == "nonzero" and run.plan.channels == ("image",) and run.table.names == ("left", "right")
    _, facts, _ = checkpoint.load(run.path("weights.safetensors"))
    assert facts["imported"]["sha256"] == foreign.sha256(file)
    page = run.path("card.md").read_text(encoding="utf-8")
    assert foreign.sha256(file) in page and "CC-BY-4.0" in page and "trained elsewhere" in page
    assert "left, right" in tiny.medseg_command("info", tmp_path / "run").out
    assert tiny.medseg_command("export", tmp_path / "run", tmp_path / "run.zip").code == 0


class Program:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["zip", "old torch", "pickle", "numpy object"])
def test_code_in_a_pickle_is_named_and_never_run(tmp_path, kind):
    proof, file = tmp_path / "it-ran", tmp_path / "w.pth"
    content = {"state_dict": published.stunet().state_dict(), "extra": Program(proof)}
    if kind == "pickle":
        file.write_bytes(pickle.dumps(content["extra"]))
    else:
        extra = np.array([Program(proof)], dtype=object) if kind == "numpy object" else content["extra"]
        torch.save({**content, "extra": extra}, file, _use_new_zipfile_serialization=kind != "old torch")
    text = refused(bring_in(file), tmp_path)
    assert f"a pickle that calls {os.name}.mkdir when it is opened" in text and "--allow-pickle" in text
    assert not proof.exists()


@pytest.mark.parametrize("kind", ["torch's classes", "a function of torch", "numpy's generator", "old torch"])
def test_a_program_of_torch_or_numpy_is_a_program_all_the_same(tmp_path, kind):
    """And no damaged file, to be downloaded again and again."""
    state, file = published.stunet().state_dict(), tmp_path / "w.pth"
    extra, name = {
        "torch's classes": (torch.nn.Sequential(torch.nn.Linear(2, 2)), "torch.nn.modules.container.Sequential"),
        "a function of torch": (torch.save, "torch.serialization.save"),
        "numpy's generator": (np.random.default_rng(0), "numpy.random._pickle.__generator_ctor"),
        "old torch": (torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1), "torch.optim.sgd.SGD"),
    }[kind]
    torch.save({"model": state, "extra": extra}, file, _use_new_zipfile_serialization=kind != "old torch")
    text = refused(bring_in(file), tmp_path)
    assert "found a pickle that calls" in text and name in text and "--allow-pickle" in text
    assert "_rebuild" not in text and "OrderedDict" not in text and "Storage" not in text
    assert bring_in(file, "stunet", "--allow-pickle").code == 0


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*TorchScript:UserWarning")
def test_a_compiled_network_is_a_program(tmp_path):
    compiled = torch.jit.script(torch.nn.Sequential(torch.nn.Linear(2, 2)))
    compiled.save(str(tmp_path / "w.pt"))
    text = refused(bring_in(tmp_path / "w.pt"), tmp_path)
    assert "found a pickle that calls the TorchScript code in it" in text and "--allow-pickle" in text
    assert foreign.read(tmp_path / "w.pt", allow_pickle=True).keys() == {"0.weight", "0.bias"}


def test_allow_pickle_is_loud(tmp_path):
    proof = tmp_path / "it-ran"
    file = tmp_path / "w.pth"
    torch.save({"state_dict": published.stunet().state_dict(), "extra": Program(proof)}, file)
    said = bring_in(file, "stunet", "--allow-pickle")
    assert said.code == 0 and proof.exists()
    assert "WARNING: --allow-pickle" in said.err and "opened as a program" in said.err


@pytest.mark.parametrize("layout", [published.nnunet_v1, published.bare, published.safetensors, published.monai_zip])
def test_a_cut_file_is_refused(tmp_path, layout):
    file = layout(tmp_path / "w.pth", published.stunet().state_dict())
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    text = refused(bring_in(file), tmp_path)
    assert "found a damaged" in text and "download or copy it again" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 117497661\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html>sign in</html>", "a web page"),
        (b"", "damaged torch file"),
    ],
)
def test_what_is_downloaded_in_place_of_weights(tmp_path, content, message):
    (tmp_path / "w.pth").write_bytes(content)
    assert message in refused(bring_in(tmp_path / "w.pth"), tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(2)], "found a list; needed tensors by name"),
        ({"a": {"x": torch.zeros(2)}, "b": {"y": torch.zeros(2)}}, "no weights under a usual name; it holds a, b"),
        ({"epoch": 3}, "it holds epoch"),
    ],
)
def test_a_file_without_weights(tmp_path, content, message):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(Refusal, match=message):
        foreign.read(tmp_path / "w.pth")


def test_where_weights_are_found(tmp_path):
    state = {"a.weight": torch.ones(2)}
    others = {"state": torch.zeros(1)}
    for content in (
        state,
        {"state_dict": state, "ema": state},
        {"state_dict": others, "network_weights": state},
        {"odd name": state, "epoch": 3},
        {"model": {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}},
    ):
        torch.save(content, tmp_path / "w.pth")
        assert foreign.read(tmp_path / "w.pth").keys() == state.keys()


def test_sha256_is_checked_first(tmp_path):
    file = published.monai(tmp_path / "w.pt", published.stunet().state_dict())
    digest = foreign.sha256(file)
    text = refused(bring_in(file, "stunet", "--sha256", "0" * 64), tmp_path)
    assert f"found sha256 {digest}; needed {'0' * 64}" in text
    assert "64 hexadecimal digits" in refused(bring_in(file, "stunet", "--sha256", digest[:4]), tmp_path)
    assert bring_in(file, "stunet", "--sha256", digest[:12].upper()).code == 0


def test_another_number_of_classes(tmp_path):
    file = published.monai(tmp_path / "w.pt", published.stunet(classes=105).state_dict())
    assert "found 105 classes in the file, 3 in the label table" in refused(bring_in(file), tmp_path)


def test_another_number_of_channels(tmp_path):
    file = published.monai(tmp_path / "w.pt", published.stunet(channels=2).state_dict())
    assert "found 2 input channels in the file, 1 in the network" in refused(bring_in(file), tmp_path)


def test_another_network_is_named(tmp_path):
    state = models.build("residual_unet", in_channels=1, out_channels=3).state_dict()
    text = refused(bring_in(published.monai(tmp_path / "w.pt", state)), tmp_path)
    assert "found weights of another network: 0 of the 130 names of stunet are in it" in text
    assert "they look like residual_unet (100% of the names agree): --as residual_unet" in text
    state = {"backbone.0.weight": torch.zeros(2)}
    text = refused(bring_in(published.monai(tmp_path / "w.pt", state)), tmp_path)
    assert "they begin backbone.0.weight" in text


def test_another_size_is_named(tmp_path):
    torch.manual_seed(0)
    options = {**published.OPTIONS, "size": "L"}
    state = models.build("stunet", in_channels=1, out_channels=3, **options).state_dict()
    text = refused(bring_in(published.monai(tmp_path / "w.pt", state)), tmp_path)
    assert "weights that do not fit stunet as it is set: matched 130; missing 0; reshaped 0; unexpected 88" in text
    assert "they fit with --set model.size=L" in text


@pytest.mark.parametrize("change", ["drop", "add", "reshape"])
def test_a_tensor_too_few_too_many_or_of_another_shape(tmp_path, change):
    state = dict(published.stunet().state_dict())
    name = "upsample_layers.2.conv.weight"
    if change == "drop":
        del state[name]
    elif change == "add":
        state["surprise.weight"] = torch.zeros(1)
    else:
        state[name] = state[name][:-1]
    text = refused(bring_in(published.monai(tmp_path / "w.pt", state)), tmp_path)
    shape = f"reshaped 1: {name} [7, 16, 1, 1, 1] for [8, 16, 1, 1, 1]"
    assert {"drop": f"missing 1: {name}", "add": "unexpected 1: surprise.weight", "reshape": shape}[change] in text


def test_a_safetensors_file_under_another_ending(tmp_path):
    state = published.stunet().state_dict()
    renamed = published.safetensors(tmp_path / "w", state).rename(tmp_path / "w.pt")
    assert foreign.read(renamed).keys() == state.keys()


@pytest.mark.parametrize("layout", [published.monai, published.bare])
def test_a_torch_file_called_safetensors_is_no_damaged_one(tmp_path, layout):
    file = layout(tmp_path / "w.safetensors", published.stunet().state_dict())
    text = refused(bring_in(file), tmp_path)
    assert "found a torch file; needed a safetensors file, by its name. What to do: rename it to end in .pt" in text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(tmp_path, value):
    state = dict(published.stunet().state_dict())
    state["upsample_layers.0.conv.bias"][1] = value
    text = refused(bring_in(published.safetensors(tmp_path / "w", state)), tmp_path)
    assert "found 1 values in upsample_layers.0.conv.bias that are NaN or infinite" in text


def test_half_precision_becomes_the_networks_own(tmp_path):
    state = {name: tensor.half() for name, tensor in published.stunet().state_dict().items()}
    assert bring_in(published.safetensors(tmp_path / "w", state)).code == 0
    network, _ = Run(tmp_path / "run").load_network()
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}


def test_what_was_left_open_is_listed_with_its_remedy(tmp_path):
    file = published.monai(tmp_path / "w.pt", published.stunet().state_dict())
    text = refused(bring_in(file, settings=STUNET), tmp_path)
    assert "found no spacing_mm, no patch, no normalisation, no orientation" in text
    assert "--set prepare.spacing_mm=[1.5,1.5,1.5] --set prepare.patch=[128,128,128]" in text
    text = refused(bring_in(file, settings=[*STUNET, *PREPARE, "prepare.patch=[30,32,32]"]), tmp_path)
    assert "prepare.patch: found [30, 32, 32]; needed multiples of [4, 4, 1]" in text.replace("[4, 4, 4]", "[4, 4, 1]")
    text = refused(bring_in(file, settings=[*STUNET, *PREPARE, "prepare.normalisation=[{kind: window}]"]), tmp_path)
    assert "no lower and no upper" in text
    text = refused(bring_in(file, "stunet", "--channels", "a,b"), tmp_path)
    assert "found 1 entries; needed one for each of the 2 channels: a, b" in text
    text = refused(bring_in(file, settings=[*STUNET, *PREPARE, "prepare.modalities=[CT,MR]"]), tmp_path)
    assert "prepare.modalities: found 2 entries" in text
    assert bring_in(file, settings=[*STUNET, *PREPARE, "prepare.modalities=[MR]"]).code == 0
    assert Run(tmp_path / "run").plan.modalities == ("MR",)


def test_a_photograph_is_no_scan_for_a_network_of_volumes(tmp_path):
    assert bring_in(published.monai(tmp_path / "w.pt", published.stunet().state_dict())).code == 0
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "xray.png")
    said = tiny.medseg_command("predict", tmp_path / "run", tmp_path / "xray.png", tmp_path / "out", "--threads", 1)
    assert said.code == 1 and "xray.png: found a photograph, without a size in millimetres" in said.err


@pytest.mark.parametrize("network", ["stunet", "resnet18"])
def test_labels_of_another_task(tmp_path, network):
    """A class for the image from a network for voxels, and the reverse: as many outputs, and no meaning."""
    if network == "stunet":
        state, text, settings = published.stunet().state_dict(), "{a: 0, b: 1, c: 2}\nunit: image", None
        needed = "found a 3-D segmentation network; needed a classifier"
    else:
        state = models.build("resnet18", in_channels=1, out_channels=3, width=8).state_dict()
        text, settings = "{left: 1, right: 2}", ["model.width=8", *PREPARE]
        needed = "found a 2-D classifier; needed a segmentation network"
    words = ("--labels", published.labels(tmp_path, text))
    text = refused(bring_in(published.monai(tmp_path / "w.pt", state), network, *words, settings=settings), tmp_path)
    assert needed in text and "because the labels name a class for every" in text


def test_labels_are_needed(tmp_path):
    file = published.monai(tmp_path / "w.pt", published.stunet().state_dict())
    said = tiny.medseg_command(
        "import-weights", file, "--as", "stunet", "--out", tmp_path / "run", "--set", STUNET[0], "--set", STUNET[2]
    )
    assert "--labels: found no label table" in refused(said, tmp_path)


def test_options_that_no_shape_shows_must_be_said(tmp_path):
    file = published.monai(tmp_path / "w.pt", published.stunet().state_dict())
    text = refused(bring_in(file, settings=[*STUNET[:2], *PREPARE]), tmp_path)
    assert "found model.pools not given" in text and "--set model.pools=[[2,2,2],[2,2,2]" in text


def test_a_recipe_brings_its_settings(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "name: mine\ndataset: {name: folder, root: data}\nmodel: {name: stunet, size: S, width: 2, "
        "pools: [[2,2,2],[2,2,2]]}\nlabels: {left: 1, right: 2}\nprepare: {spacing_mm: native, patch: [32,32,32], "
        "normalisation: [{kind: none}], orientation: LPS}\n",
        encoding="utf-8",
    )
    file = published.monai(tmp_path / "w.pt", published.stunet().state_dict())
    said = tiny.medseg_command("import-weights", file, "--as", "stunet", "--out", tmp_path / "run", "--recipe", recipe)
    assert said.code == 0, said.err
    run = Run(tmp_path / "run")
    assert run.recipe.name == "mine" and run.plan.orientation == "LPS" and run.table.names == ("left", "right")
    # with an entry of the catalogue, which brings no data set into a recipe that has one
    torch.manual_seed(0)
    state = models.build("stunet", in_channels=1, out_channels=105, size="S").state_dict()
    published.monai(tmp_path / "s.pt", state)
    words = ("--as", "stunet-s", "--out", tmp_path / "s", "--recipe", recipe, "--set", "model.width=16")
    said = tiny.medseg_command("import-weights", tmp_path / "s.pt", *words)
    assert said.code == 0, said.err
    run = Run(tmp_path / "s")
    assert run.recipe.dataset.name == "folder" and run.plan.orientation == "SAR" and len(run.table.labels) == 104
    said = tiny.medseg_command(
        "import-weights", file, "--as", "swin_unetr", "--out", tmp_path / "b", "--recipe", recipe
    )
    assert "found the network stunet; needed swin_unetr" in said.err


def test_output_channels_in_another_order(tmp_path):
    network = published.stunet()
    file = published.monai(tmp_path / "w.pt", network.state_dict())
    assert bring_in(file, "stunet", "--outputs", "right,left").code == 0
    loaded, _ = Run(tmp_path / "run").load_network()
    for level in range(5):
        ours, theirs = (each.get_submodule(f"seg_outputs.{level}") for each in (loaded, network))
        assert torch.equal(ours.weight, theirs.weight[[0, 2, 1]]) and torch.equal(ours.bias, theirs.bias[[0, 2, 1]])


def test_names_of_output_channels_must_be_the_labels(tmp_path):
    file = published.monai(tmp_path / "w.pt", published.stunet().state_dict())
    text = refused(bring_in(file, "stunet", "--outputs", "right,up"), tmp_path)
    assert "--outputs: found right, up; needed each of background, left, right once" in text


def test_a_name_that_is_neither_network_nor_entry(tmp_path):
    file = published.monai(tmp_path / "w.pt", published.stunet().state_dict())
    assert "did you mean 'stunet'" in refused(bring_in(file, "stnet", settings=[]), tmp_path)


def test_a_folder_with_something_in_it_is_not_replaced(tmp_path):
    file = published.monai(tmp_path / "w.pt", published.stunet().state_dict())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious.txt").write_text("x")
    said = bring_in(file)
    assert said.code == 2 and "something there already" in said.err and (tmp_path / "run" / "precious.txt").exists()


def test_a_model_without_data_refuses_to_be_trained():
    with pytest.raises(Refusal, match="dataset: none: found a model without its data"):
        plugins.find("datasets", "none").cases(plugins.find("datasets", "none").Options())


def test_a_match_tells_what_it_found():
    expected = {"a": torch.zeros(2), "b": torch.zeros(3), "c": torch.zeros(1), "n": torch.zeros(1, dtype=torch.int64)}
    found = matching.compare({"a": torch.ones(2), "b": torch.ones(4), "x": torch.ones(1)}, expected)
    assert found.lines() == [
        "matched 1",
        "missing 1: c",
        "reshaped 1: b [4] for [3]",
        "unexpected 1: x",
        "absent, but computed anew 1: n",
    ]
