"""What one word sets, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest

import medseg
from medseg import config
from medseg.engine import quality
from medseg.engine.predict import Predictor
from medseg.labels import LabelTable
from medseg.refusal import Refusal
from tests import tiny
from tests.tiny import medseg_command

PLAIN = LabelTable.of({"liver": 1, "spleen": 2})
SIDED = LabelTable.of({"kidney_left": 1, "kidney_right": 2})


def recipe(tmp_path: Path, *changes: str) -> config.Recipe:
    return config.load(tiny.recipe(tmp_path / "recipe.yaml", tmp_path), changes)


def test_standard_is_the_recipe(tmp_path):
    made = recipe(tmp_path, "predict.overlap=0.6", "predict.mirror=[left-right]", "augment.mirror=[anterior-posterior]")
    assert quality.settings("standard", made, SIDED) == made.predict
    assert quality.runs("standard", [Path("a"), Path("b")]) == [Path("a"), Path("b")]


def test_fast_overlaps_less_mirrors_nothing_and_takes_one_run(tmp_path):
    made = recipe(tmp_path, "predict.overlap=0.6", "predict.mirror=[left-right]", "predict.batch=3")
    found = quality.settings("fast", made, PLAIN)
    assert (found.overlap, found.mirror, found.batch, found.fit_body) == (0.25, (), 3, True)
    assert not made.predict.fit_body and not quality.settings("best", made, PLAIN).fit_body
    assert quality.settings("fast", recipe(tmp_path, "predict.overlap=0.1"), PLAIN).overlap == 0.1
    assert quality.runs("fast", [Path("a"), Path("b")]) == [Path("a")]


def test_best_overlaps_at_least_by_half_and_mirrors_as_training_did(tmp_path):
    axes = "augment.mirror=[left-right, anterior-posterior]"
    found = quality.settings("best", recipe(tmp_path, "predict.overlap=0.3", axes), PLAIN)
    assert (found.overlap, found.mirror) == (0.5, ("left-right", "anterior-posterior"))
    assert quality.settings("best", recipe(tmp_path, "predict.overlap=0.7"), PLAIN).overlap == 0.7
    assert quality.settings("best", recipe(tmp_path, "predict.mirror=[inferior-superior]", axes), PLAIN).mirror == (
        "inferior-superior",
        "left-right",
        "anterior-posterior",
    )
    assert quality.runs("best", [Path("a"), Path("b")]) == [Path("a"), Path("b")]


@pytest.mark.parametrize("name", ["kidney_left", "Left lung", "lung-RIGHT", "right"])
def test_left_and_right_never_change_places(tmp_path, name):
    axes = recipe(tmp_path, "augment.mirror=[left-right, anterior-posterior]")
    assert quality.settings("best", axes, LabelTable.of({name: 1, "x": 2})).mirror == ("anterior-posterior",)


@pytest.mark.parametrize("name", ["cleft", "brightness", "leftover"])
def test_not_every_word_with_left_in_it_is_a_side(tmp_path, name):
    axes = recipe(tmp_path, "augment.mirror=[left-right]")
    assert quality.settings("best", axes, LabelTable.of({name: 1, "x": 2})).mirror == ("left-right",)


def test_what_is_set_by_hand_comes_after_the_quality(tmp_path):
    folders = [tiny.untrained_run(tmp_path / name / "run", seed=seed).folder for seed, name in enumerate("ab")]
    fast = Predictor.load(folders, device="cpu", quality="fast", changes=["overlap=0.4"])
    assert fast.settings.overlap == 0.4 and len(fast.members) == 1 and fast.provenance["quality"] == "fast"
    best = Predictor.load(folders, device="cpu", quality="best")
    assert len(best.members) == 2 and best.provenance["quality"] == "best"
    assert "quality" not in Predictor.load(folders, device="cpu").provenance


def test_a_quality_that_there_is_not_is_refused(tmp_path):
    assert medseg_command("predict", "run", "scan", tmp_path / "out", "--quality", "finest").code == 2
    with pytest.raises(Refusal, match="found 'Fast'; needed fast, standard or best"):
        medseg.predict("run", "scan", quality="Fast")  # type: ignore[arg-type]
