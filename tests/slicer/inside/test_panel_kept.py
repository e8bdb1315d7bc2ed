"""What the user chose stays chosen, and the panel says at once what no longer fits; without a model that runs."""

from __future__ import annotations

import ctypes
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ctk
import numpy as np
import opened
import pytest
import qt
from opened import wait

import slicer
from MedSegLib.models import Label, Model
from MedSegLib.panel import pieces
from MedSegLib.work import CANCELLED, DONE, Line, Outcome

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


def turn(ticks: int) -> None:
    """Let the panel's timer go off so many times."""
    left = [ticks]

    def tick(*_: object) -> None:
        left[0] -= 1

    timer = qt.QTimer()
    timer.setInterval(100)
    timer.timeout.connect(tick)
    timer.start()
    wait(lambda: left[0] <= 0, "the timer goes off")


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


def test_a_long_path_makes_the_panel_no_wider(panel: Any) -> None:
    before = panel.holder.minimumSizeHint().width()
    long = "/data/" + "a" * 180
    pieces.state(panel.models.state, "stop", f"No such folder: {long}")
    panel.place.folder.currentPath = long
    turn(1)
    assert panel.holder.minimumSizeHint().width() == before
    assert long in panel.models.state.text().replace("\u200b", "")


class Talking:
    """A run that says much."""

    def __init__(self) -> None:
        self.said = 0

    def poll(self) -> list[Any]:
        if self.said >= 700:
            return []
        self.said += 100
        return [Line(f"line {number}") for number in range(self.said - 99, self.said + 1)]

    def cancel(self) -> None:
        pass


def test_a_long_log_is_written_on_and_not_anew(panel: Any, monkeypatch: Any) -> None:
    cleared: list[int] = []
    monkeypatch.setattr(panel.running.log, "clear", lambda: cleared.append(1))
    work = Talking()
    panel.desk.runs.add("talk", lambda: work, lambda outcome: None)
    wait(lambda: "line 700" in panel.running.log.toPlainText(), "all is told")
    assert panel.running.log.toPlainText().split("\n") == [f"line {number}" for number in range(1, 701)]
    assert len(cleared) == 1
    panel.desk.runs._current = None
    panel.desk.runs._entries.clear()


class Ends:
    """A run that ends only when it is told to."""

    def __init__(self) -> None:
        self.cancelled = False

    def poll(self) -> list[Any]:
        return [Outcome(CANCELLED)] if self.cancelled else []

    def cancel(self) -> None:
        self.cancelled = True


def test_cancel_ends_what_is_chosen_and_nothing_else(panel: Any) -> None:
    panel.desk.runs.add("over", lambda: types.SimpleNamespace(poll=lambda: [Outcome(DONE)]), lambda outcome: None)
    panel.desk.runs.add("goes on", Ends, lambda outcome: None)
    wait(lambda: panel.desk.runs.entries[1].state == "running", "the second has begun")
    turn(1)
    panel.running.queue.setCurrentRow(0)
    assert not panel.running.cancel.isEnabled()
    panel.running._cancelled()
    turn(2)
    assert panel.desk.runs.entries[1].state == "running"
    assert panel.running.queue.item(1).text() == "runs: goes on"
    panel.running.queue.setCurrentRow(1)
    panel.running.cancel.click()
    wait(lambda: panel.desk.runs.entries[1].state == "cancelled", "the chosen one is cancelled")


def test_all_of_a_short_list_of_runs_is_seen(panel: Any) -> None:
    for number in range(2):
        panel.desk.runs.add(f"{'a long title ' * 20}{number}", Ends, lambda outcome: None)
    turn(2)
    queue = panel.running.queue
    assert queue.viewport().rect().contains(queue.visualItemRect(queue.item(1)).center())
    assert queue.visualItemRect(queue.item(1)).bottom() <= queue.viewport().rect().bottom()
    assert queue.item(1).toolTip().endswith("title 1")


def test_many_waiting_runs_are_closed_at_once(panel: Any) -> None:
    for number in range(300):
        panel.desk.runs.add(f"run {number}", Ends, lambda outcome: None)
    wait(lambda: panel.desk.runs.entries[0].state == "running", "the first has begun")
    begun = time.monotonic()
    panel.desk.close()
    assert time.monotonic() - begun < 0.5


def test_threads_go_on_while_the_window_keeps_python_to_itself(panel: Any) -> None:
    """As Slicer does between two ticks: it waits for its user with Python's lock held."""
    count, stop = [0], threading.Event()

    def work() -> None:
        while not stop.is_set():
            time.sleep(0)  # gives the lock up, as each small reading and writing does
            count[0] += 1

    panel._timer.stop()
    held, thread = ctypes.PyDLL(None), threading.Thread(target=work)
    panel.desk.asks.ask("slow", Talking(), lambda event: None)
    thread.start()
    try:
        for _ in range(10):
            panel._tick()
            held.usleep(30_000)
    finally:
        stop.set()
        thread.join()
    assert count[0] > 400


def test_clicks_that_start_nothing_leave_nothing(panel: Any) -> None:
    for _ in range(20):
        panel.running.apply.click()
        panel.apply()
    assert len(panel._applies) <= 1


def test_the_bar_says_what_it_shows(panel: Any) -> None:
    turn(1)
    assert panel.running.bar.text() == "0 %"


def test_a_file_to_be_written_is_asked_for_as_such(panel: Any, monkeypatch: Any) -> None:
    asked: list[str] = []
    for way in ("getSaveFileName", "getOpenFileName"):
        monkeypatch.setattr(ctk.QFileDialog, way, lambda *_, way=way: (asked.append(way), ("", ""))[1])
    panel.corrections.file._choose()
    panel.place.authority._choose()
    assert asked == ["getSaveFileName", "getOpenFileName"]


def test_medseg_comes_from_the_source_around_the_extension(panel: Any) -> None:
    root = Path(__file__).parents[3]
    assert Path(panel.place.creating.source.text()) == root


@pytest.mark.parametrize("level", ["ok", "look", "stop", ""])
def test_colours_can_be_read(level: str) -> None:
    def light(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    text, dark = light(pieces.COLOURS[level]) + 0.05, light("#2b2b2b") + 0.05
    assert 1.05 / text >= 4.5
    assert text / dark >= 3
