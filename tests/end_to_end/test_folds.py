"""`medseg train --folds`: every fold of a split in one command, and the folder of them as a model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medseg import config
from medseg.engine import crossvalidation, folds
from medseg.engine.claim import alone
from medseg.engine.predict import Predictor
from medseg.engine.train import train
from medseg.interrupts import Interrupted
from medseg.refusal import Refusal
from tests import tiny

PATIENCE_S = 120


def here(folder: Path) -> int:
    """Train in this process, because each new one would spend seconds on imports."""
    train(config.load(folder / "recipe.yaml"), folder, announce=lambda text: None)
    return 0


def train_folds(recipe: Path, out: Path, wanted: str = "all", *changes: str, **named: object) -> folds.Folds:
    words = {"train": here, "announce": lambda text: None} | named
    return crossvalidation.train_folds(config.load(recipe, changes), out, wanted, **words)  # type: ignore[arg-type]


def split_of(folder: Path) -> dict[str, list[str]]:
    split = json.loads((folder / "split.json").read_text())
    return split["folds"][split["fold"]]


@pytest.fixture(scope="module")
def whole(trained, tmp_path_factory) -> Path:
    """All three folds, spacing left to the plan, which single folds would each choose by their own cases."""
    out = tmp_path_factory.mktemp("folds") / "all"
    train_folds(trained.recipe, out, "all", "prepare.spacing_mm=auto", "prepare.normalisation=auto")
    return out


def test_each_case_validates_once_and_patients_stay_together(whole):
    sides = [split_of(whole / f"fold{number}") for number in range(3)]
    assert sorted(case for side in sides for case in side["validation"]) == list(tiny.CASES)
    for side in sides:
        assert sorted(side["train"] + side["validation"]) == list(tiny.CASES)
        assert not {case[:2] for case in side["train"]} & {case[:2] for case in side["validation"]}


def test_all_folds_have_one_plan_which_was_made_from_all_cases(whole):
    plans = [json.loads((whole / f"fold{number}" / "plan.json").read_text()) for number in range(3)]
    assert plans[0] == plans[1] == plans[2]
    assert sorted(json.loads((whole / "fold2" / "fingerprint.json").read_text())["cases"]) == list(tiny.CASES)


def test_the_table_is_the_log_of_each_fold(whole):
    found = json.loads((whole / "folds.json").read_text())
    best = []
    for number in range(3):
        log = (whole / f"fold{number}" / "log.jsonl").read_text().splitlines()
        best.append(max(json.loads(line)["dice"] for line in log))
    assert [found["runs"][f"fold{number}"]["best"] for number in range(3)] == best
    assert found["mean"] == pytest.approx(np.mean(best)) and found["sd"] == pytest.approx(np.std(best, ddof=1))
    said = tiny.medseg_command("info", whole)
    assert f"fold1       {best[1]:.4f}" in said.out and f"mean of 3   {np.mean(best):.4f} ± " in said.out
    assert f"medseg predict {whole} SCANS RESULTS" in said.out


def test_the_folder_is_the_ensemble_of_its_folds(whole, trained, tmp_path):
    scan = trained.data / "images" / "p1_a.nii.gz"
    said = tiny.medseg_command("predict", whole, scan, tmp_path / "one", "--device", "cpu")
    assert said.code == 0, said.err
    by_hand = [whole / "fold0", scan, tmp_path / "two", "--with", whole / "fold1", "--with", whole / "fold2"]
    assert tiny.medseg_command("predict", *by_hand, "--device", "cpu").code == 0
    name = "p1_a.nii.gz"
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert len(Predictor.load([whole], device="cpu").members) == 3
    assert len(Predictor.load([whole], device="cpu", quality="fast").members) == 1


@pytest.mark.parametrize("verb", ["evaluate", "export", "tune"])
def test_what_needs_a_single_run_says_so(whole, verb, tmp_path):
    said = tiny.medseg_command(verb, whole, *([tmp_path / "a.zip"] if verb == "export" else []))
    assert said.code == 2 and "found the folds of a cross-validation" in said.err and "fold0" in said.err


def test_complete_folds_are_left_alone_and_others_go_on(trained, tmp_path):
    out, trainings = tmp_path / "out", []

    def stopped_in_the_second(folder: Path) -> int:
        trainings.append(folder.name)
        if len(trainings) == 2:
            raise Interrupted(signal.SIGTERM)
        return here(folder)

    with pytest.raises(Interrupted):
        train_folds(trained.recipe, out, train=stopped_in_the_second)
    before = (out / "fold0" / "weights.safetensors").stat().st_mtime_ns
    said: list[str] = []
    found = train_folds(trained.recipe, out, train=stopped_in_the_second, announce=said.append)
    assert trainings == ["fold0", "fold1", "fold1", "fold2"] and list(found.runs) == ["fold0", "fold1", "fold2"]
    assert (out / "fold0" / "weights.safetensors").stat().st_mtime_ns == before
    assert "fold 0 (1 of 3): complete" in said[0]
    train_folds(trained.recipe, out, train=stopped_in_the_second)
    assert len(trainings) == 4


def test_some_folds_first_and_more_epochs_later(trained, tmp_path):
    out, trainings = tmp_path / "out", []

    def counted(folder: Path) -> int:
        trainings.append(folder.name)
        listed.append(list(folds.load(out).runs))
        return here(folder)

    listed: list[list[str]] = []
    assert list(train_folds(trained.recipe, out, "2,0", train=counted).runs) == ["fold0", "fold2"]
    with pytest.raises(Refusal, match=r"2 of 3 folds trained.*fold0 --with .*fold2"):
        folds.run_folders([out])
    assert "1 of 3 folds are not trained yet" in tiny.medseg_command("info", out).out
    longer = (trained.recipe, out, "0", "train.epochs=3")
    with pytest.raises(Refusal, match="--resume to go on"):
        train_folds(*longer)
    train_folds(*longer, train=counted, resume=True)
    assert trainings == ["fold0", "fold2", "fold0"]
    assert listed == [[], ["fold0"], ["fold2"]]  # a fold that goes on is not complete meanwhile
    for number, epochs in ((0, 3), (2, 2)):  # the recipe of the fold that was not asked for is what it was trained by
        folder = out / f"fold{number}"
        assert len((folder / "log.jsonl").read_text().splitlines()) == epochs
        assert config.load(folder / "recipe.yaml").train.epochs == epochs


def test_cases_that_come_later_do_not_change_the_split(trained, tmp_path):
    data = tiny.data_set(tmp_path / "data")
    recipe, out = tiny.recipe(tmp_path / "recipe.yaml", data), tmp_path / "out"
    train_folds(recipe, out, "0")
    image, label = tiny.phantom(9)
    tiny.nifti(data / "images" / "a0_a.nii.gz", image)
    tiny.nifti(data / "labels" / "a0_a.nii.gz", label)
    with (data / "patients.csv").open("a") as file:
        file.write("a0_a,a0\n")
    train_folds(recipe, out, "all")
    cases = [case for number in range(3) for case in split_of(out / f"fold{number}")["validation"]]
    assert sorted(cases) == list(tiny.CASES)


def test_the_number_of_folds_may_change_before_the_first_is_trained(trained, tmp_path):
    def refused(folder: Path) -> int:
        return 2

    with pytest.raises(Refusal, match="refused"):
        train_folds(trained.recipe, tmp_path / "out", train=refused)
    found = train_folds(trained.recipe, tmp_path / "out", "all", "split.folds=2")
    assert (found.count, list(found.runs)) == (2, ["fold0", "fold1"])
    assert len(folds.run_folders([tmp_path / "out"])) == 2


def test_a_failed_fold_is_named_and_what_was_done_stays(trained, tmp_path):
    codes = iter([0, 2])
    with pytest.raises(Refusal, match=r"fold1: found that its training was refused"):
        train_folds(trained.recipe, tmp_path / "out", train=lambda folder: next(codes) or here(folder))
    assert list(folds.load(tmp_path / "out").runs) == ["fold0"]


@pytest.mark.parametrize(
    ("wanted", "change", "found"),
    [
        ("3", "seed=0", "found '3'; needed all, or numbers from 0 to 2"),
        ("0,x", "seed=0", "found '0,x'"),
        ("", "seed=0", "found ''"),
        ("all", "split.kind=holdout", "found split.kind: holdout"),
        ("all", "split.kind=none", "found split.kind: none"),
    ],
)
def test_what_is_no_fold_is_refused_before_anything_is_written(trained, tmp_path, wanted, change, found):
    said = tiny.medseg_command("train", trained.recipe, change, "--folds", wanted, "--out", tmp_path / "out")
    assert said.code == 2 and found in said.err
    assert [path.name for path in tmp_path.rglob("*") if path.name != ".lock"] in ([], ["out"])


def test_other_folders_are_refused(trained, whole, tmp_path, monkeypatch):
    said = tiny.medseg_command("train", trained.recipe, "--folds", "all", "--out", trained.run)
    assert said.code == 2 and "found a single run" in said.err
    (tmp_path / "thesis.doc").touch()
    said = tiny.medseg_command("train", trained.recipe, "--folds", "all", "--out", tmp_path)
    assert said.code == 2 and "found something else (thesis.doc)" in said.err
    said = tiny.medseg_command("train", trained.recipe, "--folds", "all", "--out", whole)
    assert said.code == 2 and "a run of another recipe (it differs in: prepare)" in said.err
    said = tiny.medseg_command("train", trained.recipe, "--folds", "all", "--resume", "--out", tmp_path / "new")
    assert said.code == 2 and "no fold with a checkpoint" in said.err
    with alone(whole):
        said = tiny.medseg_command("train", trained.recipe, "--folds", "all", "--out", whole)
    assert said.code == 2 and "another process that trains in it" in said.err
    with alone(whole / "fold0"):
        said = tiny.medseg_command("train", whole / "fold0" / "recipe.yaml", "--out", whole / "fold0")
    assert said.code == 2 and "another process that trains in it" in said.err
    monkeypatch.setenv("GROUP_WORLD_SIZE", "1")
    said = tiny.medseg_command("train", trained.recipe, "--folds", "all", "--out", tmp_path / "new")
    assert said.code == 2 and "torchrun" in said.err


def test_runs_that_cannot_be_averaged_are_refused_before_training(trained, tmp_path):
    out = tmp_path / "out"
    changed = "prepare.spacing_mm=auto"
    train_folds(trained.recipe, out, "0", changed)
    plan = json.loads((out / "fold0" / "plan.json").read_text())
    for number in (1, 2):
        (out / f"fold{number}").mkdir()
    train_folds(trained.recipe, out, "1", changed)
    (out / "fold0" / "plan.json").write_text(json.dumps(plan | {"spacing_mm": [3, 3, 3]}))
    with pytest.raises(Refusal, match="another label table, channels, orientation, crop or spacing"):
        train_folds(trained.recipe, out, "2", changed)


WAITING = """
import os, signal, sys, time
from pathlib import Path

def stop(number, frame):
    with open(sys.argv[1], "a") as file:
        file.write(f"{signal.Signals(number).name}\\n")
    if number != signal.SIGINT or Path(sys.argv[1]).read_text().count("SIGINT") == 2:
        sys.exit(75 if number != signal.SIGINT else 130)

for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, stop)
Path(sys.argv[1] + ".group").write_text(str(os.getpgid(0)))
Path(sys.argv[1]).touch()
while True:
    time.sleep(0.01)
"""
STARTING = """
import sys
from pathlib import Path
from medseg.engine import apart
from medseg.interrupts import Interrupted
try:
    apart.train(Path("."), sys.argv[1:])
except Interrupted as stop:
    sys.exit(stop.number)
"""


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("sent", [("SIGTERM",), ("SIGUSR1",), ("SIGINT", "SIGINT"), ("SIGKILL",)], ids=" ".join)
def test_signals_reach_the_training_once_and_so_does_the_end_of_the_command(sent, tmp_path):
    """SIGKILL: nobody can pass that on, and the system says it, as SIGTERM."""
    if sent == ("SIGKILL",) and not sys.platform.startswith("linux"):
        pytest.skip("only Linux tells")
    heard, waiting = tmp_path / "heard", tmp_path / "waiting.py"
    waiting.write_text(WAITING)
    words = [sys.executable, "-c", STARTING, sys.executable, str(waiting), str(heard)]
    parent = subprocess.Popen(words, env=tiny.ENVIRONMENT, start_new_session=True)
    try:
        until(heard.exists)
        group = int((tmp_path / "heard.group").read_text())
        assert group != parent.pid  # or a terminal's Ctrl-C would come twice, once by itself
        for count, name in enumerate(sent, start=1):
            os.killpg(parent.pid, signal.Signals[name])  # as a terminal does it
            expected = ["SIGTERM"] if name == "SIGKILL" else [name] * count
            until(lambda expected=expected: len(heard.read_text().split()) >= len(expected))
        code = parent.wait(timeout=PATIENCE_S)
    finally:
        parent.kill()
    assert heard.read_text().split() == expected
    assert code == (-signal.SIGKILL if sent == ("SIGKILL",) else signal.Signals[sent[0]])


def test_a_stop_has_the_exit_code_of_a_single_run(trained, tmp_path, monkeypatch):
    for number, code in ((signal.SIGINT, 130), (signal.SIGUSR1, 75)):

        def stopped(*words: object, number: int = number, **named: object) -> None:
            raise Interrupted(number)

        monkeypatch.setattr(crossvalidation, "train_folds", stopped)
        said = tiny.medseg_command("train", trained.recipe, "--folds", "all", "--out", tmp_path)
        assert said.code == code and f"the same command goes on from here: {tmp_path}" in said.err


def test_the_command_itself(trained, tmp_path):
    """The training is a process of its own, here with a second one beside it."""
    words = ["train", trained.recipe, "train.devices=2", "train.epochs=1", "--folds", "1", "--out", tmp_path / "out"]
    said = tiny.medseg_command(*words)
    assert said.code == 0, said.err
    assert "mean of 1" in said.out and "2 of 3 folds are not trained yet" in said.out
    assert list(folds.load(tmp_path / "out").runs) == ["fold1"]
