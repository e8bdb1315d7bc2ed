"""Folders with a patient's voxels: gone with their run, with Slicer, or at the next start."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from MedSegLib import private
from MedSegLib.job import Job
from MedSegLib.steps import Before
from MedSegLib.work import FAILED, Outcome
from tests.slicer.program import alive, marked, until
from tests.tiny import ROOT

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")
WRITES = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
number = 0
while True:
    number += 1
    try:
        folder = pathlib.Path(sys.argv[-1]) / "more"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"half-{number}.nii").write_text("voxels")
    except OSError:
        pass
    time.sleep(0.02)
"""
"""A program that does not listen, and makes its folder anew."""
SLICER = f"""
import sys, time
sys.path.insert(0, {str(ROOT / "slicer" / "MedSeg")!r})
from pathlib import Path
from MedSegLib import private
from MedSegLib.job import Job
from MedSegLib.local import Local
from MedSegLib.runs import Runs
from MedSegLib.work import Order
place, how = Path(sys.argv[1]), sys.argv[2]
def begin(folder):
    (folder / "image-0.nrrd").write_bytes(b"voxels of a patient")
    return Local([sys.executable, "-c", {WRITES!r}]).start(Order("t", "m", (), folder))
job, runs = Job(begin, lambda outcome: None, place), Runs()
runs.add("x", job.start, lambda outcome: None)
runs.poll()
while not list(place.glob("*/*/more/half-*")):
    runs.poll()
    time.sleep(0.02)
if how == "all":
    private._keeper.kill()
    private._keeper.wait()
print("begun", flush=True)
time.sleep(60)
"""


def slicer(place: Path, how: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", SLICER, str(place), how]
    begun = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
    assert begun.stdout and begun.stdout.readline() == "begun\n"
    return begun


def killed(begun: subprocess.Popen[str], how: int = signal.SIGKILL) -> None:
    begun.send_signal(how)
    begun.wait()
    if begun.stdout:
        begun.stdout.close()


def swept(place: Path) -> bool:
    private.sweep(place)
    return not list(place.iterdir())


@pytest.fixture
def place(tmp_path):
    folder = tmp_path / "t\u00e4st  ordner $x 'y'"
    folder.mkdir()
    return folder


@ON_LINUX
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "ended"])
def test_with_slicer_its_private_folders_go(place, how):
    environment = marked()
    begun = slicer(place, "alone", environment)
    assert [file.name for file in place.glob("*/image-0.nrrd")] == ["image-0.nrrd"]
    killed(begun, how)
    until(lambda: not alive(environment) and not list(place.iterdir()), seconds=10)


@ON_LINUX
def test_what_was_left_goes_at_the_next_start_and_what_is_in_use_stays(place):
    environment, others = marked(), marked()
    one, other = slicer(place, "all", environment), slicer(place, "all", others)
    try:
        assert len(list(place.iterdir())) == 2
        killed(one)
        until(lambda: not alive(environment), seconds=10)
        assert len(list(place.iterdir())) == 2
        own = private.make(place)
        until(lambda: len(list(place.iterdir())) == 2, seconds=10)
        (used,) = set(place.iterdir()) - {own}
        assert (used / "image-0.nrrd").exists() and own.exists()
        private.remove(own)
    finally:
        killed(other)
    until(lambda: not alive(others), seconds=10)  # what writes on would make its folder anew, without the file
    assert swept(place)


def test_nothing_else_is_taken_for_one_that_was_left(place, monkeypatch):
    """Folders of others, without a lock, of another machine, and links to such."""
    (place / ".medseg-notes").mkdir()
    (place / ".medseg-new").mkdir()
    (place / ".medseg-new" / private.LOCK).touch()
    (place / ".medseg-other").mkdir()
    (place / ".medseg-other" / private.LOCK).write_bytes(b"medseg another machine")
    (place / "own").mkdir()
    (place / "own" / private.LOCK).write_bytes(private._machine())
    (place / ".medseg-link").symlink_to(place / "own", target_is_directory=True)
    before = sorted(place.rglob("*"))
    private.sweep(place)
    assert sorted(place.rglob("*")) == before
    (place / ".medseg-other" / private.LOCK).write_bytes(private._machine())
    private.sweep(place)
    assert not (place / ".medseg-other").exists()


def test_a_folder_that_was_made_anew_without_its_lock_goes_when_it_is_old(place):
    """Something wrote on while it was removed; links, and folders with names of people's own, stay."""
    made, empty, used, notes = (place / f".medseg-{end}" for end in ("abcd_123", "abcd1234", "abcdefgh", "notes"))
    for folder in (made / "more", empty, used / "more", notes, place / "own"):
        folder.mkdir(parents=True)
        (folder / "half.nii").write_bytes(b"voxels")
    (empty / private.LOCK).touch()
    (place / ".medseg-link1234").symlink_to(place / "own", target_is_directory=True)
    private.sweep(place)
    assert made.exists() and empty.exists()
    before = time.time() - private.OLD_S - 60
    for path in [place, *place.rglob("*")]:
        os.utime(path, (before, before), follow_symlinks=False)
    os.utime(used / "more" / "half.nii")
    private.sweep(place)
    left = sorted(path.name for path in place.iterdir())
    assert left == [".medseg-abcdefgh", ".medseg-link1234", ".medseg-notes", "own"]
    assert list((place / "own").iterdir()) == [place / "own" / "half.nii"]


def test_where_there_are_no_locks_no_folder_is_taken_for_one_that_was_left(place, monkeypatch):
    """As on some shares; nor once there are locks, by this or another machine."""
    monkeypatch.setattr(private, "_locked", lambda held: False)
    folder = private.make(place)
    before = time.time() - private.OLD_S - 60
    for path in (folder / private.LOCK, folder):
        os.utime(path, (before, before))
    private.sweep(place)
    monkeypatch.undo()
    private.sweep(place)
    assert folder.exists()
    private.remove(folder)
    assert not list(place.iterdir())


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="folders have no such owner")
def test_a_folder_of_another_user_is_left_alone(place, monkeypatch):
    folder, own = place / ".medseg-abcdefgh", os.getuid()
    folder.mkdir()
    (folder / private.LOCK).write_bytes(private._machine())
    monkeypatch.setattr(os, "getuid", lambda: own + 1)
    private.sweep(place)
    assert folder.exists()
    monkeypatch.undo()
    assert swept(place)


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="no such system")
def test_nothing_is_written_through_a_link(place, monkeypatch):
    """Where the folder that cannot be removed has one in the place of its file."""
    folder, elsewhere = place / ".medseg-abcdefgh", place / "elsewhere"
    folder.mkdir()
    (folder / private.LOCK).symlink_to(elsewhere)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    private.remove(folder)
    assert not elsewhere.exists() and (folder / private.LOCK).is_symlink()


def test_what_cannot_be_removed_yet_goes_at_the_next_sweep(place, monkeypatch):
    """As on Windows, where a file that is open stays; or because something makes the folder anew."""
    real, folders = shutil.rmtree, [private.make(place), place / ".medseg-abcd1234"]
    folders[1].mkdir()
    (folders[1] / private.LOCK).write_bytes(private._machine())

    def made_anew(folder, **how):
        real(folder, **how)
        (folder / "more").mkdir(parents=True)

    monkeypatch.setattr(shutil, "rmtree", made_anew)
    private.remove(folders[0])
    private.sweep(place)
    assert all((folder / "more").exists() for folder in folders)
    monkeypatch.undo()
    assert swept(place)


def test_a_folder_is_private_and_leaves_nothing_open(place):
    folder = private.make(place / "new")
    assert folder.stat().st_mode & 0o777 == 0o700 or os.name == "nt"
    (folder / "image-0.nrrd").write_bytes(b"voxels")
    private.remove(folder)
    private.remove(folder)
    assert not list((place / "new").iterdir()) and folder not in private._held


def test_a_keeper_that_was_killed_is_replaced(place):
    private.remove(private.make(place))
    first = private._keeper
    first.kill()
    first.wait()
    folder = private.make(place)
    assert private._keeper is not first and private._keeper.poll() is None
    private.remove(folder)


def test_a_run_that_cannot_be_begun_leaves_no_folder(place):
    def begin(folder: Path):
        raise PermissionError(13, "Permission denied")

    job = Job(begin, lambda outcome: None, place)
    assert job.start().poll()[-1].state == FAILED and not list(place.iterdir())


def test_the_folder_of_a_run_goes_with_its_outcome(place):
    job = Job(lambda folder: Before([Outcome(FAILED)]), lambda outcome: None, place)
    job.start()
    assert len(list(place.iterdir())) == 1
    assert job.poll() == [Outcome(FAILED)] and not list(place.iterdir())
