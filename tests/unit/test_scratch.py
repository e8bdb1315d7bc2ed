"""Arrays on disk that several threads make and let go of."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

from medseg import scratch


@pytest.fixture
def hasty():
    """Threads take turns after every few steps."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_an_array_may_be_made_while_all_are_let_go(tmp_path, hasty):
    done, held = threading.Event(), []

    def make() -> None:
        with scratch.on_disk(tmp_path, above=0):
            while not done.is_set():
                held.append(scratch.zeros((1, 4, 4, 4), np.uint8))
                del held[:-300]

    maker = threading.Thread(target=make)
    maker.start()
    try:
        for _ in range(500):
            scratch.let_go_all()
    finally:
        done.set()
        maker.join()
