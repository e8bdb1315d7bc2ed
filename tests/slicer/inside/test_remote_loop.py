"""Qt's event loop goes on while a service is asked: the longest gap between the ticks of a timer."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QCoreApplication, QTimer

from MedSegLib.remote import Remote
from MedSegLib.work import CANCELLED, DONE, Event, Order, Outcome, Progress, Run

TICK_MS, POLL_MS = 10, 100
LONGEST_GAP_S = 0.1
WAIT_MS = 120_000


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[dict[str, str]]:
    """`medseg serve` and `medseg work`, in the environment that has medseg."""
    command = [os.environ["MEDSEG_PYTHON"], "-m", "tests.slicer.serving", str(tmp_path_factory.mktemp("site"))]
    root = os.environ["MEDSEG_ROOT"]
    with subprocess.Popen(
        command,
        cwd=root,
        env={**os.environ, "PYTHONPATH": root},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdin and running.stdout
        yield json.loads(running.stdout.readline())
        running.stdin.close()
        running.wait(timeout=60)


class Window:
    """What a panel does: a timer polls, another shows that the loop lives. It ends with the run, or after `WAIT_MS`."""

    def __init__(self, run: Run, *, cancel_at: str = ""):
        self.application = QCoreApplication.instance() or QCoreApplication([])
        self.run, self.cancel_at, self.events = run, cancel_at, list[Event]()
        self.gap, self.cancelled_at, self._last = 0.0, 0.0, time.perf_counter()
        self._timers = [QTimer(), QTimer()]
        self._timers[0].timeout.connect(self._tick)
        self._timers[1].timeout.connect(self._poll)
        self._timers[0].start(TICK_MS)
        self._timers[1].start(POLL_MS)
        QTimer.singleShot(WAIT_MS, self.application.quit)
        self.application.exec()
        for timer in self._timers:
            timer.stop()

    def _tick(self) -> None:
        now = time.perf_counter()
        self.gap, self._last = max(self.gap, now - self._last), now

    def _poll(self) -> None:
        for event in self.run.poll():
            self.events.append(event)
            if isinstance(event, Outcome):
                self.application.quit()
            elif isinstance(event, Progress) and self.cancel_at in event.stage and self.cancel_at:
                self.cancel_at, self.cancelled_at = "", time.perf_counter()
                self.run.cancel()

    @property
    def outcome(self) -> Outcome:
        last = self.events[-1]
        assert isinstance(last, Outcome), self.events
        return last


def order(folder: Path, scan: str, quality: str = "standard") -> Order:
    own = folder / f"läuft gerade {quality}"
    own.mkdir()
    return Order("x", "abdomen", (("image", Path(scan)),), own, quality=quality)


def test_the_loop_goes_on_while_a_scan_is_segmented(service, tmp_path):
    """On a machine that has other things to do, any program is late at times: the best of three counts."""
    gaps: list[float] = []
    for quality in ("standard", "fast", "best"):
        one = order(tmp_path, service["scan"], quality)
        window = Window(Remote(service["address"], service["token"]).start(one))
        assert window.outcome.state == DONE, window.outcome.failure
        percents = [event.percent for event in window.events if isinstance(event, Progress)]
        assert percents == sorted(percents) and percents[-1] == 100
        assert all(path.is_file() for path in window.outcome.files.values()) and window.outcome.files
        gaps.append(window.gap)
        if window.gap < LONGEST_GAP_S:
            break
    print(f"longest gaps of a {TICK_MS} ms timer: {', '.join(f'{gap * 1000:.0f} ms' for gap in gaps)}")
    assert min(gaps) < LONGEST_GAP_S


def test_the_loop_goes_on_while_nobody_answers(tmp_path):
    scan = tmp_path / "scan.nrrd"
    scan.write_bytes(b"NRRD")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        window = Window(Remote(address, "token").start(order(tmp_path, str(scan))), cancel_at="asking")
    assert window.outcome.state == CANCELLED and time.perf_counter() - window.cancelled_at < 2
    print(f"longest gap of a {TICK_MS} ms timer: {window.gap * 1000:.0f} ms")
    assert window.gap < LONGEST_GAP_S
