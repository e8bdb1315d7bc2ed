"""What the benchmark of training is made of: the same arrays for both, steps that are counted, and the table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from medseg.data.cache import open_case
from medseg.engine.material import assemble
from tests import tiny

BENCHMARKS = tiny.ROOT / "benchmarks"
LINUX = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is read as Linux tells it")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmarks are programs, whose folder Python adds by itself."""
    monkeypatch.syspath_prepend(BENCHMARKS / "peers")
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Any:
    import phantom
    import training

    whole = phantom.phantom
    monkeypatch.setattr(training, "CASES", range(1, 6))
    monkeypatch.setattr(training, "FEATURES", {"cpu": (4, 8)})
    monkeypatch.setattr(training, "SIDE", {"cpu": 16})
    monkeypatch.setattr(training, "STEPS", {"cpu": (1, 3)})
    monkeypatch.setattr(phantom, "phantom", lambda seed: whole(seed, (24, 24, 24)))
    return training


def test_help_says_how() -> None:
    command = [sys.executable, str(BENCHMARKS / "training.py"), "--help"]
    said = subprocess.run(command, capture_output=True, text=True, env=tiny.ENVIRONMENT, check=True).stdout
    assert "--nnunet-python" in said and "--scaling" in said


@LINUX
def test_arrays_are_those_that_medseg_prepared_and_a_program_counts_its_steps(small: Any, tmp_path: Path) -> None:
    small.prepare(tmp_path, "cpu")
    sides = json.loads((tmp_path / "arrays" / "cases.json").read_text(encoding="utf-8"))
    assert len(sides["train"]) == 4 and len(sides["val"]) == 1 and not {*sides["train"]} & {*sides["val"]}
    places = assemble(small.recipe(tmp_path, "cpu"), None, announce=print).prepared
    for name, folder in places.items():
        with np.load(tmp_path / "arrays" / f"{name}.npz") as arrays:
            assert np.array_equal(arrays["image"], np.asarray(open_case(folder).image))
            assert np.array_equal(arrays["target"], np.asarray(open_case(folder).target))
    job = small.programs(tmp_path, "cpu", None, [])["medseg float32"]
    said = small.once(job, "medseg float32", tmp_path, "cpu")
    assert len(said["steps"]) == len(said["waits"]) == 3
    assert all(0 <= wait < step for wait, step in zip(said["waits"], said["steps"], strict=True))
    assert said["start"] > 0 and said["busy"] is None


def test_what_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step runs from the end of the one before to its own, and its batch is the one that it waited for."""
    import work

    now, ended = SimpleNamespace(time=0.0), []
    monkeypatch.setattr(work.time, "perf_counter", lambda: now.time)

    def later(seconds: float) -> Any:
        def inner() -> None:
            now.time += seconds

        return inner

    holder = SimpleNamespace(step=later(2), follow=later(0.5))
    paces = work.Paces({"skipped": 1, "counted": 2, "device": "cpu"}, 0.0, stop=lambda: ended.append(now.time))
    paces.wrap(holder, "step", holder, "follow")
    while not paces.enough:
        holder.follow()
        holder.step()
        now.time += 1
    told = paces.told(7)
    assert told["steps"] == [3.5, 3.5] and told["waits"] == [0.5, 0.5]
    assert told["start"] == 6.0 and told["memory"] == 7 and ended == [13.0]


def test_the_table_compares_with_nnunet_and_scaling_by_samples(small: Any) -> None:
    one = {"waits": [0.0, 0.5], "busy": 90, "start": 3.0, "memory": 2**30, "flops": 4e12}
    runs = {
        "medseg bf16": [{**one, "steps": [1.0, 1.0]}],
        "nnU-Net": [{**one, "steps": [1.0, 3.0], "flops": None}],
        "nnU-Net, mallopt": [{**one, "steps": [1.0, 1.0], "flops": None}],
        "two processes, two cores": [{**one, "steps": [1.0, 1.0]}],
    }
    rows = {line.split("|")[1].strip(): line.split("|")[2:] for line in small.table(runs, 8e12).splitlines()[2:]}
    cells = {name: [cell.strip() for cell in row] for name, row in rows.items()}
    assert cells["medseg bf16"][:8] == ["2.00", "1000", "1000", "2.00x", "25.0%", "90 %", "50%", "3"]
    assert cells["nnU-Net"][3] == "1.00x" and cells["nnU-Net, mallopt"][3] == "2.00x"
    assert cells["two processes, two cores"][0] == "4.00"


def test_scaling_gives_each_process_a_core(small: Any, tmp_path: Path) -> None:
    jobs = small.scaling(tmp_path)
    assert [job["cores"] for job in jobs.values()] == [1, 2]
    assert all("threads: 1" in job["recipe"] for job in jobs.values())
