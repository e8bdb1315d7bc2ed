"""Killed, interrupted and started again: the result is that of a run that nothing disturbed."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from medseg import config, interrupts
from medseg.case import CaseSet
from medseg.engine import checkpoint, material
from medseg.engine.train import train
from medseg.interrupts import Interrupted
from medseg.refusal import Refusal
from tests import tiny

LONG = ("train.epochs=6", "train.steps=5", "train.validate_every=2", "train.ema=0.9", "train.examples=0")
"""Without pictures, which are larger than the checkpoints."""
PATIENCE_S = 120


def weights(run: Path) -> tuple[str, list[float]]:
    """sha256 of the weights, and the losses of all epochs."""
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return checkpoint.load(run / "weights.safetensors")[2], [entry["loss"] for entry in log]


def stopped(words: list[object], when: Callable[[], bool], how: signal.Signals) -> tuple[int, str]:
    """Start medseg in a process of its own and send it a signal as soon as `when()`; exit code and standard error."""
    command = [sys.executable, "-m", "medseg", *map(str, words)]
    child = subprocess.Popen(
        command, env=tiny.ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not when() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        child.send_signal(how)
        _, said = child.communicate(timeout=PATIENCE_S)
    finally:
        child.kill()
    return child.returncode, said


@pytest.fixture(scope="module")
def unbroken(trained, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("unbroken") / "run"
    said = tiny.medseg_command("train", trained.recipe, *LONG, "--out", run)
    assert said.code == 0, said.err
    losses = weights(run)[1]
    assert len(losses) == 6 and max(losses) < 1.5 * min(losses)  # each is the mean of its own steps
    return run


KILLED = """
import os, random, signal, sys, traceback
from pathlib import Path
from torch.optim.optimizer import register_optimizer_step_pre_hook
from medseg import config
from medseg.engine import checkpoint, state
from medseg.engine.train import train

recipe, folder, chance = config.load(Path(sys.argv[1]), sys.argv[3:]), Path(sys.argv[2]), random.Random(6)

def killed(after: int, writing: bool) -> bool:
    "Whether a training in a process of its own was killed, in a step or while it wrote a checkpoint."
    moments = [chance.random() < 0.3 for _ in range(30)]
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    counted, real = iter(range(after)), checkpoint.save_file
    def check(*words, **named):
        if next(counted, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
    if writing:
        checkpoint.save_file = lambda *words, **named: (real(*words, **named), check())
    else:
        register_optimizer_step_pre_hook(check)
    state.Keeper.due = lambda keeper: moments.pop()
    try:
        train(recipe, folder)
    except BaseException:
        traceback.print_exc()
    os._exit(0)

print([killed(chance.randrange(2, 9), writing=False) for _ in range(5)], killed(1, writing=True), killed(99, False))
"""
"""One process that forks, because each new one would spend seconds on imports."""


def test_killed_at_five_random_steps_and_saved_at_others(trained, unbroken, tmp_path):
    words = [sys.executable, "-c", KILLED, trained.recipe, tmp_path / "run", *LONG]
    done = subprocess.run(list(map(str, words)), env=tiny.ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.stdout == f"{[True] * 5} True False\n", done.stderr
    going = [int(step) for step in re.findall(r"going on after step (\d+) of 30", done.stderr)]
    assert len(set(going)) >= 4 and going == sorted(going)
    assert any(step % 5 for step in going)
    assert weights(tmp_path / "run") == weights(unbroken)
    assert not list((tmp_path / "run").glob(".partial-*"))


@pytest.mark.parametrize(("how", "expected"), [("SIGINT", 130), ("SIGTERM", 75), ("SIGUSR1", 75)])
def test_interrupted_while_training(trained, unbroken, tmp_path, how, expected):
    words = ["train", trained.recipe, *LONG, "--out", tmp_path / "run"]
    steps = itertools.count()

    def ask(*_: object) -> None:
        if next(steps) == 6:
            os.kill(os.getpid(), signal.Signals[how])

    hook = register_optimizer_step_pre_hook(ask)
    said = tiny.medseg_command(*words)
    hook.remove()
    assert said.code == expected and "the same command goes on from here" in said.err
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 1
    again = tiny.medseg_command(*words)
    assert again.code == 0 and re.search("going on after step [78] of 30", again.err)
    assert weights(tmp_path / "run") == weights(unbroken)


GROUP = """
import itertools, os, signal
from torch.optim.optimizer import register_optimizer_step_pre_hook
from medseg.__main__ import main

steps = itertools.count()
def ask(*_):
    if next(steps) == 6:
        os.killpg(0, signal.SIGUSR1)
        os.killpg(0, signal.SIGTERM)
register_optimizer_step_pre_hook(ask)
main()
"""


def test_a_signal_for_all_processes_and_another_number_of_workers(trained, unbroken, tmp_path):
    """As a cluster sends it: the workers get it, too, while the step still needs them. Then without any, and with
    kernels that repeat."""
    words = ["train", trained.recipe, *LONG, "--out", tmp_path / "run"]
    command = [sys.executable, "-c", GROUP, *words, "train.workers=2"]
    done = subprocess.run(
        list(map(str, command)), env=tiny.ENVIRONMENT, capture_output=True, text=True, start_new_session=True
    )
    assert done.returncode == 75 and "Traceback" not in done.stderr, done.stderr
    again = tiny.medseg_command(*words, "train.deterministic=true", "--resume")
    assert again.code == 0 and re.search("going on after step [78] of 30", again.err), again.err
    assert weights(tmp_path / "run") == weights(unbroken)


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def broken(trained, tmp_path, monkeypatch) -> Path:
    """A run that was stopped in its second epoch of six, and saved before at the end of the first."""
    run = tmp_path / "broken"
    with monkeypatch.context() as patch:
        patch.setattr(interrupts, "requests", lambda: stopping_after(7))
        with pytest.raises(Interrupted):
            train(config.load(trained.recipe, LONG), run)
    return run


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_a_damaged_checkpoint_costs_the_way_from_the_one_before(trained, unbroken, broken, damage):
    damage(broken / "last.safetensors")
    words = ["train", trained.recipe, *LONG, "--out", broken]
    again = tiny.medseg_command(*words)
    assert again.code == 0 and "going on after step 5 of 30" in again.err
    assert re.search(r"last\.safetensors: found .*; going on from the one before it, former\.safetensors\n", again.err)
    assert weights(broken) == weights(unbroken)


def test_two_damaged_checkpoints_are_refused_and_nothing_is_changed(trained, broken):
    flip(broken / "last.safetensors")
    cut(broken / "former.safetensors")
    before = content(broken)
    said = tiny.medseg_command("train", trained.recipe, *LONG, "--out", broken)
    assert said.code == 2 and "last.safetensors: found content that differs from its checksum" in said.err
    assert "in former.safetensors a damaged file" in said.err and "backup" in said.err
    assert content(broken) == before


def test_another_number_of_processes_is_refused(trained, broken):
    tensors, facts, _ = checkpoint.load(broken / "last.safetensors")
    checkpoint.save(broken / "last.safetensors", tensors, {**facts, "processes": 2})
    said = tiny.medseg_command("train", trained.recipe, *LONG, "--out", broken)
    assert said.code == 2 and "a run of 2 processes, and 1 now" in said.err


def test_what_changes_the_last_bits_is_said_where_it_changed(trained, broken):
    tensors, facts, _ = checkpoint.load(broken / "last.safetensors")
    older = {name: fact for name, fact in facts.items() if name != "computed_by"}
    words = ["train", trained.recipe, *LONG, "--out", broken]
    for before, told in (
        ({"computed_by": facts["computed_by"] | {"threads": "7", "torch": "1.0"}}, True),
        ({"computed_by": facts["computed_by"]}, False),
        ({}, False),
    ):
        checkpoint.save(broken / "last.safetensors", tensors, older | before)
        said = tiny.medseg_command(*words)
        assert said.code == 0 and ("from here on, the last bits are not" in said.err) == told
        assert (f"threads 1, not 7, torch {torch.__version__}, not 1.0: from here on" in said.err) == told


@pytest.fixture
def own(tmp_path) -> tuple[Path, list[object]]:
    """A data set that may be changed, and the command that has trained with it for two epochs and would go on."""
    data = tiny.data_set(tmp_path / "data")
    words = ["train", tiny.recipe(tmp_path / "recipe.yaml", data), "--out", tmp_path / "run"]
    assert tiny.medseg_command(*words).code == 0
    return data, [*words, "--resume", "train.epochs=3"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("labels: {left: 2, right: 1}", "the labels left [1], right [2], and in the data set left [2]"),
        ("labels: {left: 1, heart: 2}", "and in the data set left [1], heart [2]"),
        ("labels: {right: 2, left: 1}", "and in the data set right [2], left [1]"),
    ],
)
def test_a_run_goes_on_only_with_labels_that_mean_the_same(own, content, told):
    data, words = own
    (data / "labels.yaml").write_text(content, encoding="utf-8")
    said = tiny.medseg_command(*words)
    assert said.code == 2 and told in said.err


def test_a_run_goes_on_only_with_channels_that_mean_the_same(tmp_path):
    run = tiny.untrained_run(tmp_path / "run")
    training = CaseSet((), ("CT",), run.table)  # as a dataset.json may say that has been edited
    with pytest.raises(Refusal, match="the channels image, and in the data set CT"):
        material.decide(run.recipe, training, run.folder, print)


def test_data_that_changed_are_trained_on_and_that_is_said(own):
    data, words = own
    tiny.nifti(data / "labels" / "p1_a.nii.gz", tiny.phantom(0)[1])  # the same again
    said = tiny.medseg_command(*words)
    assert said.code == 0 and "have changed since" not in said.err
    tiny.nifti(data / "images" / "p1_a.nii.gz", tiny.phantom(7)[0])
    said = tiny.medseg_command(*words[:-1], "train.epochs=4")
    assert said.code == 0 and said.err.count("label maps or how they are prepared have changed since") == 1


def test_a_full_disk_leaves_both_checkpoints_as_they_were(trained, unbroken, broken):
    leftover = broken / "validation" / "last" / ".partial-1-p3_a.png"  # of a picture that was killed
    leftover.parent.mkdir(parents=True)
    leftover.touch()
    before = {name: (broken / name).read_bytes() for name in ("last.safetensors", "former.safetensors")}
    limit = min(map(len, before.values())) - 1
    done = subprocess.run(
        [sys.executable, "-m", "medseg", "train", str(trained.recipe), *LONG, "--out", str(broken)],
        env=tiny.ENVIRONMENT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 2 and "last.safetensors: found that it cannot be written" in done.stderr, done.stderr
    assert {name: (broken / name).read_bytes() for name in before} == before
    assert not list(broken.rglob(".partial-*"))
    assert tiny.medseg_command("train", trained.recipe, *LONG, "--out", broken).code == 0
    assert weights(broken) == weights(unbroken)


def test_a_full_disk_is_told_with_the_file_that_found_no_room(trained, broken):
    words = ["train", str(trained.recipe), *LONG, "--resume", "train.examples=1", "--out", str(broken)]
    done = subprocess.run(
        [sys.executable, "-m", "medseg", *words],
        env=tiny.ENVIRONMENT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)),
    )
    assert done.returncode == 2, done.stderr
    assert re.search(r"error: \S*/p3_a\.png: found that it cannot be written", done.stderr), done.stderr


@contextlib.contextmanager
def stopping_after(steps: int, number: int = signal.SIGINT) -> Iterator[Callable[[], int]]:
    """Stands in for a signal that arrives during a step."""
    answers = iter([0] * (steps - 1) + [number])
    yield lambda: next(answers)


@pytest.mark.parametrize("settings", [("train.ema=0.5",), ("train.optimiser=sgd", "train.precision=32")])
@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_interrupted_after_any_step(trained, tmp_path, monkeypatch, steps, settings):
    """Two epochs of two steps: in the middle of an epoch, at its end, and at the end of all."""
    recipe = config.load(trained.recipe, settings)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(recipe, whole)
    with monkeypatch.context() as patch:
        patch.setattr(interrupts, "requests", lambda: stopping_after(steps))
        with pytest.raises(Interrupted):
            train(recipe, broken)
    train(recipe, broken)
    assert weights(broken) == weights(whole)
    log = [json.loads(line) for line in (broken / "log.jsonl").read_text().splitlines()]
    assert log[0]["seconds"] <= log[1]["seconds"]  # they count from the start of the run, not of this process
    paces = [entry.get("samples_a_second") for entry in log]
    assert paces[(steps - 1) // 2] is None if steps % 2 == 0 else None not in paces  # of steps done before, it is gone
    assert all(pace is None or pace < 1e6 for pace in paces)
    assert (broken / "card.md").read_bytes() == (whole / "card.md").read_bytes()
    assert (broken / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()


def test_a_second_ctrl_c_stops_at_once_and_a_second_sigterm_does_not():
    with interrupts.requests() as asked:
        assert asked() == 0
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert asked() == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_killed_while_preparing(tmp_path):
    data = tmp_path / "data"
    tiny.data_set(data)
    for seed, case in enumerate(tiny.CASES):  # larger ones, so that there is time to kill
        image, label = tiny.phantom(seed, (72, 72, 72))
        tiny.nifti(data / "images" / f"{case}.nii.gz", image)
        tiny.nifti(data / "labels" / f"{case}.nii.gz", label)
    recipe = tiny.recipe(tmp_path / "recipe.yaml", data)
    words = ["prepare", recipe, "prepare.spacing_mm=[1,1,1]"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    code, _ = stopped([*words, f"cache={broken}"], lambda: bool(list(broken.glob("p*"))), signal.SIGKILL)
    assert code == -signal.SIGKILL and len(list(broken.glob("p*"))) < 4
    for cache in (broken, whole):
        assert tiny.medseg_command(*words, f"cache={cache}").code == 0
    assert content(broken) == content(whole) and len(list(whole.glob("p*"))) == 4
