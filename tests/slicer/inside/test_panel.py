"""The panel, off-screen: Qt and the scene are real, medseg is the real command line with a small model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import opened
import pytest
from opened import Beat, wait


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return opened.environment(tmp_path_factory.mktemp("umgebung für medseg"))


@pytest.fixture
def panel(core: Any, scene: Any, made: Path, environment: Path, tmp_path: Path) -> Iterator[Any]:
    """Opened, with an environment and a folder of models; the models are listed."""
    with opened.panel(core, tmp_path / "s.ini", environment=str(environment), runs=str(made / "models")) as one:
        wait(lambda: one.models.models, "the models are listed")
        yield one


def choose(panel: Any, name: str) -> None:
    """A model, whose licence is read."""
    panel.models.model.setCurrentIndex([model.name for model, _ in panel.models.models].index(name))
    if not panel.models.accepted:
        panel.models.accept.click()


def scan(made: Path, name: str = "CT") -> Any:
    with np.load(made / "scan.npz") as kept:
        return opened.volume(name, kept["image"], kept["affine"])


def test_apply_gives_a_segmentation_node(panel: Any, made: Path) -> None:
    scan(made)
    wait(lambda: panel.inputs.volumes(), "the volume is chosen by itself")
    choose(panel, panel.models.models[1][0].name)
    wait(lambda: panel.running.apply.isEnabled(), "the check lets it pass")
    beat, seen = Beat(), []
    panel.running.apply.click()
    wait(lambda: seen.append(panel.running.bar.value()) or panel.desk.runs.entries[-1].over, "it is done", 120)
    print(panel.desk.runs.entries, beat.stop()[:5], sorted(set(seen)))
    assert panel.corrections.segmentation.currentNode() is not None
