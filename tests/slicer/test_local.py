"""medseg's command line as a back end: a real small model, real processes."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from MedSegLib.background import Background
from MedSegLib.errand import working
from MedSegLib.local import Local
from MedSegLib.process import Child
from MedSegLib.runs import Runs
from MedSegLib.work import CANCELLED, DONE, FAILED, Line, Order, Outcome, Progress
from tests.slicer.program import PROGRAM, alive, finished, marked, until
from tests.tiny import AFFINE, data_set, medseg_command, nifti, phantom, recipe, untrained_run

LIMIT_S = 2.0
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a model, a small scan, and one with a thousand tiles."""
    folder = tmp_path_factory.mktemp("t\u00e4st ordner")
    untrained_run(folder / "m\u00f6dell 1", channels=("T1 w", "FL\u00c4IR"))
    for name, seed, shape in (("kl\u00e4in", 1, (24, 20, 18)), ("gr\u00f6\u00dfer", 2, (120, 110, 100))):
        image, _ = phantom(seed, shape)
        nifti(folder / "sc\u00e4ns" / f"{name} a.nii.gz", image, AFFINE)
        nifti(folder / "sc\u00e4ns" / f"{name} b.nii.gz", image // 2, AFFINE)
    return folder


def order(place: Path, folder: Path, scan: str = "kl\u00e4in", **other) -> Order:
    images = (("T1 w", f"{scan} a.nii.gz"), ("FL\u00c4IR", f"{scan} b.nii.gz"))
    files = tuple((name, place / "sc\u00e4ns" / file) for name, file in images)
    return Order("a t\u00eftle", str(place / "m\u00f6dell 1"), files, folder, device="cpu", **other)


def left(folder: Path) -> list[str]:
    return [str(file.relative_to(folder)) for file in folder.rglob("*")]


def test_runs_go_to_their_ends_in_order(place, tmp_path):
    """What is done is what the command line gives, with every option; one that is refused stops no other."""
    bad = tmp_path / "k\u00e4putt.nii.gz"
    bad.write_bytes(b"no scan at all")
    options = {"quality": "fast", "labels": ("left",), "roi": "2:20,:,3:"}
    orders = [
        order(place, tmp_path / "\u00f6rder 1", outputs=("nifti", "entropy"), **options),
        replace(order(place, tmp_path / "\u00f6rder 2"), images=(("T1 w", bad), ("FL\u00c4IR", bad))),
        order(place, tmp_path / "\u00f6rder 3", "gr\u00f6\u00dfer", quality="fast"),
    ]
    backend, runs, ended = Local(PROGRAM), Runs(), []
    for wanted in orders:
        runs.add(wanted.title, lambda wanted=wanted: backend.start(wanted), ended.append)
    seen: dict[int, list[Progress]] = {1: [], 2: [], 3: []}

    def over() -> bool:
        runs.poll()
        for entry in runs.entries:
            seen[entry.number].append(entry.progress)
        return len(ended) == len(orders)

    until(over, seconds=240)
    assert [entry.state for entry in runs.entries] == [DONE, FAILED, DONE] and ended[1].failure
    for steps in seen.values():
        percents = [step.percent for step in steps]
        assert percents == sorted(percents) and "reading the scan" in {step.stage for step in steps}
    assert [steps[-1].percent for steps in seen.values()] == [100, 0, 100]
    assert any(0 < step.percent < 99 for step in seen[3])
    assert any("voxels" in line for line in runs.entries[0].log)
    assert set(ended[2].facts["volume_ml"]) == {"left", "right"} and "memory_plan" in ended[2].facts
    assert list(ended[0].files) == ["kl\u00e4in a.nii.gz", "kl\u00e4in a.entropy.nii.gz"]
    assert list(ended[2].files) == ["gr\u00f6\u00dfer a.seg.nrrd"]
    assert ended[1].failure.what.startswith("k\u00e4putt.nii.gz: found no NIfTI signature")
    assert ended[1].failure.remedy.startswith("Convert it") and str(tmp_path) in ended[1].failure.detail
    assert not [file for file in left(tmp_path) if "scratch" in file or file.startswith("\u00f6rder 2/")]
    words = [f"--channel={name}={file}" for name, file in orders[0].images]
    options = ["--quality=fast", "--labels=left", "--roi=2:20,:,3:"]
    medseg_command("predict", *words, *options, "--device=cpu", orders[0].model, tmp_path / "part")
    words = [f"--channel={name}={file}" for name, file in orders[2].images]
    options = ["--quality=fast", "--output=seg_nrrd", "--device=cpu"]
    medseg_command("predict", *words, *options, orders[2].model, tmp_path / "whole")
    for outcome, folder in ((ended[0], "part"), (ended[2], "whole")):
        name, file = next(iter(outcome.files.items()))
        assert voxels(file).any() and np.array_equal(voxels(file), voxels(tmp_path / folder / name))


def voxels(file: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def moments() -> list[tuple[str, float]]:
    """When a run is cancelled: so long after it has come to a stage."""
    chance = random.Random(9)
    starting = [("starting medseg", chance.uniform(0, 2.5)) for _ in range(6)]
    return [*starting, *(("segmenting", chance.uniform(0, 0.5)) for _ in range(1)), ("writing the result", 0.0)]


@ON_LINUX
@pytest.mark.parametrize(("stage", "after"), moments())
def test_cancelled_at_any_moment_it_is_gone_and_has_left_nothing(place, tmp_path, stage, after):
    environment, folder = marked(), tmp_path / "\u00f6rder"
    large = order(place, folder, "gr\u00f6\u00dfer", outputs=("seg_nrrd", "probabilities:bits=16", "entropy"))
    if stage == "writing the result":
        large = order(
            place, folder, "gr\u00f6\u00dfer", outputs=("probabilities:bits=16", "seg_nrrd"), roi=":20,:20,:20"
        )
    run = Local(PROGRAM, environment=environment).start(large)
    heard: list[object] = []

    def come() -> bool:
        heard.extend(run.poll())
        return any(isinstance(one, Progress) and one.stage == stage for one in heard)

    until(come)
    deadline = time.monotonic() + after
    until(lambda: time.monotonic() >= deadline)
    started = time.monotonic()
    run.cancel()
    assert time.monotonic() - started < 0.1
    until(lambda: not alive(environment), seconds=20)
    gone = time.monotonic() - started
    events = finished(run, seconds=10)
    assert events[-1].state == CANCELLED and left(folder) == [] and run.poll() == []
    assert gone < LIMIT_S and time.monotonic() - started < LIMIT_S + 0.5


@ON_LINUX
@pytest.mark.slow
def test_a_run_of_several_processes_goes_as_one(tmp_path):
    """Training, with helpers that prepare batches and do not hear SIGTERM."""
    folder = tmp_path / "t\u00e4st ordner"
    made = recipe(folder / "recipe.yaml", data_set(folder / "data"))
    changes = ["train.epochs=500", "train.workers=3", "train.validate_every=500"]
    environment = marked()
    child = Child([*PROGRAM, "train", str(made), *changes, "--out", str(folder / "run")], environment=environment)
    said: list[str] = []

    def trains() -> bool:
        said.extend(text for _, text in child.lines())
        assert child.code is None, said
        return len(alive(environment)) >= 4 and (folder / "run" / "log.jsonl").exists()

    until(trains, seconds=90)
    started = time.monotonic()
    child.cancel()
    until(lambda: not alive(environment), seconds=20)
    assert time.monotonic() - started < LIMIT_S


@ON_LINUX
def test_one_that_the_system_kills_says_so(place, tmp_path):
    environment = marked()
    run = Local(PROGRAM, environment=environment).start(order(place, tmp_path / "o", "gr\u00f6\u00dfer"))

    def kill(event: object) -> None:
        if isinstance(event, Progress) and event.stage == "reading the scan":
            # the guard has the mark, too, and must not be the one that is killed
            runs = [
                pid for pid in alive(environment) if b"medseg-guard" not in Path(f"/proc/{pid}/cmdline").read_bytes()
            ]
            for pid in runs:
                os.kill(pid, signal.SIGKILL)

    outcome = finished(run, see=kill)[-1]
    assert outcome.state == FAILED and outcome.failure.code == "killed"
    assert "not enough memory" in outcome.failure.what and "region" in outcome.failure.remedy
    assert left(tmp_path / "o") == [] and not alive(environment)


def saying(out: str, code: int, err: str = "") -> Local:
    """A program that does nothing but that."""
    script = f"import sys; sys.stdout.write({out!r}); sys.stderr.write({err!r}); sys.exit({code})"
    return Local([sys.executable, "-c", script])


@pytest.mark.parametrize("code", [0, 1])
def test_a_question_is_answered_with_its_json(code):
    """Of code 1, too: some of what was asked about will not do."""
    out = '{"models":\n["' + "x" * 90_000 + '"]}\n'
    events = finished(saying(out, code, "note\n").ask(["info"]))
    assert events[-1].facts["answer"]["models"] == ["x" * 90_000] and Line("note") in events


@pytest.mark.parametrize(
    ("backend", "code"),
    [
        (saying("hello", 0), "answer"),
        (saying("", 0), "answer"),
        (saying("{}", 2, "error: x: found a; needed b. What to do: c."), "refused"),
        (saying("{", 1, "error: x: found a; needed b. What to do: c."), "refused"),
        (Local([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]), "killed"),
        (Local([sys.executable, "-c", "import medseg_is_not_there"]), "environment"),
    ],
)
def test_a_question_that_is_not_answered(backend, code):
    outcome = finished(backend.ask(["info"]))[-1]
    assert outcome.state == FAILED and outcome.failure.code == code and outcome.failure.remedy


@ON_LINUX
@pytest.mark.parametrize("backend", ["predict", "errand"])
def test_an_error_while_a_program_is_heard_ends_the_program(place, tmp_path, backend):
    environment = marked()
    script = """import sys, time
print('{"stage": "network", "done": 1, "total": "x"}', file=sys.stderr, flush=True)
time.sleep(60)"""
    words = [sys.executable, "-c", script]
    if backend == "predict":
        run = Local(words, environment=environment).start(order(place, tmp_path / "o"))
    else:
        run = working(lambda errand: errand.run(words, environment=environment, heard=lambda text: 1 / 0))
    assert finished(run)[-1].state == FAILED
    assert not alive(environment) and left(tmp_path / "o") == []


class Held:
    """An event loop that gives threads of Python no turn but when it runs Python itself, as Slicer's does."""

    def __init__(self) -> None:
        self._sleep = ctypes.PyDLL(None).usleep
        self.turns = 0

    def outcome(self, run: Background, turns: int) -> Outcome:
        for self.turns in range(1, turns + 1):
            found = [event for event in run.poll() if isinstance(event, Outcome)]
            if found:
                return found[0]
            self._sleep(100_000)
        run.cancel()
        raise AssertionError(f"nothing after {turns} turns")


@ON_LINUX
def test_much_output_is_read_in_few_turns_of_slicers_threads():
    script = "import sys; print('[' + ','.join(['1' * 60] * 150_000) + ']')"
    outcome = Held().outcome(Local([sys.executable, "-c", script]).ask([]), 80)
    assert outcome.state == DONE and len(outcome.facts["answer"]) == 150_000


def test_an_environment_that_is_gone_is_a_failure_with_a_remedy(place, tmp_path):
    backend = Local([str(tmp_path / "\u00fcmgebung" / "bin" / "medseg")])
    for run in (backend.ask(["info", "x"]), backend.start(order(place, tmp_path / "o"))):
        failure = finished(run)[-1].failure
        assert failure.code == "no-program" and "no medseg" in failure.what and "environment" in failure.remedy
    assert left(tmp_path / "o") == []


def test_a_folder_that_cannot_be_written_is_a_failure(place, tmp_path):
    (tmp_path / "file").write_text("")
    outcome = finished(Local(PROGRAM).start(order(place, tmp_path / "file")))[-1]
    assert outcome.state == FAILED and outcome.failure.code == "file" and outcome.failure.remedy
