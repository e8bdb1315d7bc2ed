"""`medseg predict` is stopped from outside: what is done is on record, and nothing is half done."""

from __future__ import annotations

import gc
import json
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from medseg.case import Case
from medseg.engine.batch import predict_all
from medseg.engine.predict import Predictor
from medseg.progress import Cancelled, Step
from medseg.volume import Volume
from tests import tiny

PATIENCE_S = 120
MANY_TILES = ("--set", "overlap=0.9", "--device", "cpu", "--threads", "1")
"""Minutes of work on the large scan."""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "run"
    tiny.untrained_run(folder)
    return folder


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """One is done at once, the next is not, and the last is never begun."""
    root = tmp_path_factory.mktemp("scans")
    for name, sides in (("a", (16, 16, 16)), ("b", (96, 96, 96)), ("c", (16, 16, 16))):
        tiny.nifti(root / f"{name}.nii.gz", np.random.default_rng(0).normal(0, 40, sides).astype(np.int16))
    return root


def stopped(words: list[object], how: signal.Signals) -> tuple[int, list[str]]:
    """Start medseg, send it a signal when tiles of case b are done; exit code and what standard error said."""
    command = [sys.executable, "-m", "medseg", *map(str, words), "--progress", "json"]
    child = subprocess.Popen(
        command,
        env=tiny.ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # what a shell starts in the background ignores Ctrl-C, and hands that on
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    watchdog = threading.Timer(PATIENCE_S, child.kill)
    watchdog.start()
    said = []
    try:
        assert child.stderr is not None
        for line in child.stderr:
            said.append(line.rstrip("\n"))
            step = json.loads(line) if line.startswith("{") else {}
            if step.get("case") == "b" and step["stage"] == "network" and step["done"] > 2:
                child.send_signal(how)
                break
        _, rest = child.communicate(timeout=PATIENCE_S)
    finally:
        watchdog.cancel()
        child.kill()
    return child.returncode, said + rest.splitlines()


@pytest.mark.parametrize(("how", "code", "ahead"), [("SIGINT", 130, "--no-ahead"), ("SIGTERM", 143, "--ahead")])
def test_a_signal_ends_the_command_tidily(how, code, ahead, model, scans, tmp_path):
    found, said = stopped(["predict", model, scans, tmp_path, *MANY_TILES, ahead], signal.Signals[how])
    assert found == code and "Traceback" not in "".join(said), said
    assert [line for line in said if not line.startswith("{")] == [
        "stopped; no unfinished file was left under a final name"
    ]
    cases = json.loads((tmp_path / "predict.json").read_text())["cases"]
    assert [(case["case"], case["state"]) for case in cases] == [("a", "done"), ("b", "cancelled")]
    assert {file.name for file in tmp_path.iterdir()} == {"a.nii.gz", "predict.json"}
    ends = [(step["case"], step["stage"]) for step in map(json.loads, said[:-1]) if "case" in step]
    assert ends[-1] == ("b", "cancelled") and ("a", "done") in ends


def test_a_killed_batch_leaves_a_record_of_what_was_done(model, scans, tmp_path):
    code, _ = stopped(["predict", model, scans, tmp_path, *MANY_TILES], signal.SIGKILL)
    assert code == -signal.SIGKILL
    [case] = json.loads((tmp_path / "predict.json").read_text())["cases"]
    assert (case["case"], case["state"], case["files"]) == ("a", "done", ["a.nii.gz"])
    assert {file.name for file in tmp_path.iterdir()} == {"a.nii.gz", "predict.json"}


class Watched(Predictor):
    """Knows which of the scans that it read are still in memory."""

    scans: ClassVar[weakref.WeakSet[Volume]] = weakref.WeakSet()

    def read_scan(self, case, *, series=None):
        scan = super().read_scan(case, series=series)
        self.scans.add(scan)
        return scan


@pytest.mark.parametrize("ahead", [False, True])
def test_a_callback_cancels_and_nothing_stays(ahead, model, scans, tmp_path):
    predictor, steps = Watched.load([model], device="cpu", changes=["overlap=0.9"]), []
    cases = [Case(name, name, {"image": scans / f"{name}.nii.gz"}) for name in "abc"]
    threads = threading.active_count()

    def watch(step: Step) -> None:
        steps.append(step)
        if step.case == "b" and step.done > 2:
            raise Cancelled

    said: list[str] = []
    outcomes = predict_all(predictor, cases, tmp_path, announce=said.append, on_step=watch, ahead=ahead)
    assert [(one.case, one.state) for one in outcomes] == [("a", "done"), ("b", "cancelled")]
    assert [one["state"] for one in json.loads((tmp_path / "predict.json").read_text())["cases"]] == [
        "done",
        "cancelled",
    ]
    assert said[-1].startswith("[2/3] b: cancelled in ") and said[-1].endswith("as was asked")
    assert threading.active_count() == threads and steps[-1].stage == "cancelled"
    gc.collect()
    assert not Watched.scans


def test_one_prediction_is_cancelled_by_its_callback(model, scans):
    predictor = Predictor.load([model], device="cpu", changes=["overlap=0.9"])
    told = []

    def watch(done: int, total: int) -> None:
        told.append(done)
        if done == 3:
            raise Cancelled

    scan = predictor.read_scan(Case("b", "b", {"image": scans / "b.nii.gz"}))
    with pytest.raises(Cancelled):
        predictor.predict(scan, "b", watch)
    assert told == [1, 2, 3]


@pytest.mark.parametrize("ahead", [False, True])
def test_the_record_says_what_the_time_went_into(ahead, model, scans, tmp_path):
    predictor, steps = Predictor.load([model], device="cpu"), []
    cases = [Case(name, name, {"image": scans / f"{name}.nii.gz"}) for name in "ca"]
    predict_all(predictor, cases, tmp_path, announce=lambda _: None, on_step=steps.append, ahead=ahead)
    for case in json.loads((tmp_path / "predict.json").read_text())["cases"]:
        names = [stage["name"] for stage in case["stages"]]
        assert names == ["read", "plan", "prepare", "network", "reduce", "write", "measure"]
        assert sum(stage["seconds"] for stage in case["stages"]) <= case["seconds"] + 1e-3
        peaks = [stage["peak_mib"] for stage in case["stages"]]
        assert 50 < peaks[0] <= min(peaks[1:]) + 1, "the system counts pages in lots, so that a peak may fall a little"
        assert max(peaks) <= peaks[-1] + 1
        assert case["facts"]["megavoxels"] == 0.004 and case["facts"]["tiles"] == 1
        told = [step for step in steps if step.case == case["case"]]
        assert [step.stage for step in told if step.stage != "measure"] == [
            "read",
            "plan",
            "prepare",
            "network",
            "network",
            "write",
            "done",
        ]
        assert told[-1].share == 1 and told[-1].megabytes == pytest.approx(16**3 * 2 / 1e6)


def test_the_command_takes_no_other_kind_of_progress(model, scans, tmp_path):
    said = tiny.medseg_command("predict", model, scans, tmp_path, "--progress", "xml")
    assert said.code == 2 and "needed people or json" in said.err
