"""The panel, off-screen: Qt and the scene are real, medseg is the real command line with small models."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import opened
import pytest
import qt
import vtk
from opened import Beat, Spent, apply, check_picture, choose, idle, nodes, ready, scan, segments, wait
from vtk.util.numpy_support import vtk_to_numpy

import slicer

LICENCE = "CC0-1.0"
INTENDED = "Showing how the panel works. Not for diagnosis."


@pytest.fixture(scope="module")
def models(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of one channel, one of two, and a classifier, with names and words of their makers."""
    folder = tmp_path_factory.mktemp("modelle für alle") / "models"
    for short, name in (("organs", "Abdomen CT"), ("pair", "Glioma MR"), ("classes", "Texture")):
        shutil.copytree(made / "models" / short, folder / short)
        recipe = folder / short / "recipe.yaml"
        text = recipe.read_text(encoding="utf-8").replace("name: tiny", f"name: {name}", 1)
        table = folder / short / "labels.json"
        table.write_text(
            table.read_text(encoding="utf-8").replace("Gef\\u00e4\\u00df", "kidney").replace("Gefäß", "kidney")
        )
        lines = [line for line in text.splitlines() if not line.startswith(("licence:", "intended_use:"))]
        lines += [f"licence: {LICENCE}", f"intended_use: '{INTENDED}'"]
        recipe.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return opened.environment(tmp_path_factory.mktemp("umgebung für medseg"))


@pytest.fixture(scope="module")
def once(core: Any, models: Path, environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A panel with an environment and a folder of models, which are listed; opened once, since that takes seconds."""
    settings = tmp_path_factory.mktemp("einstellungen") / "slicer.ini"
    with opened.panel(core, settings, environment=str(environment), runs=str(models)) as one:
        wait(lambda: len(one.models.models) == 3, "the models are listed")
        yield one


@pytest.fixture
def panel(once: Any, scene: Any) -> Iterator[Any]:
    """The same panel over an empty scene, with nothing waiting, as it was."""
    yield once
    once.desk.runs.close()
    wait(lambda: idle(once), "all runs have ended")
    once.desk.keep(accepted=())


def test_apply_puts_a_segmentation_into_the_scene_and_the_window_never_waits(
    panel: Any, made: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    reading = Spent(monkeypatch, "MedSegLib.apply.Apply._into_scene")
    volume = scan(made, "CT of the abdomen")
    choose(panel, "organs")
    wait(lambda: panel.inputs.volumes() == {"image": volume}, "the only volume is chosen by itself")
    panel.options.labels.item(1).setCheckState(qt.Qt.Unchecked)
    panel.options.uncertainty.click()
    wait(lambda: "memory" in panel.checked.text.text(), "memory and time are tried out in the background")
    ready(panel)
    beat, seen = Beat(), []
    entry = apply(panel)
    wait(lambda: seen.append(panel.running.bar.value()) or panel.running.bar.value() == 1000, "it is done")
    gaps = beat.stop()
    assert entry.state == "done"
    assert seen == sorted(seen)
    assert max(seen[:-1]) < 1000
    assert gaps[0] < 0.1 + reading.seconds, gaps[:5]
    assert gaps[1] < 0.1, gaps[:5]
    (node,) = nodes("vtkMRMLSegmentationNode")
    assert segments(node) == ["liver", "kidney"]
    assert panel.corrections.segmentation.currentNode() is node
    assert "CT of the abdomen Abdomen CT" in panel.results.title.text()
    cells = [panel.results.table.item(row, 0).text() for row in range(panel.results.table.rowCount())]
    assert cells == ["liver", "kidney"]
    assert len(nodes("vtkMRMLScalarVolumeNode")) == 2  # the scan and the uncertainty
    assert len(nodes("vtkMRMLTableNode")) == 1
    check_picture(panel, tmp_path)
    panel.options.uncertainty.click()


def test_cancel_ends_a_run_and_leaves_the_scene(panel: Any, made: Path, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    scan(made, "CT")
    choose(panel, "organs")
    wait(panel.inputs.volumes, "the volume is chosen")
    panel.options.show()
    entry = apply(panel)
    wait(lambda: entry.state == "running", "it has begun")
    before = slicer.mrmlScene.GetNumberOfNodes()
    begun = time.monotonic()
    panel.running.cancel.click()
    wait(lambda: entry.over, "it has ended", 5)
    assert time.monotonic() - begun < 2.5
    assert entry.state == "cancelled"
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    assert not nodes("vtkMRMLSegmentationNode")
    wait(lambda: not list(tmp_path.iterdir()), "its files are removed", 5)
    wait(lambda: "as it was" in panel.running.stage.text(), "it is said")


def test_a_batch_of_loaded_volumes_waits_in_the_list_and_ends_in_order(panel: Any, made: Path) -> None:
    scan(made, "one")
    scan(made, "two")
    choose(panel, "classes")
    panel.batch.section.collapsed = False
    for item in panel.batch._items():
        item.setCheckState(0, qt.Qt.Checked)
    panel.batch.start.click()
    first, second = panel.desk.runs.entries[-2:]
    states = set()
    wait(lambda: states.add((first.state, second.state)) or second.over, "both have ended")
    panel.batch.section.collapsed = True
    assert ("running", "waiting") in states
    assert ("done", "running") in states
    assert ("running", "running") not in states
    assert [node.GetName() for node in nodes("vtkMRMLTableNode")] == ["one Texture", "two Texture"]
    wait(lambda: panel.results.table.rowCount() == 1, "the classes are shown")
    heads = [panel.results.table.horizontalHeaderItem(n).text() for n in range(panel.results.table.columnCount())]
    assert heads[:3] == ["probability plain", "probability striped", "decision"]


def test_channels_are_guessed_by_name_and_a_missing_one_stops_apply(panel: Any, made: Path) -> None:
    flair = scan(made, "Müller AX FLAIR")
    choose(panel, "pair")
    wait(lambda: panel.inputs.volumes() == {"FLAIR": flair}, "what is there is found")
    assert not panel.running.apply.isEnabled()
    assert "Choose a volume for the channel T1" in panel.checked.text.text()
    t1 = scan(made, "Müller T1 mprage")
    wait(lambda: panel.inputs.volumes() == {"T1": t1, "FLAIR": flair}, "the other is found when it comes")
    ready(panel)


def test_licence_and_intended_use_are_read_before_the_first_run(panel: Any, made: Path) -> None:
    scan(made, "CT")
    panel.models.model.setCurrentIndex(1)
    wait(panel.inputs.volumes, "the volume is chosen")
    assert LICENCE in panel.models.about.text()
    assert INTENDED in panel.models.about.text()
    assert not panel.running.apply.isEnabled()
    assert "intended use" in panel.checked.text.text()
    panel.models.accept.click()
    ready(panel)
    panel.models.accept.click()
    assert not panel.running.apply.isEnabled()


def test_no_label_stops_apply(panel: Any, made: Path) -> None:
    scan(made, "CT")
    choose(panel, "organs")
    ready(panel)
    panel.options.none.click()
    assert not panel.running.apply.isEnabled()
    assert "at least one label" in panel.checked.text.text()
    panel.options.every.click()
    ready(panel)


def test_a_failure_is_told_in_words_and_its_report_names_nobody(panel: Any, made: Path, environment: Path) -> None:
    scan(made, "Müller^Anna")
    choose(panel, "organs")
    ready(panel)
    program = environment / "bin" / "medseg"
    moved = program.rename(program.with_name("away"))
    try:
        entry = apply(panel)
        wait(lambda: entry.over, "it fails", 10)
    finally:
        moved.rename(program)
    assert entry.state == "failed"
    wait(lambda: "environment was moved or removed" in panel.running.stage.text(), "it is told")
    scan(made, "Krause")
    entry.log.append("something about Krause")
    panel.running.copy.click()
    text = qt.QApplication.clipboard().text()
    assert "environment was moved or removed" in text
    assert "Müller" not in text
    assert "Krause" not in text
    assert str(environment) not in text


def test_a_report_is_of_its_run_whatever_was_chosen_or_removed_since(panel: Any, made: Path) -> None:
    volume = scan(made, "Schwarzenberger Karl")
    choose(panel, "organs")
    ready(panel)
    entry = apply(panel)
    wait(lambda: entry.about.order is not None, "it has begun")
    panel.running.cancel.click()
    wait(lambda: entry.over, "it has ended", 5)
    entry.say("Karl: sent as it is shown")
    slicer.mrmlScene.RemoveNode(volume)
    choose(panel, "pair")
    panel.running.copy.click()
    text = qt.QApplication.clipboard().text()
    assert "model: Abdomen CT" in text
    assert "asked: seg_nrrd" in text
    assert "Glioma" not in text
    assert "Karl" not in text


def test_closing_the_scene_ends_what_would_come_into_it(panel: Any, made: Path) -> None:
    scan(made, "CT")
    choose(panel, "organs")
    wait(panel.inputs.volumes, "the volume is chosen")
    first, second = apply(panel), apply(panel)
    wait(lambda: first.state == "running", "it has begun")
    slicer.mrmlScene.InvokeEvent(slicer.mrmlScene.StartCloseEvent)
    wait(lambda: first.over and second.over, "both have ended", 5)
    assert (first.state, second.state) == ("cancelled", "cancelled")
    assert not nodes("vtkMRMLSegmentationNode")


def test_a_correction_becomes_a_training_case(panel: Any, made: Path, tmp_path: Path, monkeypatch: Any) -> None:
    volume = scan(made, "Müller^Anna")
    choose(panel, "organs")
    ready(panel)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "corrected")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    i, j, k = volume.GetImageData().GetDimensions()
    drawn = np.zeros((k, j, i), np.uint8)
    drawn[2:6, 3:9, 4:8] = 1
    for name in ("liver", "a note"):
        image = slicer.vtkOrientedImageData()
        image.SetExtent(0, i - 1, 0, j - 1, 0, k - 1)
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        vtk_to_numpy(image.GetPointData().GetScalars())[:] = drawn.ravel()
        grid = vtk.vtkMatrix4x4()
        volume.GetIJKToRASMatrix(grid)
        image.SetImageToWorldMatrix(grid)
        node.AddSegmentFromBinaryLabelmapRepresentation(image, name, [1.0, 0.5, 0.0])
    corrections = panel.corrections
    corrections.segmentation.setCurrentNode(node)
    corrections.cases.currentPath = str(tmp_path / "fälle")
    corrections.patient.setText("P7")
    asked: list[str] = []
    monkeypatch.setattr(slicer.util, "confirmYesNoDisplay", lambda text: asked.append(text) or len(asked) > 1)
    corrections.save.click()
    assert "Nothing is saved: a note is no label of the model" in corrections.state.text()
    assert "kidney: the case would teach that this is not there" in asked[0]
    assert not (tmp_path / "fälle").exists()
    corrections.save.click()
    wait(lambda: "Saved as" in corrections.state.text(), corrections.state.text(), 20)
    assert "a note" in corrections.state.text()
    (image,) = (tmp_path / "fälle" / "images").iterdir()
    (label,) = (tmp_path / "fälle" / "labels").iterdir()
    assert image.name == label.name
    people = (tmp_path / "fälle" / "patients.csv").read_text(encoding="utf-8")
    assert "P7" in people
    assert "Müller" not in people + image.name


def test_the_modules_own_test_passes(panel: Any, models: Path, environment: Path, tmp_path: Path, capsys: Any) -> None:
    """The one that users run inside Slicer; here over the stand-in of its window."""
    opened.settings_in(tmp_path)
    import MedSeg

    from MedSegLib import settings

    module = MedSeg.MedSegTest()
    module.test_phantom()
    assert "no environment is set" in capsys.readouterr().out
    kept = settings.Settings(environment=str(environment), runs=str(models), model=str(models / "pair"))
    settings.write(qt.QSettings(), kept)
    module.test_phantom()
    assert "Test passed" in capsys.readouterr().out
    assert len(nodes("vtkMRMLScalarVolumeNode")) == 2
