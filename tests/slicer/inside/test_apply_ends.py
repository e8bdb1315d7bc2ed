"""Runs that are cancelled, refused or fail: the scene and the disk are as they were."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapes
from applied import Canned, Desk, Stopped, broken, model, scan

import slicer
from MedSegLib import scene as work
from MedSegLib.apply import CHANGED, Choices
from MedSegLib.work import DONE, Order, Outcome


@pytest.mark.parametrize(
    "past", [{"waiting", "starting"}, {"waiting", "starting", "starting medseg"}], ids=["before", "after"]
)
def test_cancelling_leaves_the_scene_and_the_disk_as_they_were(
    scene: Any, desk: Desk, made: Path, past: set[str]
) -> None:
    """One that runs, and one that waits."""
    volume = shapes.volume(scene, *scan(made))
    before = desk.ids()
    first = desk.apply.start({"image": volume}, model(made, "organs"), Choices())
    second = desk.apply.start({"image": volume}, model(made, "organs"), Choices())
    desk.until(lambda: desk.runs.entries[0].progress.stage not in past)
    assert desk.left()
    asked = time.monotonic()
    desk.runs.cancel(second)
    desk.runs.cancel(first)
    assert [desk.over(number).state for number in (first, second)] == ["cancelled", "cancelled"]
    assert time.monotonic() - asked < 2
    assert desk.ids() == before
    assert (desk.left(), desk.results) == ([], [])


def test_a_broken_result_is_told_and_leaves_nothing(scene: Any, made: Path, tmp_path: Path) -> None:
    backend = Canned(broken)
    desk, volume = Desk(scene, backend, tmp_path / "läuft"), shapes.volume(scene, *scan(made), "Müller^Hans")
    before = desk.ids()
    entry = desk.over(desk.apply.start({"image": volume}, model(made, "organs"), Choices(uncertainty=True)))
    assert (entry.state, str(entry.outcome.failure)) == (
        "failed",
        "The result x.seg.nrrd could not be read. Run it again; see Slicer's error log.",
    )
    assert (desk.ids(), desk.left(), desk.results) == (before, [], [])
    (order,) = backend.orders
    assert "Müller" not in str([file for _, file in order.images])
    assert order.images[0][1].suffix == ".nrrd"


@pytest.mark.parametrize("when", ["it waits", "it runs"])
def test_a_volume_that_is_gone_gets_no_result_and_no_other_one_does(made: Path, tmp_path: Path, when: str) -> None:
    """The scene was closed, and holds another patient by now, whose volume has the same ID."""

    def done(order: Order) -> Outcome:
        return Outcome(DONE, {"x.seg.nrrd": made / "organs" / "scan.seg.nrrd"})

    backend = Stopped(done)
    closed = slicer.vtkMRMLScene()
    desk, volume = Desk(closed, backend, tmp_path / "läuft"), shapes.volume(closed, *scan(made), "der erste")
    key = volume.GetID()
    number = desk.apply.start({"image": volume}, model(made, "organs"), Choices())
    if when == "it runs":
        desk.runs.poll()
        assert backend.orders
    closed.Clear(False)
    assert shapes.volume(closed, *scan(made), "der zweite").GetID() == key
    before, backend.let_go = desk.ids(), True
    entry = desk.over(number)
    assert (entry.state, len(backend.orders)) == ("failed", int(when == "it runs"))
    assert str(entry.outcome.failure) == "The volume der erste is no longer in the scene. Load it and run it again."
    assert (desk.ids(), desk.left(), desk.results) == (before, [], [])


CHANGES = {
    "the next image": lambda node, scene: node.SetAndObserveImageData(shapes.volume(scene, *still()).GetImageData()),
    "voxels": lambda node, scene: node.GetImageData().GetPointData().GetScalars().Modified(),
    "moved": lambda node, scene: shapes.transform(scene, np.diag([1.0, 1, 2, 1]), node),
    "bent": lambda node, scene: node.SetAndObserveTransformNodeID(
        scene.AddNewNodeByClass("vtkMRMLGridTransformNode").GetID()
    ),
    "renamed": lambda node, scene: node.SetName("Müller^Hans"),
}


def still() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((16, 18, 14), np.int16), np.eye(4)


@pytest.mark.parametrize("change", CHANGES)
def test_a_result_of_what_the_volume_was_is_told(scene: Any, made: Path, tmp_path: Path, change: str) -> None:
    """Of a sequence, another image may be shown by then."""
    backend = Stopped(lambda order: Outcome(DONE, {"x.seg.nrrd": made / "organs" / "scan.seg.nrrd"}))
    desk, volume = Desk(scene, backend, tmp_path / "läuft"), shapes.volume(scene, *scan(made))
    number = desk.apply.start({"image": volume}, model(made, "organs"), Choices())
    desk.runs.poll()
    CHANGES[change](volume, scene)
    backend.let_go = True
    entry = desk.over(number)
    assert entry.state == "done", entry.log
    assert desk.results[0].notes == (() if change == "renamed" else (CHANGED,))
    assert (CHANGED in entry.log) == (change != "renamed")


def test_what_cannot_be_is_refused_before_it_waits(scene: Any, desk: Desk, made: Path) -> None:
    volume, pair = shapes.volume(scene, *scan(made)), model(made, "pair")
    box = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Kasten")
    box.SetCenter(9000, 0, 0)
    box.SetSize(5, 5, 5)
    for volumes, choices, words in (
        ({"T1": volume}, Choices(), "No volume is chosen for FLAIR."),
        ({"T1": volume, "FLAIR": volume}, Choices(roi=box), "The ROI Kasten lies beside the volume"),
        (
            {"T1": volume, "FLAIR": scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "leer")},
            Choices(),
            "leer holds no",
        ),
    ):
        with pytest.raises(work.Trouble, match=words):
            desk.apply.start(volumes, pair, choices)
        with pytest.raises(work.Trouble):
            desk.apply.batch([{"T1": volume, "FLAIR": volume}, volumes], pair, choices)
    assert desk.runs.entries == ()


def test_a_transform_that_is_not_wanted_stops_a_run_whenever_it_comes(scene: Any, made: Path, tmp_path: Path) -> None:
    backend = Canned(broken)
    desk, volume = Desk(scene, backend, tmp_path / "läuft"), shapes.volume(scene, *scan(made))
    number = desk.apply.start({"image": volume}, model(made, "organs"), Choices(harden=False))
    shapes.transform(scene, np.eye(4), volume)
    assert "is under the transform Verschiebung. Harden" in str(desk.over(number).outcome.failure)
    assert backend.orders == []
    with pytest.raises(work.Trouble, match="is under the transform Verschiebung"):
        desk.apply.start({"image": volume}, model(made, "organs"), Choices(harden=False))
    assert desk.left() == []


def test_closing_removes_what_runs_left_behind(scene: Any, made: Path, tmp_path: Path) -> None:
    backend = Stopped(lambda order: Outcome(DONE))
    desk, volume = Desk(scene, backend, tmp_path / "läuft"), shapes.volume(scene, *scan(made))
    desk.apply.start({"image": volume}, model(made, "organs"), Choices())
    desk.runs.poll()
    assert "image-0.nrrd" in desk.left()
    desk.apply.close()
    assert desk.left() == []
