"""Corrections go with the volume that they were drawn on, whatever else is chosen in the panel."""

from __future__ import annotations

import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import opened
import pytest
import shapes
from opened import wait

import slicer
from MedSegLib import cases, nrrd
from MedSegLib.apply import Apply, Result
from MedSegLib.cases import Correction
from MedSegLib.models import Label, Model

NUMBERS = {"liver": 1, "spleen": 2, "Gefäß": 7}
FRAME = np.diag([-1.0, -1.0, 1.0, 1.0])
FAR = np.array([[-1.0, 0, 0, 0], [0, -1.0, 0, 0], [0, 0, 1.0, 3.0], [0, 0, 0, 1.0]])


def model(made: Path, name: str, channels: tuple[str, ...]) -> Model:
    labels = tuple(Label(number, label, (200, 10, 10), "", "") for label, number in NUMBERS.items())
    spacing = (1.0, 1.0, 1.0)
    return Model(name, str(made / "models" / name), channels, (), labels, "voxel", spacing, "CC0", "tests", 1)


@pytest.fixture
def panel(core: Any, scene: Any, made: Path, tmp_path: Path) -> Iterator[Any]:
    with opened.panel(core, tmp_path / "s.ini") as one:
        one.desk.backend = types.SimpleNamespace()
        one.models._fill([(model(made, "organs", ("image",)), {})])
        one.corrections.cases.currentPath = str(tmp_path / "fälle")
        yield one


def scan(name: str, value: int, affine: np.ndarray = FRAME) -> Any:
    return opened.volume(name, np.full((8, 8, 8), value, np.int16), affine)


def drawn(volume: Any, name: str = "corrected") -> Any:
    masks = {label: np.zeros((8, 8, 8), bool) for label in NUMBERS}
    for at, mask in enumerate(masks.values(), start=2):
        mask[at, 2:6, 2:6] = True
    return shapes.segmentation(slicer.mrmlScene, volume, masks, name)


def saved(panel: Any) -> str:
    panel.corrections.save.click()
    wait(lambda: "Saving" not in panel.corrections.state.text(), "it has ended", 20)
    return str(panel.corrections.state.text())


def test_the_scan_of_a_case_is_the_one_that_was_drawn_on(panel: Any, tmp_path: Path) -> None:
    first, second = scan("scan of A", 100), scan("scan of B", 200, FAR)
    panel.inputs.selectors["image"].setCurrentNode(first)
    panel.corrections.segmentation.setCurrentNode(drawn(second))
    wait(lambda: panel.corrections.of.text() == "scan of B", "its volume is told")
    assert "Saved as" in saved(panel)
    (image,) = (tmp_path / "fälle" / "images").iterdir()
    assert set(np.unique(nrrd.voxels(nrrd.header(image))).tolist()) == {200}
    (label,) = (tmp_path / "fälle" / "labels").iterdir()
    assert (nrrd.voxels(nrrd.header(label)) > 0).sum() == 48


def test_what_reaches_beyond_the_scan_is_told_when_a_case_is_saved(panel: Any) -> None:
    segmentation = drawn(scan("wide", 1))
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(scan("moved", 2, FAR))
    panel.corrections.segmentation.setCurrentNode(segmentation)
    said = saved(panel)
    assert "Saved as" in said and "outside of the volume: liver (4 voxels)" in said


def test_a_result_never_takes_the_place_of_what_is_chosen(panel: Any) -> None:
    one, other = drawn(scan("A", 1), "of A"), drawn(scan("B", 2), "of B")
    panel._shown(Result("A", {}, segmentation=one))
    assert panel.corrections.segmentation.currentNode() is one
    panel._shown(Result("B", {}, segmentation=other, notes=("B was moved.",)))
    assert panel.corrections.segmentation.currentNode() is one
    assert "of B.<br>" in panel.results.title.text() and "B was moved." in panel.results.title.text()


def test_a_segmentation_of_no_known_volume_is_refused(panel: Any, tmp_path: Path) -> None:
    volume = scan("A", 1)
    panel.inputs.selectors["image"].setCurrentNode(volume)
    panel.corrections.segmentation.setCurrentNode(drawn(volume))
    slicer.mrmlScene.RemoveNode(volume)
    scan("B", 2)
    assert "does not say which volume it was drawn on" in saved(panel)
    assert not (tmp_path / "fälle").exists()


def test_volumes_of_several_channels_belong_to_the_segmentation(panel: Any, made: Path, tmp_path: Path) -> None:
    panel.models._fill([(model(made, "pair", ("T1", "FLAIR")), {})])
    t1, flair, other = scan("T1", 1), scan("FLAIR", 2), scan("another", 3)
    for channel, node in (("T1", t1), ("FLAIR", flair)):
        panel.inputs.selectors[channel].setCurrentNode(node)
    panel.corrections.segmentation.setCurrentNode(drawn(other))
    assert "was drawn on another, which is not at Input" in saved(panel)
    panel.corrections.segmentation.setCurrentNode(drawn(t1))
    for node, number in ((t1, "4711"), (flair, "4712")):
        in_hierarchy(node, number)
    assert "different Patient IDs" in saved(panel)
    assert not (tmp_path / "fälle").exists()


def test_a_case_waits_for_the_one_that_is_being_saved(panel: Any, monkeypatch: Any, tmp_path: Path) -> None:
    """Both at once would each write the list of patients without the other's row."""
    real, go_on = cases.save_case, threading.Event()
    monkeypatch.setattr(cases, "save_case", lambda *given: go_on.wait(20) and real(*given))
    panel.corrections.segmentation.setCurrentNode(drawn(scan("A", 1)))
    panel.corrections.save.click()
    panel.corrections.segmentation.setCurrentNode(drawn(scan("B", 2)))
    panel.corrections.save.click()
    assert "The former case is still being saved" in panel.corrections.state.text()
    go_on.set()
    wait(lambda: "1 case of 1 patient" in panel.corrections.state.text(), "the first is saved", 20)
    assert "2 cases of 2 patients" in saved(panel)


def in_hierarchy(volume: Any, number: str) -> None:
    """The volume in a study of a patient, as it is when it comes from the DICOM database."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), f"patient {number}")
    name = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMPatientIDAttributeName()
    hierarchy.SetItemAttribute(patient, name, number)
    study = hierarchy.CreateStudyItem(patient, "study")
    hierarchy.CreateItem(study, volume)


def test_the_patient_id_is_that_of_the_first_file(panel: Any, monkeypatch: Any) -> None:
    """Two scans of one patient must be known as such, or a split would divide them."""
    volume = scan("A", 1)
    volume.SetAttribute("DICOM.instanceUIDs", "1.2 1.3")
    values = {("/a.dcm", "0010,0020"): " 4711 "}
    database = types.SimpleNamespace(
        fileForInstance={"1.2": "/a.dcm", "1.3": "/b.dcm"}.get, fileValue=lambda file, tag: values.get((file, tag), "")
    )
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    known: list[str] = []
    real = cases.saving

    def saving(data: Path, correction: Correction, model: Model) -> Any:
        known.append(correction.identity)
        return real(data, correction, model)

    monkeypatch.setattr(cases, "saving", saving)
    panel.corrections.segmentation.setCurrentNode(drawn(volume))
    assert "The data set has 1 case of 1 patient." in saved(panel)
    assert known == ["4711"]


def test_an_export_refers_to_the_scan_that_was_drawn_on(panel: Any, monkeypatch: Any, tmp_path: Path) -> None:
    first, second = scan("scan of A", 100), scan("scan of B", 200)
    panel.inputs.selectors["image"].setCurrentNode(first)
    segmentation = drawn(second)
    panel.corrections.segmentation.setCurrentNode(segmentation)
    panel.corrections.file.currentPath = str(tmp_path / "out.dcm")
    asked: list[tuple[Any, Any]] = []
    monkeypatch.setattr(Apply, "export", lambda work, labels, volume, *_: asked.append((labels, volume)))
    panel.corrections._try(panel.corrections._export)
    assert asked == [(segmentation, second)]
