"""`medseg sweep`: what is tried, in which order, and what is left after a stop."""

from __future__ import annotations

import json
import resource
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as some

from medseg import config
from medseg.engine import space, sweep
from medseg.interrupts import Interrupted
from medseg.refusal import Refusal
from tests import tiny

RATE, LOSS = "train.lr=log:1e-4:1e-2", "loss.name=dice_ce,tversky"


@pytest.fixture
def recipe(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(sweep, "BY_CHANCE", 2)  # results count from the third trial on, not from the eleventh
    return tiny.recipe(tmp_path / "recipe.yaml", tmp_path / "data")


class Trainings:
    """Stands in for trainings: the nearer the rate is to 1e-3, the better, and tversky is worse."""

    def __init__(self, answer: Callable[[int], int] = lambda count: 0):
        self.folders: list[str] = []
        self._answer = answer

    def __call__(self, folder: Path) -> int:
        self.folders.append(folder.name)
        made = config.load(folder / "recipe.yaml")
        code = self._answer(len(self.folders))
        dice = 1 - abs(made.train.lr - 1e-3) - 0.1 * (made.loss.name == "tversky")
        entries = [{"epoch": 1, "dice": dice / 2}, {"epoch": 2, "dice": dice}, {"epoch": 3}, {"epoch": 4, "dice": None}]
        (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        return code


def swept(recipe: Path, out: Path, trials: int, train: Trainings, parameters=(RATE, LOSS), changes=()) -> dict:
    wanted = sweep.Sweep.of(recipe, changes, parameters)
    return sweep.run(wanted, out, trials, announce=lambda text: None, train=train)


def test_the_table_holds_what_each_trial_was_and_gave(recipe, tmp_path):
    out = tmp_path / "out"
    found = swept(recipe, out, 6, Trainings())
    assert found == json.loads((out / "sweep.json").read_text())
    assert [one["number"] for one in found["trials"]] == list(range(6))
    for one in found["trials"]:
        made = config.load(out / one["folder"] / "recipe.yaml")
        rate, loss = made.train.lr, made.loss.name
        assert one["parameters"] == {"train.lr": repr(rate), "loss.name": loss} and 1e-4 <= rate <= 1e-2
        assert one["value"] == 1 - abs(rate - 1e-3) - 0.1 * (loss == "tversky")
    assert {one["parameters"]["loss.name"] for one in found["trials"]} == {"dice_ce", "tversky"}
    best = max(found["trials"], key=lambda one: one["value"])
    lines = sweep.as_text(found, out).splitlines()
    assert lines[1].startswith(f"{best['folder']}  {best['value']:.4f} ")
    assert lines[-1].startswith(f"the best is {out / best['folder']}; the same again: medseg train {out}")


def test_the_values_hang_on_seed_and_results_alone(recipe, tmp_path):
    """A sweep that was stopped, went on, and was made longer is one that nothing disturbed."""
    whole = swept(recipe, tmp_path / "whole", 6, Trainings())

    def stop(count: int) -> int:
        if count == 4:
            raise Interrupted(signal.SIGTERM)
        return 0

    broken, later = tmp_path / "broken", Trainings()
    swept(recipe, broken, 1, Trainings())
    with pytest.raises(Interrupted):
        swept(recipe, broken, 6, Trainings(lambda count: stop(count + 1)))
    assert json.loads((broken / "sweep.json").read_text())["trials"] == whole["trials"][:3]
    assert swept(recipe, broken, 6, later) == whole
    assert later.folders == ["trial-0003", "trial-0004", "trial-0005"]  # the one that was stopped goes on in its folder
    assert len({one["parameters"]["train.lr"] for one in whole["trials"]}) == 6
    other = swept(recipe, tmp_path / "other", 2, Trainings(), changes=("seed=1",))
    assert other["trials"][0]["parameters"] != whole["trials"][0]["parameters"]


def test_optuna_looks_for_the_highest_value_and_evenly_by_logarithm(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "BY_CHANCE", 100)
    found = swept(recipe, tmp_path / "out", 8, Trainings(), parameters=(RATE,))
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{tmp_path / 'out' / 'sweep.db'}")
    assert study.best_value == max(one["value"] for one in found["trials"])
    assert sum(float(one["parameters"]["train.lr"]) < 1e-3 for one in found["trials"]) >= 3  # else about every tenth


def test_a_finished_sweep_trains_nothing_and_adds_nothing(recipe, tmp_path):
    first = swept(recipe, tmp_path / "out", 3, Trainings())
    again = Trainings()
    assert swept(recipe, tmp_path / "out", 3, again) == first and again.folders == []


def test_the_same_values_are_not_trained_twice(recipe, tmp_path):
    trainings = Trainings()
    found = swept(recipe, tmp_path / "out", 6, trainings, parameters=("train.ema=0.0,0.9", LOSS))
    assert len(found["trials"]) == 6 and len(trainings.folders) <= 4
    for one in found["trials"]:
        first = next(other for other in found["trials"] if other["parameters"] == one["parameters"])
        assert (one["value"], one["folder"]) == (first["value"], first["folder"])


def test_a_trial_that_is_refused_is_no_end(recipe, tmp_path):
    found = swept(recipe, tmp_path / "out", 4, Trainings(lambda count: 2 if count == 2 else 0))
    assert [one["value"] is None for one in found["trials"]] == [False, True, False, False]
    lines = sweep.as_text(found, tmp_path / "out").splitlines()
    assert lines[4].startswith("trial-0001  failed")


def test_three_refused_in_a_row_are(recipe, tmp_path):
    trainings = Trainings(lambda count: 0 if count == 3 else 2)
    with pytest.raises(Refusal, match="3 trials in a row failed"):
        swept(recipe, tmp_path / "out", 20, trainings)
    assert len(trainings.folders) == 6


def test_a_full_disk_is_told_and_the_trial_goes_on_when_there_is_room(recipe, tmp_path):
    out, before = tmp_path / "out", resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(count: int) -> int:
        if count == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        return 0

    try:
        with pytest.raises(Refusal, match=r"sweep\.db: found that it cannot be written \(.*free\); needed room"):
            swept(recipe, out, 3, Trainings(fill))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    again = Trainings()
    assert swept(recipe, out, 3, again) == swept(recipe, tmp_path / "whole", 3, Trainings())
    assert again.folders == ["trial-0001", "trial-0002"]


def test_a_training_that_was_killed_is_trained_again(recipe, tmp_path):
    with pytest.raises(Refusal, match=r"trial-0001: found that its training was killed by a signal: Killed"):
        swept(recipe, tmp_path / "out", 3, Trainings(lambda count: -9 if count == 2 else 0))
    again = Trainings()
    swept(recipe, tmp_path / "out", 3, again)
    assert again.folders == ["trial-0001", "trial-0002"]


def test_a_training_that_dies_twice_has_failed_and_others_follow(recipe, tmp_path):
    def dying() -> Trainings:
        return Trainings(lambda count: -9 if count == 1 else 0)

    with pytest.raises(Refusal, match="trial-0000: found that its training"):
        swept(recipe, tmp_path / "out", 2, dying())
    found = swept(recipe, tmp_path / "out", 2, dying())
    assert [one["value"] is None for one in found["trials"]] == [True, False]


def test_a_trial_that_was_killed_before_it_had_its_values_is_given_up(recipe, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(Refusal, match="killed"):
        swept(recipe, out, 1, Trainings(lambda count: -9))
    with sqlite3.connect(out / "sweep.db") as store:
        store.execute("DELETE FROM trial_params WHERE param_name = 'loss.name'")
    again = Trainings()
    found = swept(recipe, out, 2, again)
    assert again.folders == ["trial-0001"] and found["trials"][0]["value"] is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("train.lr", "0 values"),
        ("train.lr=", "0 values"),
        ("train.lr=1e-3", "1 value;"),
        ("train.lr=1e-3,1e-3", "1 value;"),
        ("=1,2", "no key"),
        ("train.lr=log:a:b", "1 value"),
        ("train.lr=[1,2", "0 values"),
        ("train.lr=1e-2:1e-4", "1e-2 to 1e-4; needed the lower end first"),
        ("train.lr=1:1", "1 to 1; needed the lower end first"),
        ("train.lr=log:0:1", "0 to 1; needed the lower end above 0"),
        ("train.lr=1e-4:5,train.ema=0", "needed"),
        ("train.lr=0.0:1.0", "train.lr: found 0.0; input should be greater than 0"),
        ("train.speed=1,2", "train.speed: no such key"),
        ("loss.name=dice_ce,dise", "no losses component 'dise'"),
        ("cache.x=1,2", "a plain value"),
        ("dataset.root=a,b", "the same cases for all trials"),
        ("split.fold=0:2", "the same cases for all trials"),
    ],
)
def test_mistakes_are_refused_before_the_first_trial(recipe, tmp_path, text, found):
    said = tiny.medseg_command("sweep", recipe, "--param", text, "--out", tmp_path / "out")
    assert said.code == 2 and found in said.err.replace("\n", " "), said.err
    assert not (tmp_path / "out").exists()


def test_no_parameter_and_two_of_one_key_are_refused(recipe):
    assert "needed one at least: KEY=LOW:HIGH" in tiny.medseg_command("sweep", recipe).err
    twice = tiny.medseg_command("sweep", recipe, "--param", "train.lr=1e-3:1e-2", "--param", "train.lr=1,2")
    assert twice.code == 2 and "two parameters of one key" in twice.err


def test_a_dry_run_says_what_is_tried_and_writes_nothing(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    words = ["--param", RATE, "--param", "model.channels=[4,8],[8,16]", "--param", "train.warmup_steps=0:10"]
    said = tiny.medseg_command("sweep", recipe, *words, "--trials", 7, "--dry-run")
    assert said.out.splitlines() == [
        "train.lr: numbers from 0.0001 to 0.01, tried evenly on a logarithmic scale",
        "model.channels: [4, 8] or [8, 16]",
        "train.warmup_steps: whole numbers from 0 to 10",
        "7 trials in sweeps/tiny",
    ]
    assert sorted(tmp_path.rglob("*")) == before


def test_another_sweep_another_folder_and_a_damaged_file_are_refused(recipe, tmp_path):
    out = tmp_path / "out"
    swept(recipe, out, 1, Trainings())
    with pytest.raises(Refusal, match="a sweep of another parameters"):
        swept(recipe, out, 2, Trainings(), parameters=(RATE,))
    with pytest.raises(Refusal, match="a sweep of another recipe"):
        swept(recipe, out, 2, Trainings(), changes=("train.epochs=9",))
    with pytest.raises(Refusal, match="found something else"):
        swept(recipe, tmp_path, 2, Trainings())
    (out / "sweep.db").write_bytes(b"no data base" * 100)
    with pytest.raises(Refusal, match=r"sweep\.db: found .*restore it"):
        swept(recipe, out, 2, Trainings())


def test_a_stop_has_the_exit_code_of_a_training(recipe, tmp_path, monkeypatch):
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 75)):

        def stopped(*words: object, number: int = number, **named: object) -> None:
            raise Interrupted(number)

        monkeypatch.setattr(sweep, "run", stopped)
        said = tiny.medseg_command("sweep", recipe, "--param", RATE, "--out", tmp_path)
        assert said.code == code and f"the same command goes on from here: {tmp_path}" in said.err


def test_the_command_itself_and_a_trial_again(tmp_path):
    recipe, out = tiny.recipe(tmp_path / "recipe.yaml", tiny.data_set(tmp_path / "data")), tmp_path / "out"
    said = tiny.medseg_command("sweep", recipe, "train.epochs=1", "--param", RATE, "--trials", 1, "--out", out)
    assert said.code == 0, said.err
    [one] = json.loads((out / "sweep.json").read_text())["trials"]
    assert f"trial-0000  {one['value']:.4f}" in said.out
    again = tiny.medseg_command("train", out / "trial-0000" / "recipe.yaml", "--out", tmp_path / "again")
    assert again.code == 0, again.err
    files = [folder / "weights.safetensors" for folder in (out / "trial-0000", tmp_path / "again")]
    assert files[0].read_bytes() == files[1].read_bytes()


@given(some.floats(1e-12, 1e12), some.floats(1e-12, 1e12), some.booleans())
def test_any_two_numbers_are_a_range_and_its_values_come_back(one, other, log):
    low, high = sorted((one, other))
    text = f"train.lr={'log:' * log}{low!r}:{high!r}"
    if low == high:
        with pytest.raises(Refusal):
            space.parse(text)
        return
    made = space.parse(text)
    assert isinstance(made, space.Range) and (made.low, made.high, made.log, made.whole) == (low, high, log, False)
    assert [float(value) for value in made.samples()] == [low, high]


@given(
    some.lists(some.one_of(some.integers(), some.booleans(), some.none(), some.text("ab:, [1", max_size=5)), min_size=2)
)
def test_every_choice_comes_back_as_it_was(values):
    made = {json.dumps(value) for value in values}
    text = "key=" + ",".join(map(json.dumps, values))
    if len(made) < 2:
        return
    choice = space.parse(text)
    assert isinstance(choice, space.Choice)
    back = []
    for word in choice.values:
        data: dict = {}
        config.set_key(data, f"key={word}")
        back.append(json.dumps(data["key"]))
    assert set(back) == made
