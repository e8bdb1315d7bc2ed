"""Files in `inside` run in an environment of their own that has 3D Slicer's core; `test_inside.py` runs them there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import ROOT

collect_ignore = ["inside"]
sys.path.append(str(ROOT / "slicer" / "MedSeg"))  # what Slicer does with the folder of a module


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The real service, as a `serving.Installation`."""
    from tests.slicer.serving import TLS, installation

    with installation(tmp_path_factory.mktemp("täst ordner") / "site", tls=TLS) as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "täst ordner"
    made.mkdir()
    return made


@pytest.fixture
def order(folder: Path, tmp_path: Path) -> Any:
    """For a scan that no service really reads."""
    from MedSegLib.work import Order

    scan = tmp_path / "scän.nrrd"
    scan.write_bytes(bytes(300_000))
    return Order("Müller^Anna", "liver", (("image", scan),), folder)
