"""The extension with 3D Slicer's own core and Qt: each file of `inside` is run by the interpreter that has them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.slicer import judge

FILES = sorted((Path(__file__).parent / "inside").glob("test_*.py"))


@judge.needed
@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_in_slicers_own_python(file: Path, tmp_path: Path) -> None:
    words = [judge.PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(file.parent)]
    words += ["-c", str(file.parent / "pytest.ini"), "--basetemp", str(tmp_path / "täst ordner"), str(file)]
    done = subprocess.run(words, cwd=file.parent, env=judge.environment(), capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
