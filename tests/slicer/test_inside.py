"""The extension with 3D Slicer's own core and Qt: each file of `inside` is run by the interpreter that has them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.slicer import judge

FILES = sorted((Path(__file__).parent / "inside").glob("test_*.py"))


SLOW = [file for file in FILES if "mark.slow" in file.read_text(encoding="utf-8")]


@judge.needed
@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_in_slicers_own_python(file: Path, tmp_path: Path) -> None:
    run(file, tmp_path, seconds=540)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@judge.needed
@pytest.mark.parametrize("file", SLOW, ids=[file.stem for file in SLOW])
def test_slow_ones_in_slicers_own_python(file: Path, tmp_path: Path) -> None:
    run(file, tmp_path, "-m", "slow", seconds=3500)


def run(file: Path, tmp_path: Path, *more: str, seconds: float) -> None:
    words = [judge.PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(file.parent)]
    words += ["-c", str(file.parent / "pytest.ini"), "--basetemp", str(tmp_path / "täst ordner"), *more, str(file)]
    done = subprocess.run(
        words, cwd=file.parent, env=judge.environment(), capture_output=True, text=True, timeout=seconds
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
