"""The panel with a running service on loopback."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import opened
import pytest
from opened import Beat, Spent, apply, nodes, segments, wait


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """`medseg serve` and `medseg work`, in the environment that has medseg."""
    command = [os.environ["MEDSEG_PYTHON"], "-m", "tests.slicer.serving", str(tmp_path_factory.mktemp("site"))]
    root = os.environ["MEDSEG_ROOT"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=root, env={**os.environ, "PYTHONPATH": root}, text=True, **pipes) as running:
        assert running.stdin and running.stdout
        yield json.loads(running.stdout.readline())
        running.stdin.close()
        running.wait(timeout=60)


def connect(panel: Any, address: str, token: str) -> None:
    panel.place.address.setText(address)
    panel.place.token.setText(token)
    panel.place.connect.click()


def test_a_service_segments_what_is_in_the_scene(
    core: Any, scene: Any, service: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    reading = Spent(monkeypatch, "MedSegLib.apply.Apply._into_scene")
    settings = tmp_path / "slicer.ini"
    with opened.panel(core, settings, place="service") as panel:
        assert "Fill in the address and the token" in panel.place.state.text()
        connect(panel, service["address"], "wrong-token")
        wait(lambda: "token" in panel.place.state.text(), "a wrong token is told")
        assert panel.desk.backend is None
        connect(panel, service["address"], service["token"])
        wait(lambda: panel.models.models, "its models are listed")
        assert "Scans that you Apply are sent there" in panel.place.state.text()
        wanted = next(n for n, (model, _) in enumerate(panel.models.models) if model.segments)
        panel.models.model.setCurrentIndex(wanted)
        panel.models.accept.click()
        array = np.random.default_rng(0).normal(0, 40, (24, 20, 18)).astype(np.int16)
        opened.volume("CT", array, np.diag([-1.5, 1.5, 2, 1]))
        assert not panel.inputs.roi.isEnabled()
        beat = Beat()
        wait(panel.running.apply.isEnabled, "Apply can be pressed")
        entry = apply(panel)
        wait(lambda: entry.over and nodes("vtkMRMLSegmentationNode"), f"it is done: {entry}", 120)
        gaps = beat.stop()
        assert gaps[0] < 0.1 + reading.seconds, gaps[:5]
        assert gaps[1] < 0.1, gaps[:5]
        assert segments(nodes("vtkMRMLSegmentationNode")[0])
    assert service["token"] not in settings.read_text(encoding="utf-8")


def test_a_service_that_is_not_there_is_told_in_words(core: Any, scene: Any, tmp_path: Path) -> None:
    with opened.panel(core, tmp_path / "slicer.ini", place="service") as panel:
        beat = Beat()
        connect(panel, "http://127.0.0.1:9", "token")
        wait(lambda: panel.place.state.text().count(" ") > 6, "it is told", 30)
        assert beat.stop()[0] < 0.1
        assert "Traceback" not in panel.place.state.text()
        assert panel.desk.backend is None
        assert not panel.running.apply.isEnabled()
