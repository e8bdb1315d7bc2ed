"""`precision: auto` takes bf16 where a run's own labels have shown that they stay the same, and says why."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image

from medseg.config import PredictSettings
from medseg.data.cache import PreparedCase, open_case
from medseg.engine import checkpoint, device, precision
from medseg.engine.agreement import OfClasses, OfLabels
from medseg.engine.predict import Predictor
from medseg.engine.run import Run, export
from medseg.engine.scans import single
from medseg.engine.train import train
from medseg.engine.validate import dice_sums
from medseg.labels import LabelTable
from medseg.refusal import Refusal
from medseg.transforms.prepare import Undo
from tests import tiny

CPU = torch.device("cpu")
NAMED = LabelTable.of({"left": 1, "right": 2, "spare": 3})
CLASSES = LabelTable.classes({"benign": 0, "malign": 1})
IMAGE = np.random.default_rng(0).normal(0, 0.3, (1, 12, 10, 9)).astype(np.float32)


@pytest.fixture(autouse=True)
def bf16(monkeypatch):
    """As on a CPU that has the instructions; without them, torch computes the same numbers slowly."""
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)


def made(folder: Path, **options: object) -> Run:
    """A run of `tests.near_ties`."""
    return tiny.untrained_run(folder, changes=[f"model={json.dumps({'name': 'tests.near_ties', **options})}"])


def settled(run: Run, images: int = 1, image: np.ndarray = IMAGE) -> precision.Evidence:
    shown = {f"case {number}": lambda: image for number in range(images)}
    return precision.settle(run, shown, device=CPU, announce=lambda text: None)


@pytest.mark.parametrize(("offset", "verdict"), [(0, "bf16"), (256, "32")])
def test_a_run_is_pinned_by_what_bf16_does_to_its_labels(tmp_path, offset, verdict):
    run, told = made(tmp_path / "run", offset=offset), []
    precision.settle(run, {"a": lambda: IMAGE, "b": lambda: -IMAGE}, device=CPU, announce=told.append)
    evidence = json.loads(run.path("precision.json").read_text())
    assert evidence["verdict"] == verdict == run.plan.inference_precision == Run(run.folder).plan.inference_precision
    assert evidence["cases"] == ["a", "b"] and evidence["answers"] == 2 * 12 * 10 * 9
    assert evidence["weights_sha256"] == run.load_network()[1] and evidence["machine"]["torch"] == torch.__version__
    assert set(evidence["seconds"]) == {"32", "bf16"}
    assert [one["dice"] == 1 for one in evidence["labels"].values()] == [offset == 0] * 2
    assert told == [f"precision {verdict}: {evidence['reason']}"]
    assert "case" not in evidence["reason"].replace("over 2 cases", "")  # which may name people; the card travels
    assert f"{verdict}: {evidence['reason']}" in run.path("card.md").read_text()


def test_the_pin_reaches_the_network_also_from_a_zip_and_can_be_overruled(tmp_path):
    """Pinned by hand on a network whose labels are lost in bf16, so that the labels tell what ran."""
    run = made(tmp_path / "run", offset=1024)
    scan = tiny.nifti(tmp_path / "s.nii.gz", (IMAGE[0] * 1000).astype(np.int16))
    run.pin_precision("bf16")
    export(run, tmp_path / "run.zip")
    seen = {}
    for model, words in ((run.folder, ()), (tmp_path / "run.zip", ()), (run.folder, ("--set", "precision=32"))):
        out = tmp_path / f"out{len(seen)}"
        assert tiny.medseg_command("predict", model, scan, out, "--device", "cpu", *words).code == 0
        said = json.loads((out / "predict.json").read_text())
        seen[out] = (said["provenance"]["precision"], sum(said["cases"][0]["facts"]["volume_ml"].values()))
    pinned, zipped, forced = seen.values()
    assert pinned == zipped == ("bf16 (pinned in the plan)", 0)
    assert forced[0] == "32 (as the settings say)" and forced[1] > 4


def test_what_auto_comes_to(monkeypatch):
    chosen = partial(precision.chosen, device=CPU)
    assert chosen("auto", ["bf16", "bf16"]) == ("bf16", "pinned in the plan")
    assert chosen("auto", ["bf16", "32"]) == chosen("auto", ["32", None]) == ("32", "pinned in the plan")
    assert chosen("auto", ["bf16", None]) == ("32", "nothing is pinned in the plan")
    assert chosen("16", ["32"]) == ("16", "as the settings say")
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert chosen("auto", ["bf16"])[0] == "32" and "this cpu has no instructions" in chosen("auto", ["bf16"])[1]


def test_a_machine_without_bf16_pins_nothing_but_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    run = made(tmp_path / "run")
    evidence = settled(run, image=None)  # the image is not touched
    assert (
        evidence.verdict is None and "not tried" in evidence.reason and Run(run.folder).plan.inference_precision is None
    )
    assert "32: bf16 was not tried" in run.path("card.md").read_text()
    assert Predictor.load([run.folder], device="cpu").settings.precision == "32"


def test_a_machine_without_bf16_leaves_a_proof_as_it_is(tmp_path, monkeypatch):
    run = made(tmp_path / "run")
    before = settled(run)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert settled(Run(run.folder)) == before and Run(run.folder).plan.inference_precision == "bf16"


def test_a_run_without_a_card_yet(tmp_path):
    run = made(tmp_path / "run")
    run.path("card.md").unlink()
    assert settled(run).verdict == "bf16" and not run.path("card.md").exists()


def test_without_cases_nothing_is_pinned(tmp_path):
    assert settled(made(tmp_path / "run"), images=0).verdict is None


def test_a_plan_from_before_opens(tmp_path):
    run = made(tmp_path / "run")
    plan = run.read("plan.json")
    del plan["inference_precision"]
    run.write("plan.json", plan)
    predictor = Predictor.load([run.folder], device="cpu")
    assert predictor.settings.precision == "32" and "nothing is pinned" in predictor.provenance["precision"]


def test_a_network_that_breaks_in_bf16(tmp_path):
    evidence = settled(made(tmp_path / "run", breaks=True))
    assert evidence.verdict == "32" and "not finite" in evidence.reason
    with pytest.raises(Refusal, match="not finite"):  # in float32 too: then the weights are of no use
        settled(made(tmp_path / "other" / "run"), image=IMAGE * np.inf)


def test_only_some_cases_are_looked_at(tmp_path):
    assert settled(made(tmp_path / "run"), images=7).cases == tuple(f"case {number}" for number in range(5))


@pytest.mark.parametrize(("offset", "verdict"), [(0, "bf16"), (256, "32")])
def test_classifiers_are_judged_by_their_decisions(tmp_path, offset, verdict):
    run = made(tmp_path / "run", offset=offset, classifies=True)
    run.write("labels.json", CLASSES.to_json())
    network = Run(run.folder).build()
    checkpoint.save(run.path("weights.safetensors"), network.state_dict(), {})
    evidence = settled(Run(run.folder), images=7, image=np.abs(IMAGE))
    assert (evidence.verdict, evidence.answers) == (verdict, 7) and "7 images" in evidence.reason
    assert evidence.labels["malign"]["changed"] == (0 if offset == 0 else 7)


def label_maps(wrong: dict[int, int], size: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Two targets of the labels 1 and 2, with `size` voxels each; of `wrong` label, so many lie elsewhere in the
    second."""
    full = np.repeat([0, 1, 2, 0], size).astype(np.uint8).reshape(1, -1, 1, 1)
    half = full.copy()
    for label, count in wrong.items():
        half[0, label * size : label * size + count] = 0
        half[0, :count] = label
    return full, half


@pytest.mark.parametrize(("wrong", "verdict"), [({}, "bf16"), ({2: 1}, "bf16"), ({2: 2}, "32"), ({1: 2}, "32")])
def test_every_label_must_reach_the_bar(wrong, verdict):
    """Of 200 voxels, 199 in common are a Dice of 0.995 exactly."""
    comparison = OfLabels(NAMED)
    comparison.add(*label_maps(wrong))
    found = comparison.outcome()
    assert found["verdict"] == verdict and found["absent"] == ("spare",)
    assert ("every label found (2 of 3)" in found["reason"]) == (verdict == "bf16")
    assert {name: one["dice"] for name, one in found["labels"].items()} == {
        "left": 1 - wrong.get(1, 0) / 200,
        "right": 1 - wrong.get(2, 0) / 200,
    }
    assert ("0.9900 for" in found["reason"]) == (verdict == "32")


def test_cases_count_by_their_voxels_and_the_worst_is_told():
    comparison = OfLabels(NAMED)
    comparison.add(*label_maps({}, size=1000))
    comparison.add(*label_maps({1: 1}, size=4))
    found = comparison.outcome()
    assert found["verdict"] == "bf16" and found["labels"]["left"]["dice"] == 1 - 1 / 1004
    assert found["labels"]["left"]["lowest_dice_of_a_case"] == 3 / 4 and found["labels"]["right"]["voxels"] == 1004


def test_without_a_label_anywhere_there_is_no_proof():
    comparison = OfLabels(NAMED)
    comparison.add(*[np.zeros((1, 4, 4, 4), np.uint8)] * 2)
    found = comparison.outcome()
    assert found["verdict"] == "32" and "no label was found over 1 case" in found["reason"] and not found["labels"]


def test_a_label_that_one_format_alone_finds_is_not_absent():
    comparison = OfLabels(NAMED)
    full, half = label_maps({})
    half[0, 0] = 3
    comparison.add(full, half)
    assert comparison.outcome()["labels"]["spare"]["dice"] == 0


@pytest.mark.parametrize(
    ("half", "verdict"),
    [
        ([[0.60, 0.2], [0.40, 0.8]], "bf16"),
        ([[0.609, 0.2], [0.391, 0.8]], "bf16"),
        ([[0.62, 0.2], [0.38, 0.8]], "32"),
    ],
)
def test_probabilities_of_classes_must_stay(half, verdict):
    comparison = OfClasses(CLASSES)
    comparison.add(np.array([[0.6, 0.2], [0.4, 0.8]]), np.array(half))
    assert comparison.outcome()["verdict"] == verdict


def test_decisions_must_stay_however_near_the_probabilities():
    comparison = OfClasses(LabelTable.classes({"a": 1, "b": 2}, exclusive=False))
    comparison.add(np.array([[0.501, 0.1], [0.9, 0.1]]), np.array([[0.499, 0.1], [0.9, 0.1]]))
    found = comparison.outcome()
    assert found["verdict"] == "32" and [one["changed"] for one in found["labels"].values()] == [1, 0]


@settings(deadline=None)  # a busy machine is no failure
@given(some.lists(some.lists(some.integers(0, 2), min_size=4, max_size=4), max_size=8))
def test_few_cases_show_all_labels(voxels):
    cases = [PreparedCase(str(number), None, None, None, {}, tuple(one)) for number, one in enumerate(voxels)]
    ordered = precision.telling(cases)
    assert sorted(case.id for case in ordered) == [case.id for case in cases]
    assert np.array_equal(np.any([case.voxels for case in ordered[:4]], axis=0), np.any(voxels, axis=0))
    counts = [sum(map(bool, case.voxels)) for case in ordered]
    assert counts[:1] == [max(counts)] if counts else ordered == []


def test_validation_while_training_keeps_32(tmp_path):
    run = made(tmp_path / "run", offset=256)
    run.pin_precision("bf16")
    truth = np.where(IMAGE > 0, 2, 1).astype(np.uint8)
    case = PreparedCase("x", IMAGE, truth, Undo.nothing(IMAGE.shape[1:]), {}, (1, 1))
    network, _ = run.load_network()
    sums = {
        wanted: dice_sums(
            network, [case], plan=run.plan, table=run.table, settings=PredictSettings(precision=wanted), device=CPU
        )
        for wanted in ("auto", "32", "bf16")
    }
    assert sums["auto"].tolist() == sums["32"].tolist() != sums["bf16"].tolist()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """Recipe and run."""
    root = tmp_path_factory.mktemp("trained")
    recipe = tiny.recipe(root / "recipe.yaml", tiny.data_set(root / "data"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
        train(tiny.config.load(recipe), root / "run", announce=lambda text: None)
    return recipe, root / "run"


def test_training_ends_with_it_and_again_gives_the_same(trained):
    recipe, folder = trained
    names = ("plan.json", "precision.json", "card.md")
    before = {name: (folder / name).read_bytes() for name in names}
    evidence = Run(folder).parsed("precision.json", precision.Evidence)
    assert evidence.verdict == Run(folder).plan.inference_precision != None  # noqa: E711
    assert list(evidence.cases) == Run(folder).read("split.json")["folds"][0]["validation"]
    train(tiny.config.load(recipe), folder, announce=lambda text: None)
    assert {name: (folder / name).read_bytes() for name in names} == before  # seconds too: it was not done again


def test_raw_scans_show_what_the_prepared_ones_do(trained):
    recipe, folder = trained
    run, predictor = Run(folder), Predictor.load([folder], device="cpu")
    before = run.parsed("precision.json", precision.Evidence)
    [name] = before.cases
    image = partial(predictor.prepared, single(recipe.parent / "data" / "images" / f"{name}.nii.gz", ("image",)))
    [place] = (recipe.parent / "cache").glob(f"{name}-*")
    np.testing.assert_array_equal(image(), open_case(place).image)
    after = precision.settle(run, {name: image}, device=CPU, announce=lambda text: None)
    assert after.labels == before.labels and after.reason == before.reason


def test_raw_photographs_come_with_their_centre_and_the_pixels_that_count(tmp_path):
    generator = np.random.default_rng(0)
    for name, picture in (("eye", generator.integers(0, 256, (20, 24, 3))), ("mask", np.tri(20, 24, dtype=int) * 255)):
        Image.fromarray(picture.astype(np.uint8)).save(tmp_path / f"{name}.png")
    channels = ("red", "green", "blue")
    predictor = Predictor.load([tiny.untrained_run(tmp_path / "run", channels=channels).folder], device="cpu")
    changes = {"steps": ("fundus_enhance",), "centres": ("A", "B"), "spacing_mm": "native", "unit": "px"}
    plan = predictor.plan.model_copy(update=changes)
    predictor = replace(predictor, members=(replace(predictor.members[0], plan=plan),))
    case = replace(single(tmp_path / "eye.png", channels), centre="B")
    image, masked = (predictor.prepared(one) for one in (case, replace(case, valid=tmp_path / "mask.png")))
    assert image.shape == masked.shape and not np.array_equal(image, masked)
    assert not image[3].any() and image[4].all()


def test_weights_that_changed_are_looked_at_anew(trained, tmp_path):
    recipe, folder = trained
    before = Run(folder).parsed("precision.json", precision.Evidence)
    stale = before.model_copy(update={"weights_sha256": "0" * 64, "reason": "of other weights"})
    Run(folder).write("precision.json", stale.model_dump(mode="json"))
    train(tiny.config.load(recipe), folder, announce=lambda text: None)
    after = Run(folder).parsed("precision.json", precision.Evidence)
    assert (after.weights_sha256, after.reason) == (before.weights_sha256, before.reason)


def test_a_pin_does_not_outlive_the_weights_it_was_for(trained, monkeypatch):
    """More epochs make other weights; until those are judged, nothing is pinned."""
    recipe, folder = trained
    pins = []
    monkeypatch.setattr(
        "medseg.engine.train.fit.fit", lambda parts, fabric: pins.append(Run(folder).plan.inference_precision) or stop()
    )

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny.config.load(recipe), folder, announce=lambda text: None)
    monkeypatch.undo()
    train(tiny.config.load(recipe), folder, announce=lambda text: None)
    assert pins == [None] and Run(folder).plan.inference_precision


def test_a_format_that_the_recipe_forces_is_not_looked_into(trained, tmp_path):
    loaded = tiny.config.load(trained[0], ["predict.precision=32"])
    run = train(loaded, tmp_path / "run", announce=lambda text: None)
    assert not run.path("precision.json").exists() and run.plan.inference_precision is None


def test_of_a_split_by_slice_only_held_out_slices_are_looked_at(trained, tmp_path):
    changes = [
        *("split={kind: slice, validation: 0.3}", "prepare.patch=[16, 16, 1]", "train.epochs=1"),
        "model={name: tests.near_ties}",
    ]
    run = train(tiny.config.load(trained[0], changes), tmp_path / "run", announce=lambda text: None)
    evidence = run.parsed("precision.json", precision.Evidence)
    whole = np.prod(tiny.SHAPE) * len(tiny.CASES)
    assert len(evidence.cases) == 4 and 0.15 * whole < evidence.answers < 0.5 * whole


@pytest.mark.parametrize("native", [True, False])
def test_on_cuda_emulated_bf16_does_not_count(monkeypatch, native):
    monkeypatch.setattr(torch.cuda, "device", lambda which: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda which: "some card")
    assert device.has_bf16(torch.device("cuda")) == native and not device.has_bf16(torch.device("mps"))
    assert device.described(torch.device("cuda"))["name"] == "some card"
