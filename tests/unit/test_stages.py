"""Seconds and peaks of a case's stages."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from medseg.engine import stages
from medseg.progress import Cancelled
from tests.tiny import ENVIRONMENT


@pytest.fixture
def now(monkeypatch):
    """A clock that a test moves."""
    time = [0.0]
    monkeypatch.setattr(stages.time, "perf_counter", lambda: time[0])
    return time


def seconds(clock: stages.Clock) -> dict[str, float]:
    return {stage["name"]: stage["seconds"] for stage in clock.to_json()}


def test_stages_add_up(now):
    clock = stages.Clock()
    with stages.timed_by(clock):
        for spent in (1, 2):
            with stages.stage("prepare"):
                now[0] += spent
        with pytest.raises(ZeroDivisionError), stages.stage("write"):
            now[0] += 4
            raise ZeroDivisionError
    with stages.stage("nobody asks"):
        now[0] += 8
    assert seconds(clock) == {"prepare": 3, "write": 4}


def test_a_stage_within_another_is_not_counted_twice(now):
    clock = stages.Clock()
    with stages.timed_by(clock), stages.stage("outer"):
        now[0] += 1
        with stages.stage("inner"):
            now[0] += 2
            with stages.stage("outer"):
                now[0] += 4
        now[0] += 8
    assert list(seconds(clock).items()) == [("outer", 13), ("inner", 2)], "in the order of their beginning"


def test_making_and_using_take_turns(now):
    def make():
        for number in range(3):
            now[0] += 1
            yield number
        now[0] += 1

    clock, seen = stages.Clock(), []
    with stages.timed_by(clock):
        for number in stages.each("network", make(), between="reduce"):
            now[0] += 10
            seen.append(number)
    assert seen == [0, 1, 2] and seconds(clock) == {"network": 4, "reduce": 30}
    assert list(stages.each("network", make(), between="reduce")) == seen


def test_what_goes_wrong_between_is_counted_and_ends_the_making(now):
    closed = []

    def make():
        try:
            yield 1
        finally:
            closed.append(True)

    clock = stages.Clock()

    def use():
        for _ in stages.each("network", make(), between="reduce"):
            now[0] += 10
            raise ZeroDivisionError

    with stages.timed_by(clock), pytest.raises(ZeroDivisionError):
        use()
    assert closed and seconds(clock) == {"network": 0, "reduce": 10}


def test_stages_are_told_in_the_thread_that_made_the_clock():
    told: list[str] = []
    clock = stages.Clock(on_stage=told.append)

    def work(name: str) -> None:
        with stages.timed_by(clock), stages.stage(name):
            pass

    work("prepare")
    thread = threading.Thread(target=work, args=("write",))
    thread.start()
    thread.join()
    assert told == ["prepare"] and list(seconds(clock)) == ["prepare", "write"]


def test_no_stage_begins_once_stopped():
    stopped = threading.Event()
    clock = stages.Clock(stopped=stopped)
    with stages.timed_by(clock):
        rows = stages.each("network", range(3), between="reduce")
        next(rows)
        stopped.set()
        with pytest.raises(Cancelled):
            next(rows)
        with pytest.raises(Cancelled), stages.stage("write"):
            pass


PEAKS = """
import numpy as np
from medseg.engine import stages
clock = stages.Clock()
with stages.timed_by(clock):
    with stages.stage("before"): pass
    with stages.stage("much"): np.ones(2**25)
    with stages.stage("after"): pass
print(*(stage["peak_mib"] for stage in clock.to_json()))
"""


def test_the_peak_of_memory_is_that_so_far():
    """256 MiB, and a process of its own, because a peak never falls."""
    said = subprocess.run([sys.executable, "-c", PEAKS], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    before, much, after = map(float, said.stdout.split())
    assert 240 < much - before < 300 and after == pytest.approx(much, abs=10)


def test_the_peak_is_found_without_proc(monkeypatch, tmp_path):
    usual = stages.peak_mib()
    monkeypatch.setattr(stages, "STATUS", tmp_path / "none")
    assert stages.peak_mib() == pytest.approx(usual, rel=0.1)


def test_a_gpu_is_waited_for_and_its_peak_is_kept(monkeypatch):
    """A stand-in for one."""
    waited = []

    class Stream:
        def synchronize(self) -> None:
            waited.append(1)

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 * 2**20)
    clock = stages.Clock()
    with stages.timed_by(clock), stages.stage("network"):
        np.zeros(1)
    assert waited and clock.to_json()[0]["gpu_peak_mib"] == 3


def test_a_peak_never_falls(monkeypatch):
    """The kernel counts pages of each processor apart, and may be behind by a few."""
    told = iter([100.3, 100.2, None, 100.4])
    monkeypatch.setattr(stages, "peak_mib", lambda: next(told))
    clock = stages.Clock()
    with stages.timed_by(clock):
        for name in "abcd":
            with stages.stage(name):
                pass
    assert [one["peak_mib"] for one in clock.to_json()] == [100.3, 100.3, 100.3, 100.4]
