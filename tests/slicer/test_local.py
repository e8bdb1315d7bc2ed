"""medseg's command line as a back end: a real small model, real processes."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from MedSegLib.local import Local
from MedSegLib.runs import Runs
from MedSegLib.work import CANCELLED, DONE, FAILED, Line, Order, Progress
from tests.slicer.program import PROGRAM, alive, finished, marked, until
from tests.tiny import AFFINE, medseg_command, nifti, phantom, untrained_run

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


def test_two_runs_go_to_their_ends_in_order(place, tmp_path):
    """One with an option of each kind; both give what the command line gives."""
    backend, runs, ended = Local(PROGRAM), Runs(), []
    one = order(place, tmp_path / "\u00f6rder 1", outputs=("seg_nrrd", "entropy"))
    two = order(place, tmp_path / "\u00f6rder 2", outputs=("nifti",), quality="fast", labels=("left",), roi="2:20,:,3:")
    for number, which in enumerate((one, two)):
        runs.add(which.title, lambda which=which: backend.start(which), lambda out, n=number: ended.append((n, out)))
    seen: dict[int, list[Progress]] = {1: [], 2: []}

    def over() -> bool:
        runs.poll()
        for entry in runs.entries:
            seen[entry.number].append(entry.progress)
        return len(ended) == 2

    until(over, seconds=120)
    assert [(number, outcome.state) for number, outcome in ended] == [(0, DONE), (1, DONE)]
    for steps in seen.values():
        percents = [step.percent for step in steps]
        assert percents == sorted(percents) and percents[-1] == 100
        assert {"segmenting", "reading the scan"} & {step.stage for step in steps}
    assert any(0 < step.percent < 99 for step in seen[1] + seen[2])
    files = [outcome.files for _, outcome in ended]
    assert list(files[0]) == ["kl\u00e4in a.seg.nrrd", "kl\u00e4in a.entropy.nii.gz"]
    assert list(files[1]) == ["kl\u00e4in a.nii.gz"]
    assert set(ended[0][1].facts["volume_ml"]) == {"left", "right"} and "memory_plan" in ended[0][1].facts
    assert any("voxels" in line for line in runs.entries[0].log)
    words = [f"--channel={name}={file}" for name, file in one.images]
    medseg_command("predict", *words, "--output=seg_nrrd", "--device=cpu", one.model, tmp_path / "same")
    medseg_command(
        "predict", *words, "--quality=fast", "--labels=left", "--roi=2:20,:,3:", one.model, tmp_path / "part"
    )
    assert voxels(files[0]["kl\u00e4in a.seg.nrrd"]) == voxels(tmp_path / "same" / "kl\u00e4in a.seg.nrrd")
    assert voxels(files[1]["kl\u00e4in a.nii.gz"]) == voxels(tmp_path / "part" / "kl\u00e4in a.nii.gz")
    assert not [file for file in left(tmp_path) if "scratch" in file]


def voxels(file: Path) -> bytes:
    import SimpleITK as sitk

    return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(file)))).tobytes()


def moments() -> list[tuple[str, float]]:
    """When a run is cancelled: so long after it has come to a stage."""
    chance = random.Random(9)
    starting = [("starting medseg", chance.uniform(0, 2.5)) for _ in range(6)]
    return [*starting, *(("segmenting", chance.uniform(0, 0.5)) for _ in range(2)), ("writing the result", 0.0)]


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


def test_a_scan_that_is_refused_says_why_and_what_to_do(place, tmp_path):
    bad = tmp_path / "k\u00e4putt.nii.gz"
    bad.write_bytes(b"no scan at all")
    images = (("T1 w", bad), ("FL\u00c4IR", place / "sc\u00e4ns" / "kl\u00e4in b.nii.gz"))
    wanted = Order("x", str(place / "m\u00f6dell 1"), images, tmp_path / "o", device="cpu")
    events = finished(Local(PROGRAM).start(wanted))
    outcome = events[-1]
    assert outcome.state == FAILED and outcome.failure.what.startswith("k\u00e4putt.nii.gz: found no NIfTI signature")
    assert outcome.failure.remedy.startswith("Convert it") and str(tmp_path) in outcome.failure.detail
    assert [one.percent for one in events if isinstance(one, Progress)][-1] < 100 and left(tmp_path / "o") == []


def test_a_model_that_wants_other_channels_is_told_before_a_case_begins(place, tmp_path):
    wanted = Order("x", str(place / "m\u00f6dell 1"), (("T2", place / "x.nii.gz"),), tmp_path / "o", device="cpu")
    failure = finished(Local(PROGRAM).start(wanted))[-1].failure
    assert "found T2" in failure.what and failure.remedy


def saying(out: str, code: int, err: str = "") -> Local:
    """A program that does nothing but that."""
    script = f"import sys; sys.stdout.write({out!r}); sys.stderr.write({err!r}); sys.exit({code})"
    return Local([sys.executable, "-c", script])


@pytest.mark.parametrize("code", [0, 1])
def test_a_question_is_answered_with_its_json(code):
    """Of code 1, too: some of what was asked about will not do."""
    out = '{"models":\n["' + "x" * 300_000 + '"]}\n'
    events = finished(saying(out, code, "note\n").ask(["info"]))
    assert events[-1].facts["answer"]["models"] == ["x" * 300_000] and Line("note") in events


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
