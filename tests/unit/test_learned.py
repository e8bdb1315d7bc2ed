"""Whom weights have learned from, and what a split says that validates on them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from medseg import config
from medseg.case import Case
from medseg.data.splits import STAMP
from medseg.engine import crossvalidation, learned, material, train
from medseg.engine.run import Run
from medseg.engine.state import Position
from medseg.refusal import Refusal
from tests import tiny

FOLDS = [(["p1_a", "p1_b", "p2_a"], ["p3_a"]), (["p1_a", "p1_b", "p3_a"], ["p2_a"]), (["p2_a", "p3_a"], ["p1_a"])]


def run(folder: Path, train: list[str], *changes: str) -> Run:
    """One that was trained on these cases of the tiny data set."""
    made = tiny.untrained_run(folder / "run", changes=(f"dataset.root={folder.parent / 'data'}", *changes))
    made.write("split.json", {"kind": "file", "stamp": "", "fold": 0, "folds": [{"train": train, "validation": []}]})
    return made


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tiny.data_set(tmp_path / "data")


def recipe(data: Path, *changes: str) -> config.Recipe:
    file = data.parent / "folds.json"
    file.write_text(json.dumps([{"train": train, "validation": held} for train, held in FOLDS]), encoding="utf-8")
    words = ["split.kind=file", f"split.file={file}", *changes]
    return config.load(tiny.recipe(data.parent / "recipe.yaml", data), words)


def test_a_split_that_validates_on_patients_of_the_first_weights_is_stamped(data: Path, tmp_path: Path) -> None:
    """p1_b was learned from; p1_a, another scan of that patient, validates in the last fold."""
    first = run(tmp_path / "first", ["p1_b"])
    start = f"init.weights={first.folder}"
    stamps = []
    for fold in range(3):
        given = recipe(data, start, f"split.fold={fold}")
        stamps.append(material.divide(given, material.suitable(given), None).stamp)
    assert stamps[:2] == ["", ""]
    assert stamps[2].startswith(STAMP) and "1 of the patients that validate, by their names (p1)" in stamps[2]


def test_weights_remember_the_trainings_that_they_began_with(data: Path, tmp_path: Path) -> None:
    first = run(tmp_path / "first", ["p1_b"])
    file = first.path("weights.safetensors")
    second = run(tmp_path / "second", ["p2_a"], f"init.weights={file}")
    assert learned.by(second) == learned.Learned(frozenset({"p1_b", "p2_a"}), frozenset({"p1", "p2"}))
    (first.folder / "recipe.yaml").write_text(  # trained anew from what came of it: a ring
        config.dump(config.load(first.folder / "recipe.yaml", [f"init.weights={second.folder}"])), encoding="utf-8"
    )
    assert learned.by(second).people == {"p1", "p2"}


def test_without_its_data_names_of_cases_are_all_there_is(tmp_path: Path) -> None:
    known = learned.by(run(tmp_path / "first", ["p1_b"]))
    cases = Case("p1_b", "x", {}), Case("p1_c", "x", {}), Case("p1_a", "p1", {})
    assert known.by_name and known.met(cases) == {"x"} and not known.met(cases[1:])


def test_a_patient_written_otherwise_is_met(data: Path, tmp_path: Path) -> None:
    assert learned.by(run(tmp_path / "first", ["p1_b"])).met([Case("new", " P1", {})]) == {" P1"}


def test_training_says_it_and_another_fold_forgets_it(data: Path, tmp_path: Path) -> None:
    first = run(tmp_path / "first", ["p1_b"])
    given = recipe(data, f"init.weights={first.folder}", "split.fold=2")
    heard: list[str] = []
    made = material.assemble(given, None, announce=heard.append)
    assert made.split.stamp and f"split: {made.split.stamp}" in heard
    train._write_card(first, given, made, Position(best=0.5, history=[{}] * 7))
    card = first.path("card.md").read_text(encoding="utf-8")
    assert made.split.stamp in card and "file, by patient" in card
    assert f"trained for 7 epochs of 2 steps, from the weights {first.folder}." in card.replace("\\", "")
    learning, validation = (tuple(side) for side in FOLDS[0])
    other = replace(made.split, train=learning, validation=validation)
    assert learned.stamped(other, made.cases, given).stamp == ""


def test_each_fold_is_stamped_by_who_validates_in_it(data: Path, tmp_path: Path) -> None:
    first = run(tmp_path / "first", ["p1_b"])
    given = recipe(data, f"init.weights={first.folder}")
    with pytest.raises(Refusal, match="its training"):
        crossvalidation.train_folds(given, tmp_path / "all", announce=[].append, train=lambda folder: 1)
    stamps = [Run(tmp_path / "all" / f"fold{n}").read("split.json")["stamp"] for n in range(3)]
    assert stamps[:2] == ["", ""] and stamps[2].startswith(STAMP)


def test_a_whole_run_zipped_says_it_too(data: Path, tmp_path: Path) -> None:
    first = run(tmp_path / "first", ["p1_b"])
    shutil.make_archive(str(tmp_path / "first"), "zip", first.folder)
    given = recipe(data, f"init.weights={tmp_path / 'first.zip'}", "split.fold=2")
    assert (
        "(p1)"
        in learned.stamped(
            material.divide(given, material.suitable(given), None), material.suitable(given), given
        ).stamp
    )


@pytest.mark.parametrize("left", ["nothing", "a part"])
def test_where_some_are_not_known_it_says_so(data: Path, tmp_path: Path, left: str) -> None:
    first = run(tmp_path / "first", ["p1_b", "gone"])
    if left == "nothing":
        first.path("split.json").unlink()
    assert learned.by(first).by_name
    second = run(tmp_path / "second", ["p2_a"], f"init.weights={first.folder}")
    assert learned.by(second).by_name and "p2" in learned.by(second).people


def test_where_the_first_run_is_gone_it_says_so(data: Path, tmp_path: Path) -> None:
    second = run(tmp_path / "second", ["p2_a"], f"init.weights={tmp_path / 'gone'}")
    assert learned.by(second) == learned.Learned(frozenset({"p2_a"}), frozenset({"p2"}), True)


def test_data_that_may_not_be_listed_stop_nothing(data: Path, tmp_path: Path, monkeypatch) -> None:
    def closed(recipe):
        raise PermissionError(13, "Permission denied", "images")

    first = run(tmp_path / "first", ["p1_b"])
    second = run(tmp_path / "second", ["p2_a"], f"init.weights={first.folder}")
    monkeypatch.setattr(learned.gather, "cases", closed)
    assert learned.by(second) == learned.Learned(frozenset({"p1_b", "p2_a"}), frozenset(), True)
    monkeypatch.undo()
    first.path("recipe.yaml").write_text("train: [", encoding="utf-8")
    assert learned.by(second) == learned.Learned(frozenset({"p1_b", "p2_a"}), frozenset({"p2"}), True)


def test_weights_of_nobody_known(data: Path, tmp_path: Path) -> None:
    first = run(tmp_path / "first", ["p1_b"])
    bare = first.path("weights.safetensors").rename(tmp_path / "bare.safetensors")
    assert learned.before(recipe(data, f"init.weights={bare}")) == learned.Learned(by_name=True)
