"""Nothing here imports medseg: as in Slicer, it is a program in an environment of its own (`MEDSEG_PYTHON`)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from applied import Desk
from shapes import nodes
from trame_slicer.core import SlicerApp

import slicer
from MedSegLib.local import Local

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def core() -> SlicerApp:
    """3D Slicer's core: the scene and the logics of its modules, as `slicer.mrmlScene` and so on."""
    app = SlicerApp()
    slicer.mrmlScene = app.scene
    return app


@pytest.fixture
def scene(core: SlicerApp) -> Iterator[Any]:
    """The scene, emptied of what a test has put there."""
    before = set(nodes(core.scene))
    yield core.scene
    core.scene.SetUndoOff()
    core.scene.ClearUndoStack()
    for node in nodes(core.scene):
        if node not in before:
            core.scene.RemoveNode(node)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(core.scene)
    # without their nodes: one that a failure's traceback still holds is out of the scene, and is tried without end
    hierarchy.RemoveItemChildren(hierarchy.GetSceneItemID(), False)


@pytest.fixture(scope="session")
def program() -> list[str]:
    """Words that start medseg, though the extension takes PYTHONPATH out of its environment."""
    root = os.environ["MEDSEG_ROOT"]
    return [
        os.environ["MEDSEG_PYTHON"],
        "-c",
        f"import sys; sys.path.insert(0, {root!r}); from medseg.__main__ import main; main()",
    ]


@pytest.fixture(scope="session")
def medseg_environment() -> dict[str, str]:
    """Of variables, for that Python; without those of the one that runs this."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "QT_"))}
    return {**kept, "PYTHONPATH": os.environ["MEDSEG_ROOT"], "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, medseg_environment: dict[str, str]) -> Path:
    """Models, scans and results of the command line: see maker.py."""
    folder = tmp_path_factory.mktemp("räume für alle")
    words = [os.environ["MEDSEG_PYTHON"], str(HERE / "maker.py"), str(folder)]
    done = subprocess.run(words, env=medseg_environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder


@pytest.fixture
def local(program: list[str], medseg_environment: dict[str, str]) -> Local:
    return Local(program, environment=medseg_environment)


@pytest.fixture
def desk(scene: Any, local: Local, tmp_path: Path) -> Desk:
    return Desk(scene, local, tmp_path / "läuft hier")
