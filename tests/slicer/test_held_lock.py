"""Slicer's event loop keeps Python's lock (the GIL) while it waits, so that threads run only when a tick gives way."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

import pytest

from MedSegLib.background import Background
from MedSegLib.service.form import Form
from MedSegLib.steps import After, Before
from MedSegLib.work import DONE, Outcome
from tests.slicer.heard import WAIT_S

TICK_S = 0.03
TIMES = 500


@pytest.mark.skipif(os.name == "nt", reason="the system's own sleep goes by another name")
def test_a_look_gives_way_to_the_thread_that_works():
    def work(_: object) -> Outcome:
        for _ in range(TIMES):
            time.sleep(0)  # gives the lock away and waits for it, as each piece that is sent does
        return Outcome(DONE)

    held = ctypes.PyDLL(None)  # calls that keep the lock
    for begin in (lambda: Background(work), lambda: After("first", work, lambda: Before([Outcome(DONE)]))):
        run, ticks, end = begin(), 0, time.monotonic() + WAIT_S
        while not any(isinstance(event, Outcome) for event in run.poll()):
            assert time.monotonic() < end
            held.usleep(ctypes.c_uint(int(TICK_S * 1e6)))
            ticks += 1
        assert ticks < TIMES / 10, run


def test_what_is_sent_goes_in_few_pieces(tmp_path: Path):
    (tmp_path / "scan").write_bytes(bytes(8 << 20))
    form = Form({}, (("image", tmp_path / "scan"),))
    blocks = list(form.blocks())
    assert sum(map(len, blocks)) == form.size and len(blocks) < 40
