"""The installer: environments made by real venv and pip, from a wheel that is small."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

import medseg
from MedSegLib import environment, packages, pythons
from MedSegLib.trouble import Trouble
from MedSegLib.work import CANCELLED, DONE, FAILED, Line, Progress
from tests import tiny
from tests.slicer import corrected

BASE = Path(sys._base_executable)  # type: ignore[attr-defined]
PROGRAM = """
import sys

def main():
    print("medseg {version}" if sys.argv[1] == "--version" else "help")
"""
BACKEND = """
import os, pathlib, time

def get_requires_for_build_wheel(settings=None):
    (pathlib.Path(__file__).parent / "pid").write_text(str(os.getpid()))
    time.sleep(600)
"""


def wheel(folder: Path, version: str = "0.1.0", *, requires: str = "") -> Path:
    """A package medseg that has nothing but its program."""
    folder.mkdir(parents=True, exist_ok=True)
    path, info = folder / f"medseg-{version}-py3-none-any.whl", f"medseg-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: medseg\nVersion: {version}\n{requires}"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("medseg/__init__.py", PROGRAM.format(version=version))
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/entry_points.txt", "[console_scripts]\nmedseg = medseg:main\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def listing(python: Path) -> dict[str, float]:
    """Everything that an interpreter could import from its site-packages, with the time of its last change."""
    words = [str(python), "-I", "-c", "import json, site; print(json.dumps(site.getsitepackages()))"]
    folders = json.loads(subprocess.run(words, capture_output=True, check=True, text=True).stdout)
    found = (path for folder in folders for path in Path(folder).rglob("*") if "__pycache__" not in path.parts)
    return {str(path): path.stat().st_mtime for path in found if path.is_file()}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installer") / corrected.ODD
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def made(place: Path) -> Iterator[Path]:
    """An environment that was made without a network, while everything that could lead pip astray was set."""
    before = {python: listing(python) for python in (BASE, Path(sys.executable))}
    astray = {"PIP_TARGET": str(place / "astray"), "PIP_USER": "1", "PYTHONPATH": str(place), "PYTHONHOME": str(place)}
    astray["PIP_INDEX_URL"] = "http://127.0.0.1:9/simple"  # nobody listens at the port for discarding
    wheel(place / "wheels")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in astray.items():
            patch.setenv(name, value)
        run = environment.install(place / "env ü", python=BASE, source="medseg==0.1.0", wheels=place / "wheels")
        outcome, heard = corrected.ended(run)
    assert outcome.state == DONE, outcome
    percents = [event.percent for event in heard if isinstance(event, Progress)]
    assert percents == sorted(percents) and percents[0] < 5 and percents[-1] == 100
    assert any("Successfully installed medseg" in event.text for event in heard if isinstance(event, Line))
    assert before == {python: listing(python) for python in before}
    assert not (place / "astray").exists()
    yield place / "env ü"
    outcome, _ = corrected.ended(environment.remove(place / "env ü"))
    assert outcome.state == DONE and not (place / "env ü").exists()


def gone(pid: int) -> bool:
    """Whether a process has ended; whoever must be told of its end may be slow."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except OSError:
        return True


def failure(run: environment.Background) -> str:
    outcome, _ = corrected.ended(run)
    assert outcome.state == FAILED, outcome
    return str(outcome.failure)


def test_what_was_made_is_recognised(made: Path) -> None:
    program = made / "environment" / "bin" / "medseg"
    for one in (made, made / "environment", program):
        outcome, _ = corrected.ended(environment.existing(one))
        assert outcome.facts["program"] == [str(program)] and outcome.facts["version"] == "0.1.0"
    assert sorted(entry.name for entry in made.iterdir()) == ["environment", environment.STAMP]


def test_a_finished_environment_is_not_made_again(made: Path) -> None:
    said = failure(environment.install(made, python=BASE, source="medseg"))
    assert said == "The folder has a finished environment already (medseg 0.1.0). Use it as it is, or remove it first."


def test_folders_of_others_are_left_alone(place: Path) -> None:
    other = place / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work", encoding="utf-8")
    assert "not made here" in failure(environment.install(other, python=BASE, source=str(wheel(place / "wheels"))))
    assert "not made here" in failure(environment.remove(other))
    assert "a file, not a folder" in failure(environment.install(other / "thesis.txt", python=BASE, source="medseg"))
    assert [entry.name for entry in other.iterdir()] == ["thesis.txt"]


def test_cancel_ends_pip_and_leaves_a_folder_that_is_made_anew(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, folder = place / "source", place / "cancelled"
    source.mkdir()
    (source / "backend.py").write_text(BACKEND, encoding="utf-8")
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    (source / "pyproject.toml").write_text(project, encoding="utf-8")
    run = environment.install(folder, python=BASE, source=str(source))
    limit = time.monotonic() + corrected.PATIENCE_S
    while not (source / "pid").exists() and time.monotonic() < limit:
        time.sleep(0.02)
    pid = int((source / "pid").read_text())
    started = time.monotonic()
    run.cancel()
    outcome, _ = corrected.ended(run)
    assert outcome.state == CANCELLED and time.monotonic() - started < 2
    assert gone(pid)
    program = script(folder / "environment" / "bin" / "medseg", "echo medseg 0.1.0")
    for half_made in (folder, folder / "environment", folder / "environment" / "bin", program):
        assert "is unfinished" in failure(environment.existing(half_made))
    (folder / "environment" / "left over").write_text("", encoding="utf-8")
    made_anew_by_uv(place, folder, monkeypatch)
    assert not (folder / "environment" / "left over").exists()


def made_anew_by_uv(place: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a Python that uv fetches, and a wheel that needs what is not to be had. uv is played by a script: its
    downloads come from where not every machine may go."""
    monkeypatch.setenv("UV_PYTHON_INSTALL_MIRROR", "https://mirror.example/pythons")
    home = '"$UV_PYTHON_INSTALL_DIR/cpython-3.12.1-linux/bin"'
    uv_does = f"[ $UV_PYTHON_INSTALL_BIN = 0 ] && mkdir -p {home} && ln -s '{BASE}' {home}/python3.12"
    lacking, uv = (
        wheel(place / "lacking", requires="Requires-Dist: medseg-has-no-such-part\n"),
        script(place / "uv", uv_does),
    )
    run = environment.install(folder, python=None, source=str(lacking), wheels=place / "lacking", uv=uv)
    outcome, heard = corrected.ended(run)
    assert outcome.failure and outcome.failure.remedy.startswith("See that the index, or the folder of wheels, has it")
    assert "medseg-has-no-such-part" in outcome.failure.detail
    assert environment.stamp_of(folder)["state"] == "unfinished"
    config = (folder / "environment" / "pyvenv.cfg").read_text(encoding="utf-8")
    assert str(folder / "python" / "cpython-3.12.1-linux" / "bin") in config
    assert any("https://mirror.example/pythons" in event.text for event in heard if isinstance(event, Line))


def test_the_disk_must_have_room(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=2_500_000_000))
    run = environment.install(place / "small", python=BASE, source="medseg", torch="cpu")
    assert "has 2.5 GB free; an environment needs 3 GB" in failure(run)
    assert not (place / "small").exists()


@pytest.mark.parametrize(
    ("version", "said"), [("0.0.9", "medseg 0.0.9 is too old for this module, which needs 0.1 or newer"), ("0.1.3", "")]
)
def test_versions(tmp_path: Path, version: str, said: str) -> None:
    outcome, _ = corrected.ended(environment.existing(script(tmp_path / "medseg", f"echo medseg {version}")))
    assert (said in str(outcome.failure)) if said else outcome.facts["version"] == version


def test_programs_that_are_not_medseg(tmp_path: Path) -> None:
    assert "not medseg" in failure(environment.existing(script(tmp_path / "hello", "echo hello")))
    assert "does not answer as medseg does" in failure(environment.existing(script(tmp_path / "broken", "exit 3")))
    assert "No medseg was found" in failure(environment.existing(tmp_path))
    assert "no such folder" in failure(environment.existing(tmp_path / "gone"))
    (tmp_path / "data").write_text("no program", encoding="utf-8")
    assert "could not be started" in failure(environment.existing(tmp_path / "data"))


def test_medseg_says_its_version() -> None:
    assert tiny.medseg_command("--version").out == f"medseg {medseg.__version__}\n"


def script(path: Path, line: str) -> Path:
    path.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


ANSWER = {"version": [3, 12, 1], "bits": 64, "kind": "cpython", "base": "", "lacks": "", "free": False}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({}, ""),
        ({"version": [3, 10, 2]}, "is Python 3.10.2; medseg needs 3.11 or newer"),
        ({"bits": 32}, "32-bit"),
        ({"kind": "pypy"}, "is pypy; PyTorch needs CPython"),
        ({"free": True}, "free-threaded"),
        ({"lacks": "ensurepip"}, "cannot make environments: it lacks ensurepip"),
    ],
)
def test_interpreters_that_will_not_do(tmp_path: Path, answer: dict[str, object], said: str) -> None:
    path = script(tmp_path / "python3", f"echo '{json.dumps({**ANSWER, **answer})}'")
    why = pythons.amiss(path)
    assert said in why if said else not why
    if said:
        assert said in failure(environment.install(tmp_path / "env", python=path, source="medseg", torch="cpu"))
        assert not (tmp_path / "env").exists()


def test_the_search_finds_interpreters_once_and_waits_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, shims = tmp_path / corrected.ODD, tmp_path / "shims"
    folder.mkdir()
    shims.mkdir()
    for path in (folder / "python3.12", shims / "python3"):  # one leads to the other
        script(path, f"echo '{json.dumps({**ANSWER, 'base': str(folder / 'python3.12')})}'")
    script(folder / "python3.9", f"echo '{json.dumps({**ANSWER, 'version': [3, 9, 1]})}'")
    script(folder / "python3.11", f"exec '{BASE}' -c 'import time; time.sleep(60)'")
    script(folder / "python3-config", "echo nothing")
    monkeypatch.setattr(pythons, "PATIENCE_S", 1.0)
    monkeypatch.setattr(pythons, "HOMES", ())
    monkeypatch.setattr(pythons, "SYSTEM", ())
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, (shims, folder, tmp_path / "gone"))))
    started = time.monotonic()
    found = environment.pythons()
    assert time.monotonic() - started < 10
    assert [one.path for one in found if not one.slicers] == [folder / "python3.12"]
    assert [one.slicers for one in found] == [False, True]  # this one is Slicer's here, and comes last


def test_what_pip_may_know(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"PIP_INDEX_URL": "https://mirror", "PIP_CERT": "/c", "HTTPS_PROXY": "http://p", "PIP_CONSTRAINT": "/k"}
    dropped = {"PIP_TARGET": "/t", "PIP_PREFIX": "/p", "PYTHONPATH": "/y", "VIRTUAL_ENV": "/v", "CONDA_PREFIX": "/c"}
    for name, value in {**kept, **dropped}.items():
        monkeypatch.setenv(name, value)
    found = pythons.environment()
    assert kept.items() <= found.items() and not dropped.keys() & found.keys()


ASTRAY = """
[global]
root = {place}/root
user = true
quiet = 2
no-index = true
[install]
find-links =
    {place}/wheels
prefix = {place}/prefix
target = {place}/target
dry-run = true
"""


def test_a_file_of_pips_settings_says_where_packages_come_from_and_not_where_they_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(tmp_path / "wheels")
    (tmp_path / "pip.conf").write_text(ASTRAY.format(place=tmp_path), encoding="utf-8")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    for name in ("PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    outcome, _ = corrected.ended(environment.install(tmp_path / "env", python=BASE, source="medseg==0.1.0"))
    assert outcome.state == DONE, outcome
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["env", "pip.conf", "wheels"]
    (tmp_path / "pip.conf").write_text("[global\n", encoding="utf-8")
    said = failure(environment.install(tmp_path / "other", python=BASE, source="medseg==0.1.0"))
    assert "The settings of pip (pip.conf) cannot be read" in said


@pytest.mark.parametrize("source", ["medseg", "medseg==0.1.0", "medseg[service]>=0.1"])
def test_names_for_the_index(source: str) -> None:
    assert packages.wanted(source) == (source, None)


@pytest.mark.parametrize("source", ["", "torch", "--index-url=http://x", "medseg; rm", "medseg @ http://x", "a.whl"])
def test_what_is_no_source(source: str) -> None:
    with pytest.raises(Trouble, match="is neither a wheel, nor a folder"):
        packages.wanted(source)


def test_constraints_beside_the_source(tmp_path: Path) -> None:
    path = wheel(tmp_path)
    assert packages.wanted(str(path)) == (str(path), None)
    (tmp_path / "constraints.txt").write_text("", encoding="utf-8")
    assert packages.wanted(str(path)) == (str(path), tmp_path / "constraints.txt")
    with pytest.raises(Trouble, match=r"no pyproject\.toml"):
        packages.wanted(str(tmp_path))
    (tmp_path / "pyproject.toml").write_text("", encoding="utf-8")
    assert packages.wanted(str(tmp_path)) == (str(tmp_path), tmp_path / "constraints.txt")


@pytest.mark.parametrize(
    ("system", "gpu", "choice", "space"),
    [
        ("linux", False, "cpu", 3),
        ("linux", True, "usual", 9),
        ("win32", True, "cu128", 9),
        ("darwin", False, "usual", 3),
    ],
)
def test_the_build_of_pytorch(monkeypatch: pytest.MonkeyPatch, system: str, gpu: bool, choice: str, space: int) -> None:
    monkeypatch.setattr(packages.sys, "platform", system)
    monkeypatch.setattr(packages, "nvidia", lambda: gpu)
    assert packages.torch_choice() == choice and packages.space_gb(choice) == space


def test_no_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said = failure(environment.install(tmp_path / "env", python=None, source="medseg", torch="cpu"))
    assert "uv, which could fetch one, was not found. Install Python 3.12 from python.org" in said


@pytest.mark.slow
def test_the_whole_of_medseg_from_its_source(place: Path) -> None:
    """Minutes, and the index: `pytest -m slow tests/slicer/test_environment.py`."""
    before = {python: listing(python) for python in (BASE, Path(sys.executable))}
    outcome, _ = corrected.ended(environment.install(place / "whole", python=BASE, source=str(tiny.ROOT)))
    assert outcome.state == DONE, outcome
    assert before == {python: listing(python) for python in before}
    run = tiny.untrained_run(place / "begin" / "run").folder
    scan = tiny.nifti(place / "scän 1.nii.gz", tiny.phantom(0)[0])
    words = [*outcome.facts["program"], "predict", run, scan, place / "result", "--device", "cpu"]
    subprocess.run(list(map(str, words)), env=pythons.environment(), check=True, cwd=place)
    made = nib.load(place / "result" / "scän 1.nii.gz")
    assert made.shape == tiny.SHAPE and np.allclose(made.affine, tiny.AFFINE)
