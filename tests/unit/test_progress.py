"""Progress on a terminal, and in a log file."""

from __future__ import annotations

import io
import sys

import pytest

from medseg import progress


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
