"""Work on many cases: order, failures, and a worker that dies."""

import os
import signal

import pytest

from medseg.engine.parallel import Stop, for_each
from medseg.refusal import Refusal


def work(number: int) -> int:
    if number == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    if number < 0:
        raise Refusal(f"file{number}", found="minus", needed="plus", remedy="turn it")
    if number == 7:
        raise Stop("disk", found="full", needed="room", remedy="delete")
    return 10 // number


def items(*numbers: int) -> list[tuple[str, int]]:
    return [(f"c{number}", number) for number in numbers]


def test_results_keep_their_order_and_progress_counts_on():
    said = []
    assert for_each(work, items(5, 2, 1), workers=0, doing="x", done=4, progress=lambda *a: said.append(a)) == {
        "c5": 2, "c2": 5, "c1": 10,
    }  # fmt: skip
    assert said == [(5, 7, "c5"), (6, 7, "c2"), (7, 7, "c1")]


def test_a_stop_stops_and_a_mistake_names_its_case():
    done = []
    with pytest.raises(Stop):
        for_each(work, items(1, 7, 2), workers=0, doing="x", progress=lambda *a: done.append(a[2]))
    assert done == ["c1"]
    with pytest.raises(ZeroDivisionError) as error:
        for_each(work, items(0, -1, 2), workers=0, doing="counting", progress=lambda *a: done.append(a[2]))
    assert error.value.__notes__ == ["while counting case c0"] and done == ["c1", "c0", "c-1", "c2"]


def test_refusals_before_and_during_are_listed_together():
    before = {"early": Refusal("gone.nii", found="nothing", needed="a file", remedy="find it")}
    with pytest.raises(Refusal, match=r"(?s)2 of 4 cases.*c-1: file-1.*early: gone\.nii"):
        for_each(work, items(1, -1, 2), workers=0, doing="x", refused=before)


def test_a_worker_that_dies_is_refused_with_a_way_on():
    with pytest.raises(Refusal, match="fewer workers than 2"):
        for_each(work, items(1, 13), workers=2, doing="x")
