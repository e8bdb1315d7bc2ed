"""Fine-tuning with the real command line: a model learns from corrected cases, and the outcome is a model."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from medseg import config
from medseg.engine.run import Run
from medseg.readers import read
from MedSegLib import cases, training
from MedSegLib.work import DONE, Line, Progress
from tests import tiny
from tests.slicer import corrected

PROGRAM = (sys.executable, "-m", "medseg")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / corrected.ODD
    folder.mkdir()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tiny.ROOT)  # the processes find medseg there: of PYTHONPATH nothing reaches them
    return folder


def corrected_cases(place: Path, run: Path, names: tuple[str, ...] = ("a", "b", "c")) -> Path:
    """Balls, drawn in Slicer; the last two are of one patient."""
    model = corrected.model(run)
    for seed, name in enumerate(names):
        voxels, label = tiny.phantom(seed)
        images = [(channel, corrected.scan(place / f"{n}.nrrd", voxels)) for n, channel in enumerate(model.channels)]
        masks = {one.name: label == n for n, one in enumerate(model.labels, start=1)}
        if len(masks) == 3:  # regions: the largest holds the others
            masks = dict(zip(masks, (label > 0, label > 0, label == 2), strict=True))
        labels = corrected.segmentation(place / "labels.seg.nrrd", masks)
        cases.save_case(place / "data", name, "" if seed == 0 else "twice", images, labels, model)
    return place / "data"


def test_a_model_is_trained_further_and_predicts(place: Path) -> None:
    start = tiny.untrained_run(place / "begin" / "run", channels=("CT",)).folder
    data, out = corrected_cases(place, start), place / "runs" / "besser"
    outcome, heard = corrected.ended(training.fine_tune(PROGRAM, start, data, out, epochs=2, steps=2, device="cpu"))
    assert outcome.state == DONE, outcome
    assert outcome.facts["run"] == out and outcome.facts["unseen"] and 0 <= outcome.facts["dice"] <= 1
    percents = [event.percent for event in heard if isinstance(event, Progress)]
    assert percents == sorted(percents) and percents[-1] == 100
    assert any("epoch 2 of 2, Dice" in event.stage for event in heard if isinstance(event, Progress))
    before, after = Run(start), Run(out)
    same = {"normalisation", "spacing_mm", "patch", "orientation", "crop", "channels"}
    assert before.plan.model_dump(include=same) == after.plan.model_dump(include=same)
    assert after.table == before.table and after.recipe.name == "besser"
    split = after.read("split.json")["folds"][0]
    assert {"b", "c"} in (set(split["train"]), set(split["validation"]))  # one patient, one side
    scan = place / "0.nrrd"
    said = tiny.medseg_command("predict", out, scan, place / "result", "--device", "cpu")
    assert said.code == 0, said.err
    assert read(place / "result" / "0.nii.gz").array.shape[1:] == tiny.SHAPE


def test_it_begins_from_the_models_weights(place: Path) -> None:
    start = tiny.untrained_run(place / "begin" / "run", channels=("CT",)).folder
    data = corrected_cases(place, start)
    words = training.recipe_words(start, data, place / "out", epochs=1, steps=1, device="cpu")
    recipe = config.load(Path(words[0]), words[1:])
    assert recipe.init and recipe.init.weights == start and recipe.init.heads == "load"
    outcome, heard = corrected.ended(
        training.fine_tune(PROGRAM, start, data, place / "out", epochs=1, steps=1, device="cpu")
    )
    assert outcome.state == DONE, outcome
    told = next(event.text for event in heard if isinstance(event, Line) and event.text.startswith("init: "))
    tensors = len(list(Run(start).build().state_dict()))
    assert f"init: {tensors} of {tensors} tensors" in told and "stay random" not in told
