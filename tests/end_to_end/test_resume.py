"""Killed, interrupted and started again: the result is that of a run that nothing disturbed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from medseg import config, interrupts
from medseg.engine import checkpoint
from medseg.engine.train import train
from medseg.interrupts import Interrupted
from tests import tiny

LONG = ("train.epochs=20", "train.steps=5", "train.validate_every=5", "train.ema=0.9")
"""Seconds of training: long enough to be stopped in the middle by a parent that looks every few milliseconds."""
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
    return run


def test_killed_while_training(trained, unbroken, tmp_path):
    words = ["train", trained.recipe, *LONG, "--out", tmp_path / "run"]
    code, _ = stopped(words, (tmp_path / "run" / "last.safetensors").exists, signal.SIGKILL)
    assert code == -signal.SIGKILL and len(weights_log(tmp_path / "run")) < 20
    again = tiny.medseg_command(*words)
    assert again.code == 0 and "going on after step" in again.err, again.err
    assert weights(tmp_path / "run") == weights(unbroken)
    assert not list((tmp_path / "run").glob(".partial-*"))


def weights_log(run: Path) -> list[str]:
    return (run / "log.jsonl").read_text().splitlines() if (run / "log.jsonl").exists() else []


def test_interrupted_while_training(trained, unbroken, tmp_path):
    words = ["train", trained.recipe, *LONG, "--out", tmp_path / "run"]
    code, said = stopped(words, (tmp_path / "run" / "last.safetensors").exists, signal.SIGINT)
    assert code == 130 and "the same command goes on from here" in said and "Traceback" not in said
    assert len(weights_log(tmp_path / "run")) < 20
    assert tiny.medseg_command(*words).code == 0
    assert weights(tmp_path / "run") == weights(unbroken)


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
    assert (broken / "card.md").read_bytes() == (whole / "card.md").read_bytes()
    assert (broken / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()


def test_a_second_ctrl_c_stops_at_once_and_a_second_sigterm_does_not():
    with pytest.raises(KeyboardInterrupt), interrupts.requests() as asked:
        assert asked() == 0
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert asked() == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


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
