"""One training on two devices: two CPU processes, with whole networks or with one that is divided between them."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from medseg.config import TrainSettings
from medseg.engine import checkpoint, launch
from medseg.refusal import Refusal
from tests import tiny

STUNET = "model={name: stunet, size: S, width: 4, pools: [[2, 2, 2], [2, 2, 2]], checkpointing: true}"
SETTINGS = ("train.devices=2", "train.optimiser=sgd", "train.schedule=constant", "train.validate_every=2")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("devices")
    return tiny.recipe(root / "recipe.yaml", tiny.data_set(root / "data"))


def train(
    recipe: Path, run: Path, *words: str, program: tuple[str, ...] = ("-m", "medseg"), code: int = 0
) -> tiny.Said:
    """In a process of its own, because it starts others that run the same command."""
    command = [sys.executable, *program, "train", recipe, *SETTINGS, *words, "--out", run]
    environment = {name: text for name, text in tiny.ENVIRONMENT.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(map(str, command), env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stderr
    return tiny.Said(done.returncode, done.stdout, done.stderr)


def test_a_divided_network_learns_what_whole_ones_learn_and_goes_on_after_a_stop(recipe: Path, tmp_path: Path) -> None:
    divided, whole = tmp_path / "divided", tmp_path / "whole"
    train(recipe, divided, STUNET, "train.shard=true", "train.epochs=1")
    train(recipe, divided, STUNET, "train.shard=true", "--resume")
    said = train(recipe, whole, STUNET)
    assert said.out == f"{whole}\n" and said.err.count("epoch 2/2") == 1  # one process speaks for both
    states = [checkpoint.load(run / "last.safetensors")[0] for run in (divided, whole)]
    assert states[0].keys() == states[1].keys() and any(name.startswith("optimiser.") for name in states[0])
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-3, atol=1e-5, msg=name)  # sums in another order
    log = [json.loads(line) for line in (divided / "log.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in log] == [1, 2] and log[1]["dice"] is not None
    scan = recipe.parent / "data" / "images" / "p1_a.nii.gz"
    said = tiny.medseg_command("predict", divided, scan, tmp_path / "out", "--device", "cpu")
    assert said.code == 0, said.err


ASKED = """
import itertools, os, signal
from torch.optim.optimizer import register_optimizer_step_pre_hook
from medseg.__main__ import main

steps = itertools.count()
register_optimizer_step_pre_hook(
    lambda *_: os.kill(os.getpid(), signal.SIGUSR1) if next(steps) == 1 and os.environ["LOCAL_RANK"] == "1" else None
)
if __name__ == "__main__":
    main()
"""


def test_two_of_one_sample_are_one_of_two_also_if_one_of_them_was_asked_to_stop(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "asked.py").write_text(ASKED)
    two, one = tmp_path / "two", tmp_path / "one"
    said = train(recipe, two, "train.epochs=3", "train.threads=3", program=[str(tmp_path / "asked.py")], code=75)
    assert said.err.count("stopped; the same command goes on") == 1 and "Traceback" not in said.err
    assert "on cpu, threads: 3\n" in said.err  # what was asked for, not what a launcher finds right
    said = train(recipe, two, "train.epochs=3", "train.threads=1", "--resume")
    assert "going on after step 3 of 6" in said.err and "threads 1, not 3: from here on" in said.err
    words = ("train.devices=1", "prepare.batch=2", "train.epochs=3")
    assert tiny.medseg_command("train", recipe, *SETTINGS, *words, "--out", one).code == 0
    states = [checkpoint.load(run / "last.safetensors")[0] for run in (two, one)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-3, atol=1e-5, msg=name)


REFUSING = """
import itertools, os
from torch.optim.optimizer import register_optimizer_step_pre_hook
from medseg.__main__ import main
from medseg.refusal import Refusal

steps = itertools.count()
def refuse(*_):
    if next(steps) == 1 and os.environ["LOCAL_RANK"] == "RANK":
        raise Refusal("case p1_a", found="a damaged chunk", needed="a whole one", remedy="delete it")
register_optimizer_step_pre_hook(refuse)
if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("rank", ["0", "1"])
def test_where_one_of_two_refuses_the_other_ends_in_words(recipe: Path, tmp_path: Path, rank: str) -> None:
    (tmp_path / "refusing.py").write_text(REFUSING.replace('== "RANK"', f'== "{rank}"'))
    said = train(recipe, tmp_path / "run", program=(str(tmp_path / "refusing.py"),), code=2)
    assert "error: case p1_a: found a damaged chunk" in said.err and "Traceback" not in said.err
    assert rank == "0" or "error: training: found that another process of it ended" in said.err


LEFT = """
import os, signal, sys, threading
from pathlib import Path
from torch.optim.optimizer import register_optimizer_step_pre_hook
from medseg.__main__ import main

there = Path(sys.argv[0]).with_name("pid")
def part(*_):
    if os.environ["LOCAL_RANK"] == "1":
        there.with_suffix(".part").write_text(str(os.getpid()))
        there.with_suffix(".part").replace(there)
        threading.Event().wait()  # as on a GPU, for a process that does not answer
    while not there.exists():
        os.sched_yield()
    os.kill(os.getpid(), signal.SIGKILL)
register_optimizer_step_pre_hook(part)
if __name__ == "__main__":
    main()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells of a parent's end")
def test_no_process_outlives_the_first(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "left.py").write_text(LEFT)
    train(recipe, tmp_path / "run", program=(str(tmp_path / "left.py"),), code=-signal.SIGKILL)
    left = Path("/proc") / (tmp_path / "pid").read_text()
    deadline = time.monotonic() + 60
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # which is what is waited for
        while "State:\tZ" not in (left / "status").read_text():
            assert time.monotonic() < deadline


@pytest.mark.slow
def test_two_machines_of_torchrun_are_two_processes(recipe: Path, tmp_path: Path) -> None:
    """One machine stands for both: each has its own torchrun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = ["--nnodes", "2", "--master_addr", "127.0.0.1", "--master_port", str(free.getsockname()[1])]
    two, one = tmp_path / "two", tmp_path / "one"
    words = ["train", str(recipe), *SETTINGS, "train.devices=1", "--out"]
    start = [sys.executable, "-m", "torch.distributed.run", *address, "--node_rank"]
    commands = [[*start, place, "-m", "medseg", *words, str(two)] for place in "01"]
    agents = [subprocess.Popen(command, env=tiny.ENVIRONMENT) for command in commands]
    assert [agent.wait(timeout=300) for agent in agents] == [0, 0]
    assert tiny.medseg_command(*words, one, "prepare.batch=2").code == 0
    states = [checkpoint.load(run / "last.safetensors") for run in (two, one)]
    assert [facts["processes"] for _, facts, _ in states] == [2, 1]
    for name, value in states[0][0].items():
        torch.testing.assert_close(value, states[1][0][name], rtol=1e-3, atol=1e-5, msg=name)


def test_a_loss_that_is_no_number_in_one_of_two_stops_both_and_names_its_case(recipe: Path, tmp_path: Path) -> None:
    said = train(recipe, tmp_path / "run", "loss={name: tests.spoilt}", code=2)
    assert said.err.count("error:") == 1 and "Traceback" not in said.err
    assert "training step 2: found loss nan on the cases p" in said.err
    tensors, facts, _ = checkpoint.load(tmp_path / "run" / "last.safetensors")
    assert facts["position"]["step"] == 2 and all(value.isfinite().all() for value in tensors.values())


@pytest.mark.parametrize(
    ("kind", "started", "wanted", "found"),
    [
        ("cpu", None, 3, ""),
        ("cpu", "2", 2, ""),
        ("cpu", "2", 1, "1, and torchrun has started 2 .* set train.devices=2"),
        ("cuda", None, 2, ""),
        ("cuda", None, 3, "3, with 2 of cuda on this machine.* set train.devices=2"),
        ("mps", None, 2, "2, with 1 of mps"),
    ],
)
def test_more_devices_than_there_are_are_refused(
    kind: str, started: str | None, wanted: int, found: str, monkeypatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if started:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", started)
    with pytest.raises(Refusal, match=f"train.devices: found {found}") if found else contextlib.nullcontext():
        launch._check_number(wanted, torch.device(kind))


@pytest.mark.parametrize(
    ("change", "needed"),
    [({"devices": 1}, "at least 2"), ({"precision": "16"}, "bf16 or 32"), ({"ema": 0.9}, "0, because")],
)
def test_what_sharding_cannot_do_is_refused(change: dict[str, object], needed: str) -> None:
    settings = TrainSettings.model_validate({"devices": 2, "shard": True, **change})
    with pytest.raises(Refusal, match=f"train.{next(iter(change))}.*{needed}"):
        launch.strategy(settings)
