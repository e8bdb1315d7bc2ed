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


def test_bars_on_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with progress.counting("reading", total=2) as done:
        done()
        done()
    with progress.share("segmenting") as show:
        for _ in range(2):
            show(1, 3)
            show(3, 3)
    text = terminal.getvalue()
    assert "reading" in text and "2/2" in text and "segmenting" in text and "3/3" in text
