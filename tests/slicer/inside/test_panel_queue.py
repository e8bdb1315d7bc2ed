"""The list of runs, and how the panel looks and says things; without a model."""

from __future__ import annotations

import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ctk
import opened
import pytest
from opened import turn, wait

from MedSegLib.panel import pieces
from MedSegLib.work import CANCELLED, DONE, Line, Outcome


@pytest.fixture
def panel(core: Any, scene: Any, tmp_path: Path) -> Iterator[Any]:
    with opened.panel(core, tmp_path / "s.ini") as one:
        yield one


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


def test_clicks_that_start_nothing_leave_nothing(panel: Any) -> None:
    panel.desk.backend = types.SimpleNamespace()
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


def test_a_long_path_makes_the_panel_no_wider(panel: Any) -> None:
    before = panel.holder.minimumSizeHint().width()
    long = "/data/" + "a" * 180
    pieces.state(panel.models.state, "stop", f"No such folder: {long}")
    panel.place.folder.currentPath = long
    turn(1)
    assert panel.holder.minimumSizeHint().width() == before
    assert long in panel.models.state.text().replace("\u200b", "")
