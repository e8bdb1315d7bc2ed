"""Work in several processes: in order, and a process that dies is a refusal in words."""

from __future__ import annotations

import os

import pytest

from medseg.cores import in_order
from medseg.refusal import Refusal


def where(item: int) -> tuple[int, int]:
    return item, os.getpid()


def die(item: int) -> int:
    return item if item != 3 else os._exit(7)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_results_come_in_order(workers: int) -> None:
    found = list(in_order(where, range(7), workers=workers, portion=2))
    assert [item for item, _ in found] == list(range(7))
    assert ({process for _, process in found} == {os.getpid()}) == (workers < 2)


def test_a_process_that_dies_is_refused() -> None:
    with pytest.raises(Refusal, match=r"worker process: found that it died.*--workers 1"):
        list(in_order(die, range(7), workers=2))
