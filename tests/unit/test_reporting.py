"""What a report says of a run's split: whether a patient stands on both sides, as far as that can be known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from medseg.engine import journal, reporting
from medseg.engine.run import Run
from medseg.engine.score import Score
from medseg.engine.scores import Scores
from medseg.metrics import Number
from tests.tiny import data_set, recipe, untrained_run

ROW = {"case": "p1_a", "patient": "p1", "label": "left", "dice": 0.5}
APART = {"train": ["p2_a", "p3_a"], "validation": ["p1_a", "p1_b"]}
LEAKING = {"train": ["p1_a", "p2_a"], "validation": ["p1_b"]}


def run(folder: Path, fold: dict[str, list[str]], *, kind: str = "kfold", stamp: str = "") -> Run:
    """A run on a data set that is there."""
    made = untrained_run(folder / "run")
    data = data_set(folder / "data")
    recipe(folder / "run" / "recipe.yaml", data)
    split = {"kind": kind, "stamp": stamp, "seed": 0, "fold": 0, "folds": [fold]}
    (folder / "run" / "split.json").write_text(json.dumps(split), encoding="utf-8")
    return Run(made.folder)


def test_a_split_by_patient_has_nobody_on_both_sides(tmp_path: Path) -> None:
    assert reporting._leaks(run(tmp_path, APART)) == {
        "divided": "by patient",
        "cases on both sides": "none",
        "patients": "2 to train, 1 to validate",
        "patients on both sides": "none",
    }


def test_a_patient_on_both_sides_is_named(tmp_path: Path) -> None:
    found = reporting._leaks(run(tmp_path, LEAKING, kind="none", stamp="not an estimate of generalisation"))
    assert found["divided"] == "not by patient (none)" and found["patients on both sides"] == "1: p1"
    assert found["stamp"] == "not an estimate of generalisation"


def test_without_the_data_nothing_is_claimed(tmp_path: Path) -> None:
    made = run(tmp_path, APART)
    (tmp_path / "data" / "images" / "p1_b.nii.gz").unlink()
    (tmp_path / "data" / "labels" / "p1_b.nii.gz").unlink()
    rows = (tmp_path / "data" / "patients.csv").read_text().replace("p1_b,p1\n", "")
    (tmp_path / "data" / "patients.csv").write_text(rows)
    assert reporting._leaks(made)["patients on both sides"].startswith("not checked: the data set has no case p1_b")
    shutil.rmtree(tmp_path / "data")
    assert reporting._leaks(made)["patients on both sides"] == "not checked: the data set is not here"


@pytest.mark.parametrize("scored", [True, False])
def test_card_and_leak_check_are_in_reports_with_numbers(tmp_path: Path, scored: bool) -> None:
    made = run(tmp_path, APART)
    (made.folder / "card.md").write_text("# The card\n\nOf **no** use.\n", encoding="utf-8")
    reporting.write(made, tmp_path / "page.html", title="t", rows=[ROW] if scored else [])
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert ("<strong>no</strong>" in text) == ("Leak check" in text) == scored
    assert "2: p1_a, p1_b" in text, "validation cases are counted and named"


def test_the_page_of_a_training_tells_the_worst_label_first(tmp_path: Path) -> None:
    made = run(tmp_path, APART)
    early = {"epoch": 1, "loss": 1.0, "dice": 0.5, "dice_per_label": {"left": 0.5, "right": 0.5}}
    late = {"epoch": 2, "loss": 1.0, "dice": 0.4, "dice_per_label": {"left": 0.75, "heart": None, "right": 0.05}}
    journal.page(made, [early, late, {"epoch": 3, "loss": 1.0}])
    text = (made.folder / "training.html").read_text(encoding="utf-8")
    assert "Dice of each label at the validation of epoch 2: right 0.050, left 0.750<" in text


def test_the_top_of_a_report_has_numbers_that_may_be_better_or_worse() -> None:
    known = {"dice": Number("", "higher"), "volume_truth_ml": Number("ml", "neither")}
    scores = Scores((Score("a", "p", "liver", {"dice": 0.5, "volume_truth_ml": 7.0}),), known)
    assert reporting.headline(scores) == [("mean dice", 0.5)]


def test_a_run_without_a_split_says_nothing_of_it(tmp_path: Path) -> None:
    made = run(tmp_path, APART)
    made.write("split.json", {"kind": "none", "fold": 0, "folds": []})
    assert reporting._leaks(made) == {} and "split" not in reporting._data(made)
    (made.folder / "split.json").unlink()
    assert reporting._leaks(made) == {} and "split" not in reporting._data(made)
