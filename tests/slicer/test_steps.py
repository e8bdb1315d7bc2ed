"""A run with a first part in a thread, and one with a folder of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from MedSegLib.job import Job
from MedSegLib.steps import After, Before
from MedSegLib.trouble import Trouble
from MedSegLib.work import CANCELLED, DONE, FAILED, Event, Line, Outcome, Progress, Run


def ended(run: Run) -> list[Event]:
    """All that it tells."""
    events: list[Event] = []
    end = time.monotonic() + 20
    while not (events and isinstance(events[-1], Outcome)):
        assert time.monotonic() < end
        events += run.poll()
        time.sleep(0.005)
    return events


def test_the_first_part_comes_before_the_rest() -> None:
    steps: list[str] = []
    go = threading.Event()

    def first(stopped: Callable[[], bool]) -> None:
        assert go.wait(20)
        steps.append("first")

    def then() -> Run:
        steps.append("then")
        return Before([Outcome(DONE)])

    run = After("looking", first, then)
    assert [run.poll(), run.poll()] == [[Progress(0.0, "looking")], []]
    go.set()
    assert ended(run) == [Outcome(DONE)]
    assert steps == ["first", "then"]


def test_a_first_part_that_fails_says_why_and_nothing_follows() -> None:
    def first(stopped: Callable[[], bool]) -> None:
        raise Trouble("The disk is gone.", "Connect it.", "files")

    outcome = ended(After("looking", first, lambda: Before([Outcome(DONE)])))[-1]
    assert isinstance(outcome, Outcome)
    assert (outcome.state, str(outcome.failure)) == (FAILED, "The disk is gone. Connect it.")


def test_cancelled_in_the_first_part_nothing_follows_and_nothing_waits() -> None:
    begun, go = threading.Event(), threading.Event()

    def first(stopped: Callable[[], bool]) -> None:
        begun.set()
        while not stopped():
            go.wait(0.01)

    run = After("looking", first, lambda: Before([Outcome(DONE)]))
    assert begun.wait(20)
    asked = time.monotonic()
    run.cancel()
    assert time.monotonic() - asked < 0.1
    assert ended(run)[-1] == Outcome(CANCELLED)
    assert run.poll() == []


def test_a_job_is_done_when_its_result_is_taken_over(tmp_path: Path) -> None:
    def begin(folder: Path) -> Run:
        (folder / "file").write_text("result")
        return Before([Line("begun"), Outcome(DONE, {"file": folder / "file"})])

    job = Job(begin, lambda done: done.files["file"].read_text(), tmp_path / "läuft hier")
    assert [type(event) for event in ended(job.start())] == [Line, Outcome]
    assert job.result == "result"
    assert list((tmp_path / "läuft hier").iterdir()) == []


def test_a_job_whose_result_cannot_be_taken_over_has_failed(tmp_path: Path) -> None:
    def end(done: Outcome) -> None:
        raise Trouble("It cannot be read.", "Run it again.")

    outcome = ended(Job(lambda folder: Before([Outcome(DONE)]), end, tmp_path / "hier").start())[-1]
    assert isinstance(outcome, Outcome)
    assert (outcome.state, str(outcome.failure)) == (FAILED, "It cannot be read. Run it again.")
    assert list((tmp_path / "hier").iterdir()) == []


def test_a_job_that_cannot_begin_leaves_no_folder(tmp_path: Path) -> None:
    def begin(folder: Path) -> Run:
        raise Trouble("The volume is gone.", "Load it.")

    (event,) = Job(begin, lambda done: None, tmp_path / "hier").start().poll()
    assert isinstance(event, Outcome)
    assert str(event.failure) == "The volume is gone. Load it."
    assert list((tmp_path / "hier").iterdir()) == []


def test_a_place_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "Datei").write_text("a file where a folder should be")
    (event,) = Job(lambda folder: Before([]), lambda done: None, tmp_path / "Datei").start().poll()
    assert isinstance(event, Outcome)
    assert event.state == FAILED
    assert event.failure is not None
    assert "folder" in str(event.failure)
