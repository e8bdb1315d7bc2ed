"""Recipes: read, changed by overrides, written and read again; every mistake named with its place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from medseg import config
from medseg.dicom.settings import Conditions, DicomSettings, SeriesRules
from medseg.refusal import Refusal

MINIMAL = {"name": "x", "dataset": {"name": "folder", "root": "data"}, "model": {"name": "residual_unet"}}


def parse(**changes: object) -> config.Recipe:
    return config.parse({**MINIMAL, **changes}, where="recipe.yaml")


def load(folder: Path, *overrides: str, text: str = yaml.safe_dump(MINIMAL)) -> config.Recipe:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return config.load(path, overrides)


def refusal(**changes: object) -> str:
    with pytest.raises(Refusal) as refused:
        parse(**changes)
    return str(refused.value)


def test_a_minimal_recipe_has_every_default():
    made = parse()
    assert made.loss.name == "dice_ce" and made.train == config.TrainSettings()
    assert made.metrics == ()  # those that suit the labels
    assert made.dataset.options.root == Path("data")  # type: ignore[attr-defined]


def test_shipped_recipes_come_back_from_their_dump(tmp_path):
    for path in (Path(config.__file__).parents[1] / "pipelines").glob("*.yaml"):
        made = config.load(path)
        assert load(tmp_path, text=config.dump(made)) == made


OVERRIDES = some.fixed_dictionaries(
    {},
    optional={
        "train.lr": some.floats(1e-9, 1e3),
        "train.epochs": some.integers(1, 10_000),
        "train.precision": some.sampled_from(["'32'", "bf16", "'16'"]),
        "seed": some.integers(0, 2**40),
        "name": some.text("ab1e-3ä.", min_size=1).map(lambda text: f"'{text}'"),
        "split.kind": some.sampled_from(["kfold", "none", "slice"]),
        "prepare.spacing_mm": some.sampled_from(["auto", "native", "[1, 1.5, 2e+0]"]),
        "prepare.memory_gib": some.sampled_from(["auto", "2", "0.5"]),
        "model": some.sampled_from(["stunet", "{name: residual_unet, channels: [4, 8]}"]),
        "postprocess": some.sampled_from(["[]", "[keep_largest]", "[{name: fill_holes}, keep_largest]"]),
        "labels": some.sampled_from(["{a: 1, b: 2}", "{whole: [1, 2], core: [2]}", "null"]),
        "predict.mirror": some.sampled_from(["[]", "[left-right]", "[left-right, inferior-superior]"]),
        "augment.scale": some.sampled_from(["[0.5, 2]", "[1, 1]"]),
    },
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # drawing is slow on a busy machine
@given(OVERRIDES)
def test_load_of_dump_is_the_same_recipe(tmp_path_factory, overrides):
    folder = tmp_path_factory.getbasetemp()
    made = load(folder, *(f"{key}={value}" for key, value in overrides.items()))
    assert load(folder, text=config.dump(made)) == made
    if "train.lr" in overrides:
        assert made.train.lr == overrides["train.lr"]


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("train.lr=3e-4", lambda made: made.train.lr == 3e-4),
        ("train.lr=0.5", lambda made: made.train.lr == 0.5),
        ("train.loggers=[tensorboard]", lambda made: made.train.loggers == ("tensorboard",)),
        ("train.precision=32", lambda made: made.train.precision == "32"),
        ("predict.precision='16'", lambda made: made.predict.precision == "16"),
        ("name=3e-4", lambda made: made.name == "3e-4"),
        ("name=nan", lambda made: made.name == "nan"),
        ("model=stunet", lambda made: made.model.name == "stunet"),
        ("model.channels=[4, 8]", lambda made: made.model.options.channels == (4, 8)),
        ("metrics=[dice]", lambda made: len(made.metrics) == 1),
        ("split.folds=3", lambda made: made.split.folds == 3),
        ("dataset.root=a=b", lambda made: made.dataset.options.root == Path("a=b")),
    ],
)
def test_an_override(tmp_path, override, value):
    assert value(load(tmp_path, override))


def test_overrides_reach_into_lists_and_empty_keys(tmp_path):
    text = yaml.safe_dump({**MINIMAL, "postprocess": [{"name": "keep_largest"}, {"name": "remove_small"}]})
    made = load(tmp_path, "postprocess.1.name=fill_holes", "augment.blur_p=0", text=text + "augment:\n")
    assert [step.name for step in made.postprocess] == ["keep_largest", "fill_holes"]
    assert made.augment.blur_p == 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.lr", "no '='"),
        ("=3", "no '='"),
        ("train.lr=[1,", "not YAML"),
        ("name.x=1", "'name' is a plain value"),
        ("metrics.2.name=iou", "'2' as a place in a list of 1; needed 0 to 0"),
        ("metrics.first=iou", "'first' as a place in a list of 1"),
        ("metrics.0.name=iou", "'metrics.0' is a plain value.*{name: dice}"),
    ],
)
def test_an_override_that_cannot_be_applied(tmp_path, override, message):
    with pytest.raises(Refusal, match=message):
        load(tmp_path, override, text=yaml.safe_dump({**MINIMAL, "metrics": ["dice"]}))


def test_all_mistakes_are_listed_at_once_with_paths_and_nearest_names():
    text = refusal(
        modle=1,
        dataset={"name": "folder", "root": ["a"], "chanels": "x"},
        model={"name": "residual_nuet"},
        metrics=["dice", {"name": "dise"}, 7],
        train={"lr": -1, "epoch": 3, "optimiser": "adam"},
        split={"folds": 1},
    )
    assert "found 10 mistakes" in text
    for line in (
        "dataset.root: found ['a']",
        "dataset.chanels: no such key; did you mean 'channels'",
        "model.name: no models component 'residual_nuet'; did you mean 'residual_unet'",
        "metrics.1.name: no metrics component 'dise'; did you mean 'dice'",
        "metrics.2: found 7; needed a name",
        "train.lr: found -1; input should be greater than 0",
        "train.epoch: no such key; did you mean 'epochs'",
        "train.optimiser: found 'adam'",
        "split.folds: found 1; input should be greater than or equal to 2",
        "modle: no such key; did you mean 'model'",
    ):
        assert line in text


def test_what_is_missing_is_named():
    with pytest.raises(Refusal, match=r"(?s)3 mistakes.*name: missing.*dataset: missing.*model: missing"):
        config.parse({}, where="recipe.yaml")
    assert "dataset.root: missing" in refusal(dataset={"name": "folder"})
    assert "dataset: found None; needed a name" in refusal(dataset=None)


@pytest.mark.parametrize("changes", [{"momentum": -0.1}, {"momentum": 1}, {"weight_decay": -1}, {"warmup_steps": -1}])
def test_numbers_that_an_optimiser_would_not_take(changes):
    assert f"train.{next(iter(changes))}: found" in refusal(train=changes)


@pytest.mark.parametrize("name", ["no.such.module", "os.path", ".relative", "a..b"])
def test_a_module_that_is_no_component(name):
    assert f"model.name: no models component '{name}'" in refusal(model={"name": name})


def test_a_component_from_outside_the_package(tmp_path, monkeypatch):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "net.py").write_text("from medseg.models.residual_unet import *\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert parse(model={"name": "outside.net", "channels": [4, 8]}).model.module().__name__ == "outside.net"


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a: [", "valid YAML"), (b"- 1", "found a list"), (b"", "found nothing"), (b"\xff\xfe\xff", "valid YAML")],
)
def test_files_that_are_no_recipe(tmp_path, content, message):
    (tmp_path / "r.yaml").write_bytes(content)
    with pytest.raises(Refusal, match=rf"r\.yaml: .*{message}"):
        config.load(tmp_path / "r.yaml")
    with pytest.raises(Refusal, match="no such file"):
        config.load(tmp_path / "absent.yaml")
    with pytest.raises(Refusal, match=r"found a folder; needed a recipe"):
        config.load(tmp_path)


def test_a_recipe_from_a_pipe():
    """As a shell's `<(...)` gives it."""
    reading, writing = os.pipe()
    os.write(writing, yaml.safe_dump(MINIMAL).encode())
    os.close(writing)
    assert config.load(Path(f"/dev/fd/{reading}")) == parse()
    os.close(reading)


def test_a_key_without_a_value(tmp_path):
    with pytest.raises(Refusal, match=r"train\.lr: found nothing; input should be a valid number"):
        load(tmp_path, "train.lr=")


def test_inference_settings_alone():
    settings = config.PredictSettings()
    assert config.changed(settings, ["overlap=0.75", "mirror=[left-right]"]).overlap == 0.75
    with pytest.raises(Refusal, match=r"overlap: found 1.*; overlop: no such key; did you mean 'overlap'"):
        config.changed(settings, ["overlap=1", "overlop=2"])


def test_one_component_outside_a_recipe():
    assert config.choose("metrics", {"name": "nsd"}).name == "nsd"
    with pytest.raises(Refusal, match="did you mean 'nsd'"):
        config.choose("metrics", "nsb")


def test_settings_of_dicom_alone():
    settings = DicomSettings(select=SeriesRules(must=Conditions(modality="CT")))
    made = config.changed(settings, ["select.must.slices=[40, null]", "gap_mm=5"], key="dicom.")
    assert (made.gap_mm, made.select.must.slices, made.select.must.modality) == (5, (40, None), ("CT",))
    with pytest.raises(Refusal, match=r"--set: found dicom\.gap_m: no such key; did you mean 'gap_mm'"):
        config.changed(settings, ["gap_m=5"], key="dicom.")
    assert config.changed(DicomSettings(), ["select.must.modality=[MR, CT]"]).select.must.modality == ("MR", "CT")


def test_an_output_with_options():
    assert config.output("nifti").name == "nifti"
    made = config.output("dicom_seg:series_number=400,series_description=Liver, venous, series_number=401")
    assert made.options.series_number == 401 and made.options.series_description == "Liver, venous"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dicom_sge", "output.name: no outputs component 'dicom_sge'; did you mean 'dicom_seg'"),
        ("dicom_seg:series_nummer=4", "output.series_nummer: no such key; did you mean 'series_number'"),
        ("dicom_seg:series_number=four", "output.series_number: found 'four'; input should be a valid integer"),
        ("dicom_seg:series_number", "--output dicom_seg:series_number: found 'series_number' with no '='"),
        ("dicom_seg:name=nifti", "found the option 'name', which no output has"),
        ("nifti:level=3", "output.level: no such key"),
        ("", "output.name: no outputs component ''"),
    ],
)
def test_an_output_with_mistakes(text, message):
    with pytest.raises(Refusal) as refused:
        config.output(text)
    assert message in str(refused.value) and "FORMAT:option=value" in str(refused.value)


def test_settings_that_do_not_fit_one_another_are_one_sentence():
    data = {"name": "x", "dataset": {"name": "none"}, "model": {"name": "swin_unet", "img_size": 100}}
    with pytest.raises(Refusal) as refusal:
        config.parse(data, where="r.yaml")
    assert "  1. model.img_size: 100 is not a multiple of 32 (patch and halvings)\n" in str(refusal.value)
