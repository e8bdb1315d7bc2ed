"""Fine-tuning with the real command line: a model learns from corrected cases, and the outcome is a model."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from medseg import config
from medseg.engine.run import Run
from medseg.readers import read
from MedSegLib import cases, training
from MedSegLib.cases import Correction
from MedSegLib.trouble import Trouble
from MedSegLib.work import CANCELLED, DONE, FAILED, Line, Progress
from tests import tiny
from tests.slicer import corrected

PROGRAM = (sys.executable, "-m", "medseg")
CHANNELS = ("T1", "FLÄIR")
REGIONS = {"whole": [1, 2], "core": [2]}
SOON_S = 2.0


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / corrected.ODD
    folder.mkdir()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tiny.ROOT)  # the processes find medseg there: of PYTHONPATH nothing reaches them
    return folder


def beginning(place: Path) -> Path:
    """A model of two channels whose labels overlap."""
    return tiny.untrained_run(place / "begin" / "run", channels=CHANNELS, labels=REGIONS).folder  # type: ignore[arg-type]


def corrected_cases(place: Path, run: Path, patients: tuple[str, ...] = ("p1", "p2", "p2")) -> Path:
    """Balls, drawn in Slicer: case a of the first patient, b of the next, and so on."""
    model = corrected.model(run)
    for seed, patient in enumerate(patients):
        voxels, label = tiny.phantom(seed)
        images = [(channel, corrected.scan(place / f"{n}.nrrd", voxels)) for n, channel in enumerate(model.channels)]
        labels = corrected.segmentation(place / "labels.seg.nrrd", {"whole": label > 0, "core": label == 2})
        cases.save_case(place / "data", Correction(images, labels, case="abc"[seed], patient=patient), model)
    return place / "data"


def lines(heard: list) -> list[str]:
    return [event.text for event in heard if isinstance(event, Line)]


def test_a_model_learns_from_cases_is_stopped_and_goes_on(place: Path) -> None:
    start = beginning(place)
    data, out = corrected_cases(place, start), place / "runs" / "besser"
    how = {"epochs": 3, "steps": 2, "device": "cpu"}
    run = training.fine_tune(PROGRAM, start, data, out, **how)  # type: ignore[arg-type]
    limit, seen = time.monotonic() + corrected.PATIENCE_S, []
    while "epoch 1 of 3" not in str(seen) and time.monotonic() < limit:
        seen += run.poll()
        time.sleep(0.02)
    began = time.monotonic()
    run.cancel()
    outcome, _ = corrected.ended(run)
    assert outcome.state == CANCELLED and time.monotonic() - began < SOON_S
    tensors = len(Run(start).build().state_dict())
    assert any(f"init: {tensors} of {tensors} tensors from" in text for text in lines(seen))
    assert (out / "last.safetensors").exists() and (out / ".medseg-cache").is_dir()
    with (out / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"epoch": 2, "lo')  # as of a machine that lost its power

    model = corrected.model(start)
    scans = [(channel, place / f"{n}.nrrd") for n, channel in enumerate(CHANNELS)]
    cases.save_case(data, Correction(scans, place / "labels.seg.nrrd", case="later", patient="p3"), model)
    outcome, heard = corrected.ended(training.fine_tune(PROGRAM, start, data, out, **how))  # type: ignore[arg-type]
    assert outcome.state == DONE, outcome
    assert "Saved since it began, and not in it: later. A new training takes them in." in lines(heard)
    assert any("after epoch " in text and "epoch 0" not in text for text in lines(heard)[:1])
    percents = [event.percent for event in heard if isinstance(event, Progress)]
    assert percents == sorted(percents) and percents[-1] == 100
    assert any(event.stage.startswith("epoch 3 of 3, Dice ") for event in heard if isinstance(event, Progress))
    assert outcome.facts["run"] == out and 0 <= outcome.facts["dice"] <= 1
    assert not list(place.rglob(".medseg-cache"))  # the scans that were prepared for it

    before, after = Run(start), Run(out)
    same = {"normalisation", "spacing_mm", "patch", "orientation", "crop", "order", "channels"}
    assert before.plan.model_dump(include=same) == after.plan.model_dump(include=same)
    assert after.table == before.table and after.recipe.name == "besser"
    fold = after.read("split.json")["folds"][0]
    assert sorted([fold["train"], fold["validation"]]) == [["a"], ["b", "c"]]  # no patient on both sides
    assert outcome.facts["validated"] == fold["validation"] and outcome.facts["unseen"]
    given = [word for channel, path in scans for word in ("--channel", f"{channel}={path}")]
    said = tiny.medseg_command("predict", out, *given, place / "result", "--device", "cpu")
    assert said.code == 0, said.err
    result = next((place / "result").glob("*.nii.gz"))
    assert read(result).array.shape[1:] == tiny.SHAPE

    (out / ".medseg-cache").mkdir()  # it had been cancelled just before the end
    (out / ".medseg-cache" / "scan").write_bytes(b"voxels")
    again = corrected.ended(training.fine_tune(PROGRAM, start, data, out, **how))[0]  # type: ignore[arg-type]
    assert "The training in besser is complete." in str(again.failure)
    assert not (out / ".medseg-cache").exists()


def test_cases_that_do_not_fit_are_told_before_anything_is_trained(place: Path) -> None:
    start = beginning(place)
    data = corrected_cases(place, start)
    corrected.scan(data / "labels" / "b.nrrd", np.full(tiny.SHAPE, 7, np.uint8))
    outcome, _ = corrected.ended(training.fine_tune(PROGRAM, start, data, place / "out", device="cpu"))
    assert outcome.state == FAILED and outcome.failure
    assert outcome.failure.what.startswith("Case b: unknown labels: found 7") and outcome.failure.code == "cases"
    assert not (place / "out").exists()


def test_the_recipe_is_the_models_own_but_for_what_few_cases_need(place: Path) -> None:
    start = beginning(place)
    data = corrected_cases(place, start)
    words = training.recipe_words(start, data, place / "neu", epochs=20, steps=50, device="cpu")
    made, before = config.load(Path(words[0]), words[1:]), Run(start)
    assert made.model == before.recipe.model and made.loss == before.recipe.loss
    assert made.augment == before.recipe.augment and made.predict == before.recipe.predict
    assert made.init and (made.init.weights, made.init.heads) == (start, "load")
    assert made.prepare.normalisation == before.plan.normalisation
    assert (made.prepare.patch, made.prepare.spacing_mm) == (before.plan.patch, before.plan.spacing_mm)
    assert made.dataset.options.channels == CHANNELS  # type: ignore[attr-defined]
    assert (made.train.epochs, made.train.steps, made.train.warmup_steps) == (20, 50, 50)
    assert made.train.layer_decay < 1 and made.train.lr < 1e-3 and made.split.kind == "holdout"


def test_one_patient_alone_is_on_both_sides_which_is_stamped(place: Path) -> None:
    start = beginning(place)
    data = corrected_cases(place, start, ("p1", "p1"))
    words = training.recipe_words(start, data, place / "neu", epochs=1, steps=1, device="cpu")
    assert config.load(Path(words[0]), words[1:]).split.kind == "none"


def test_what_goes_on_is_as_it_was_however_many_cases_were_saved_since(place: Path) -> None:
    start, out = beginning(place), place / "neu"
    data = corrected_cases(place, start, ("p1",))
    how = {"epochs": 1, "steps": 1, "device": "cpu"}
    first = training.recipe_words(start, data, out, **how)  # type: ignore[arg-type]
    before = config.load(Path(first[0]), first[1:])
    out.mkdir()
    (out / "recipe.yaml").write_text(config.dump(before), encoding="utf-8")
    (out / "split.json").write_text("{}", encoding="utf-8")
    scans = [(channel, place / f"{n}.nrrd") for n, channel in enumerate(CHANNELS)]
    for n in range(training.FEW):  # with one more, several processes prepare; with a second patient, one is held back
        cases.save_case(
            data, Correction(scans, place / "labels.seg.nrrd", case=f"later{n}", patient="p2"), corrected.model(start)
        )
    again = training.recipe_words(start, data, out, **how)  # type: ignore[arg-type]
    assert config.dump(config.load(Path(again[0]), again[1:])) == config.dump(before)
    new = training.recipe_words(start, data, place / "newer", **how)  # type: ignore[arg-type]
    made = config.load(Path(new[0]), new[1:])
    assert (made.split.kind, before.split.kind) == ("holdout", "none")
    assert (made.prepare.workers, before.prepare.workers) == ("auto", 0)


def test_what_cannot_be_trained_further(place: Path) -> None:
    start = beginning(place)
    how = {"epochs": 1, "steps": 1, "device": "cpu"}
    with pytest.raises(Trouble, match="no case yet"):
        training.recipe_words(start, place / "data", place / "out", **how)  # type: ignore[arg-type]
    data = corrected_cases(place, start)
    other = tiny.untrained_run(place / "other" / "run", channels=CHANNELS).folder
    with pytest.raises(
        Trouble, match=r"for other labels \(whole \[1, 2\], core \[2\]\) than the model's \(left 1, right 2"
    ):
        training.recipe_words(other, data, place / "out", **how)  # type: ignore[arg-type]
    (data / "channels.json").write_text('["T2", "FLAIR"]', encoding="utf-8")
    with pytest.raises(Trouble, match=r"other channels \(T2, FLAIR\) than the model's \(T1, FLÄIR\)"):
        training.recipe_words(start, data, place / "out", **how)  # type: ignore[arg-type]
    outcome, _ = corrected.ended(training.fine_tune(PROGRAM, start, data, start))
    assert "into its own folder" in str(outcome.failure)
    (start / "plan.json").unlink()
    with pytest.raises(Trouble, match="lacks its recipe or its plan"):
        training.recipe_words(start, data, place / "out", **how)  # type: ignore[arg-type]


def test_a_program_that_is_gone(place: Path) -> None:
    start = beginning(place)
    data = corrected_cases(place, start)
    outcome, _ = corrected.ended(training.fine_tune([str(place / "gone")], start, data, place / "out"))
    assert outcome.state == FAILED and "could not be started" in str(outcome.failure)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_scans_of_another_kind_are_learned_from_three(place: Path) -> None:
    """Minutes: `pytest -m slow tests/slicer/test_training.py`. A model that knows a dark ball meets a bright one."""
    recipe = tiny.recipe(place / "recipe.yaml", tiny.data_set(place / "first"))
    changes = ("train.epochs=6", "train.steps=40", "model.channels=[8,16]", "train.validate_every=3")
    said = tiny.medseg_command("train", recipe, *changes, "--out", place / "begin")
    assert said.code == 0, said.err
    model = corrected.model(place / "begin")
    for seed in range(3):
        voxels, label = other_contrast(seed)
        images = [(model.channels[0], corrected.scan(place / "scan.nrrd", voxels))]
        masks = {"left": label == 1, "right": label == 2}
        labels = corrected.segmentation(place / "labels.seg.nrrd", masks)
        cases.save_case(place / "data", Correction(images, labels, case=f"c{seed}"), model)
    run = training.fine_tune(PROGRAM, place / "begin", place / "data", place / "after", epochs=8, device="cpu")
    outcome, _ = corrected.ended(run, patience_s=3000)
    assert outcome.state == DONE, outcome
    assert worst_dice(place, "begin") < 0.1 and worst_dice(place, "after") > 0.5


def other_contrast(seed: int) -> tuple[np.ndarray, np.ndarray]:
    voxels, label = tiny.phantom(seed)
    noise = np.random.default_rng(seed).normal(0, 60, voxels.shape)
    return (400 * np.tanh(voxels / 900) + noise + 250 * (label == 2)).astype(np.int16), label


def worst_dice(place: Path, run: str) -> float:
    """Of both balls, in two scans that nobody has seen."""
    found = []
    for seed in (50, 51):
        voxels, label = other_contrast(seed)
        scan, out = corrected.scan(place / f"{seed}.nrrd", voxels), place / f"{run}-{seed}"
        tiny.medseg_command("predict", place / run, scan, out, "--device", "cpu")
        made = read(next(out.glob("*.nii.gz"))).array[0]
        for number in (1, 2):
            one, other = made == number, label == number
            found.append(2 * (one & other).sum() / (one.sum() + other.sum()))
    return float(min(found))


@pytest.mark.parametrize("stamp", ["", "not an estimate of generalisation: init.weights have learned from 1"])
def test_whom_the_first_weights_had_seen_are_not_called_unseen(tmp_path: Path, stamp: str) -> None:
    fold = {"train": ["a"], "validation": ["b"]}
    (tmp_path / "split.json").write_text(json.dumps({"stamp": stamp, "fold": 0, "folds": [fold]}), encoding="utf-8")
    assert training._facts(tmp_path)["unseen"] == (not stamp)
