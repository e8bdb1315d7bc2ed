"""Progress on a terminal, in a log file, and for programs."""

from __future__ import annotations

import io
import json
import sys
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from medseg import progress
from medseg.progress import Cancelled, Course, Step
from medseg.refusal import Refusal


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_line_now_and_then_where_there_is_no_terminal(clock, capsys):
    with progress.counting("reading", total=5) as done:
        for seconds in (4, 8, 12, 16, 24):
            clock[0] = seconds
            done()
    assert capsys.readouterr().err.splitlines() == [
        "reading: 3/5, about 8 s left",
        "reading: 5/5, about 0 s left",
    ]


def test_shares_of_each_case(clock, capsys):
    with progress.share("segmenting") as show:
        for seconds, done in ((5, 1), (11, 2), (12, 1), (22, 2)):
            clock[0] = seconds
            show(done, 2)
    assert capsys.readouterr().err == "segmenting: 2/2\nsegmenting: 2/2\n"


def terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    return screen


def test_bars_on_a_terminal(clock, monkeypatch):
    screen = terminal(monkeypatch)
    with progress.counting("reading", total=2) as done:
        clock[0] = 3
        done()
        done()
    with progress.share("segmenting") as show:
        for _ in range(2):
            show(1, 3)
            show(3, 3)
    text = screen.getvalue()
    assert "reading" in text and "2/2" in text and "segmenting" in text and "3/3" in text


def test_what_is_soon_done_shows_no_bar(clock, monkeypatch):
    screen = terminal(monkeypatch)
    with progress.counting("reading", total=2) as done:
        clock[0] = 1
        done()
        done()
    assert screen.getvalue() == ""


def test_work_inside_of_other_work_shows_no_bar_of_its_own(clock, monkeypatch):
    screen = terminal(monkeypatch)
    with progress.counting("cases", total=1) as case:
        clock[0] = 3
        case()
        with progress.counting("slices", total=1) as slice_:
            clock[0] = 6
            slice_()
    assert "cases" in screen.getvalue() and "slices" not in screen.getvalue()


def test_a_case_is_told_of_in_tiles_megabytes_and_seconds(clock):
    """The first tile takes 10 s, for it warms up; those after it 2 s each."""
    steps: list[Step] = []
    assert str(Step("ct", 2, 3, "", 0, 100)) == "ct (2 of 3): starting, 0 %"  # a worker has it, and loads the model
    course = Course(steps.append, "ct", 2, 3)
    course.stage("read")
    course.megabytes = 80
    course.stage("prepare")
    course.stage("network")
    for done in range(1, 5):
        clock[0] += 10 if done == 1 else 2
        course.tiles(done, 4)
    course.stage("write")
    course.stage("write")
    course.stage("done")
    assert [str(step) for step in steps] == [
        "ct (2 of 3): reading",
        "ct (2 of 3): preparing",
        "ct (2 of 3): segmenting",
        "ct (2 of 3): segmenting, 25 %, 1/4 tiles, 20 of 80 MB, about 30 s left",
        "ct (2 of 3): segmenting, 50 %, 2/4 tiles, 40 of 80 MB, about 4 s left",
        "ct (2 of 3): segmenting, 75 %, 3/4 tiles, 60 of 80 MB, about 2 s left",
        "ct (2 of 3): segmenting, 100 %, 4/4 tiles, 80 of 80 MB, about 0 s left",
        "ct (2 of 3): writing, 100 %, 4/4 tiles, 80 of 80 MB",
        "ct (2 of 3): done, 100 %, 4/4 tiles, 80 of 80 MB",
    ]


def test_tiles_that_are_left_out_are_no_measure_of_speed(clock):
    """60 of 100 hold air and are told of at once; of the others each takes 3 s."""
    steps: list[Step] = []
    course = Course(steps.append, "ct", 1, 1)
    course.stage("network")
    course.tiles(60, 100)
    for done in range(61, 64):
        clock[0] += 3
        course.tiles(done, 100)
    assert [step.seconds_left for step in steps[2:]] == [3 * 39, 3 * 38, 3 * 37]


told = st.one_of(
    st.sampled_from(["read", "prepare", "network", "gate", "write"]),
    st.tuples(st.integers(0, 50), st.integers(0, 40)),
)


@given(st.lists(told))
@example([(1, 1), (0, 0), (0, 1)])
def test_what_is_told_is_never_more_than_all_and_never_less_than_before(events):
    """Whatever is planned anew in between."""
    steps: list[Step] = []
    course = Course(steps.append, "ct", 1, 1)
    for event in events:
        if isinstance(event, str):
            course.stage(event)
        else:
            course.tiles(*event)
    course.stage("done")
    known = [step for step in steps if step.total]
    assert all(0 <= step.done <= step.total for step in steps)
    assert all(a.done * b.total <= b.done * a.total for a, b in pairwise(known))
    assert steps[-1].share == 1 and all(step.seconds_left is None or step.seconds_left >= 0 for step in steps)


def test_who_is_told_can_end_the_work():
    def tell(step: Step) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        Course(tell, "ct", 1, 1).tiles(1, 2)


def test_a_log_gets_a_line_now_and_then_and_every_message(clock, capsys):
    with progress.cases() as show:
        for seconds in (1, 9, 11, 20, 21):
            clock[0] = seconds
            show(Step("ct", 1, 2, "network", seconds, 30, 60.0, 30.0 - seconds))
        show("[1/2] ct: done")
        clock[0] = 50
        show(Step("ct", 1, 2, "done", 30, 30, 60.0))
    assert capsys.readouterr().err.splitlines() == [
        "ct (1 of 2): segmenting, 37 %, 11/30 tiles, 22 of 60 MB, about 19 s left",
        "[1/2] ct: done",
    ]


def test_programs_get_an_object_a_line(clock, capsys):
    with progress.cases("json") as show:
        show(Step("ct", 1, 1, "read"))
        for tick in range(1, 11):
            clock[0] = tick / 8
            show(Step("ct", 1, 1, "network", tick, 10, 60.0, 1 - tick / 10))
        show(Step("ct", 1, 1, "done", 10, 10, 60.0))
        show("[1/1] ct: done")
    *objects, message = map(json.loads, capsys.readouterr().err.splitlines())
    assert message == {"message": "[1/1] ct: done"}
    assert [(one["stage"], one["done"]) for one in objects] == [
        ("read", 0),
        *(("network", done) for done in (1, 3, 5, 7, 9, 10)),
        ("done", 10),
    ]
    assert objects[3] == {
        "case": "ct",
        "number": 1,
        "cases": 1,
        "stage": "network",
        "done": 5,
        "total": 10,
        "megabytes": 60.0,
        "done_megabytes": 30.0,
        "seconds_left": 0.5,
    }


def test_one_bar_shows_the_cases(monkeypatch):
    screen = terminal(monkeypatch)
    with progress.cases() as show:
        show(Step("ct[1]", 1, 2, "read"))
        show("a word")
        show(Step("ct[1]", 1, 2, "network", 3, 4, 60.0, 12.0))
    text = screen.getvalue()
    assert "a word" in text and "ct[1] (1 of 2): segmenting, 75 %, 3/4 tiles" in " ".join(text.split())


def test_another_kind_is_refused():
    with pytest.raises(Refusal, match="found 'xml'; needed people or json"), progress.cases("xml"):
        pass
