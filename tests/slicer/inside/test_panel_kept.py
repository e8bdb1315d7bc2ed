"""What the user chose stays chosen, and the panel says at once what no longer fits; without a model that runs."""

from __future__ import annotations

import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import opened
import pytest
import qt
from opened import turn, wait

import slicer
from MedSegLib.models import Label, Model
from MedSegLib.work import DONE, Outcome

LABELS = tuple(Label(n, name, (200, 10, 10), "", "") for n, name in enumerate(("liver", "spleen", "kidney"), start=1))
MODEL = Model("Abdomen", "/m", ("image",), (), LABELS, "voxel", (1.0, 1.0, 1.0), "CC0", "tests", 1)
FRAME = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture
def panel(core: Any, scene: Any, tmp_path: Path) -> Iterator[Any]:
    """With a backend that is never asked to work."""
    with opened.panel(core, tmp_path / "s.ini") as one:
        one.desk.backend = types.SimpleNamespace()
        one.desk.keep(accepted=(opened.stamp(MODEL),))
        one.models._fill([(MODEL, {})])
        yield one


def scan(name: str) -> Any:
    return opened.volume(name, np.zeros((8, 8, 8), np.int16), FRAME)


def point() -> None:
    """Something of the user's that has nothing to do with the panel; the panel has looked at it."""
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "a point")
    turn(3)


def test_ticks_of_a_batch_outlive_what_happens_in_the_scene(panel: Any) -> None:
    one, _two = scan("one"), scan("two")
    panel.batch.section.collapsed = False
    wait(lambda: len(panel.batch._items()) == 2, "they are listed")
    panel.batch._items()[0].setCheckState(0, qt.Qt.Checked)
    point()
    assert panel.batch.volumes() == [one]
    scan("three")
    wait(lambda: len(panel.batch._items()) == 3, "the new one is listed")
    assert panel.batch.volumes() == [one]
    panel.batch.section.collapsed = True


class Patients:
    """A database of many patients, whose files lie on a slow disk."""

    isOpen = True

    def __init__(self) -> None:
        self.listed = 0

    def patients(self) -> list[str]:
        self.listed += 1
        return [str(number) for number in range(300)]

    def nameForPatient(self, key: str) -> str:
        time.sleep(0.001)
        return f"Patient {key}"

    def studiesForPatient(self, key: str) -> list[str]:
        return [f"{key}.1"]

    def seriesForStudy(self, study: str) -> list[str]:
        return [f"{study}.1"]

    def filesForSeries(self, uid: str) -> list[str]:
        return [f"/x/{uid}/1.dcm"]

    def fileValue(self, file: str, tag: str) -> str:
        time.sleep(0.004)
        return "MR" if tag == "0008,0060" else "1"


def test_many_patients_are_listed_without_a_pause_and_only_once(panel: Any, monkeypatch: Any) -> None:
    database = Patients()
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    panel.batch.section.collapsed = False
    beat = opened.Beat()
    panel.batch.source.setCurrentIndex(1)
    wait(lambda: len(panel.batch._items()) == 300, "they are listed")
    assert beat.stop()[0] < 0.1
    assert panel.batch._items()[7].text(0) == "Patient 7"
    panel.batch._items()[7].setCheckState(0, qt.Qt.Checked)
    listed = database.listed
    point()
    assert database.listed == listed
    assert [[one.uid for one in case] for case in panel.batch.cases()] == [["7.1.1"]]
    panel.batch.source.setCurrentIndex(0)
    panel.batch.section.collapsed = True


def test_labels_stay_unticked_when_the_models_are_listed_anew(panel: Any) -> None:
    panel.options.labels.item(1).setCheckState(qt.Qt.Unchecked)
    panel.models._fill([(MODEL, {})])
    assert panel.options.kept_labels() == ("liver", "kidney")
    other = Model(**{**vars(MODEL), "labels": LABELS[:2]})
    panel.models._fill([(other, {})])
    assert panel.options.kept_labels() == ()


def test_label_maps_are_not_offered_as_scans(panel: Any) -> None:
    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "old labels")
    slicer.util.updateVolumeFromArray(labels, np.zeros((8, 8, 8), np.int16))
    volume = scan("CT")
    wait(lambda: panel.inputs.volumes() == {"image": volume}, "the scan is chosen")
    box = panel.inputs.selectors["image"]
    assert "old labels" not in [box.itemText(n) for n in range(box.count())]


def test_what_other_modules_hide_is_no_scan(panel: Any) -> None:
    """The Segment Editor keeps a volume of its own in the scene, under the name of the scan."""
    hidden, volume = scan("CT masked"), scan("Bauch")
    hidden.SetHideFromEditors(True)
    wait(lambda: panel.inputs.volumes() == {"image": volume}, "the scan is chosen")
    panel.batch.section.collapsed = False
    wait(lambda: [item.text(0) for item in panel.batch._items()] == ["Bauch"], "it alone is listed")
    panel.batch.section.collapsed = True


def test_the_check_hears_of_what_is_moved_elsewhere(panel: Any) -> None:
    volume = scan("CT")
    wait(lambda: panel.inputs.volumes() == {"image": volume} and panel.checked.ok, "it fits")
    volume.SetSpacing(9, 9, 9)
    wait(lambda: "9" in panel.checked.text.text(), "the coarse voxels are told", 3)
    bend = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "bend")
    volume.SetAndObserveTransformNodeID(bend.GetID())
    wait(lambda: not panel.checked.ok, "a volume that is bent stops Apply", 3)
    assert "bends space" in panel.checked.text.text()


def test_what_stops_apply_outlives_an_older_trial(panel: Any) -> None:
    class Trial:
        def poll(self) -> list[Any]:
            return [Outcome(DONE)] if panel.desk.asks.busy("later") else []

        def cancel(self) -> None:
            pass

    scan("CT")
    wait(lambda: panel.checked.ok, "it fits")
    panel.desk.asks.ask("check", Trial(), panel.checked._tried)
    panel.checked._due = 2
    panel.checked.stop("The disk is full.")
    panel.desk.asks.ask("later", types.SimpleNamespace(poll=list, cancel=lambda: None), lambda event: None)
    turn(4)
    assert not panel.desk.asks.busy("check")
    assert not panel.checked.ok
    assert "The disk is full" in panel.checked.text.text()


def test_a_path_that_is_typed_is_looked_into_once(panel: Any, monkeypatch: Any) -> None:
    asked: list[str] = []
    monkeypatch.setattr(panel.models, "look", lambda *_: asked.append(panel.models.runs.currentPath))
    for end in range(1, 29):
        panel.models.runs.currentPath = "/data/models/abdomen-of-2026"[:end]
    wait(lambda: asked, "it is looked into")
    turn(3)
    assert asked == ["/data/models/abdomen-of-2026"]


def test_a_token_is_forgotten_with_the_tick(panel: Any, tmp_path: Path) -> None:
    panel.desk.keep(token="secret-token", keep_token=True)
    panel.place.keep.setChecked(True)
    panel.desk._store.sync()
    assert "secret-token" in (tmp_path / "s.ini").read_text(encoding="utf-8")
    panel.place.keep.click()
    panel.desk._store.sync()
    assert "secret-token" not in (tmp_path / "s.ini").read_text(encoding="utf-8")
