"""The queue: one at a time, in order, each ending told once, and nothing that a run does stops the others."""

from __future__ import annotations

import pytest

from MedSegLib.background import Background, Talk
from MedSegLib.runs import MOST_LINES, About, Runs
from MedSegLib.words import Failure
from MedSegLib.work import CANCELLED, DONE, FAILED, Event, Line, Outcome, Progress
from tests.slicer.program import finished, until


class Played:
    """A run whose events the test puts in."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.cancelled = 0

    def poll(self) -> list[Event]:
        found, self.events = self.events, []
        return found

    def cancel(self) -> None:
        self.cancelled += 1
        self.events.append(Outcome(CANCELLED))


@pytest.fixture
def queue():
    """Runs, the runs that were begun, and what was told of their ends."""
    runs, begun, told = Runs(), [], []

    def add(title: str) -> int:
        def start() -> Played:
            begun.append((title, Played()))
            return begun[-1][1]

        return runs.add(title, start, lambda outcome: told.append((title, outcome.state)))

    return runs, add, begun, told


def test_they_go_one_after_the_other(queue):
    runs, add, begun, told = queue
    assert [add("a"), add("b"), add("c")] == [1, 2, 3]
    for _ in range(3):
        runs.poll()
    assert [title for title, _ in begun] == ["a"] and [one.state for one in runs.entries] == [
        "running",
        "waiting",
        "waiting",
    ]
    for number in range(3):
        begun[number][1].events.append(Outcome(DONE))
        runs.poll()
    assert told == [("a", DONE), ("b", DONE), ("c", DONE)] and [title for title, _ in begun] == ["a", "b", "c"]
    runs.poll()
    assert len(told) == 3 and all(one.over and one.progress.percent == 100 for one in runs.entries)


def test_one_that_waits_is_taken_out(queue):
    runs, add, begun, told = queue
    add("a"), add("b"), add("c")
    runs.poll()
    runs.cancel(2)
    assert runs.entries[1].state == CANCELLED and told == []  # only poll tells
    begun[0][1].events.append(Outcome(DONE))
    runs.poll()
    runs.poll()
    assert sorted(told) == [("a", DONE), ("b", CANCELLED)] and [title for title, _ in begun] == ["a", "c"]


def test_one_that_runs_is_ended_and_the_next_begins(queue):
    runs, add, begun, told = queue
    add("a"), add("b")
    runs.poll()
    runs.cancel(1)
    assert begun[0][1].cancelled == 1
    runs.poll()
    assert told == [("a", CANCELLED)] and [title for title, _ in begun] == ["a", "b"]
    runs.cancel(1)
    assert begun[0][1].cancelled == 1 and runs.entries[0].state == CANCELLED and begun[1][1].cancelled == 0


def test_all_are_ended_when_slicer_closes(queue):
    runs, add, begun, told = queue
    add("a"), add("b"), add("c")
    runs.poll()
    runs.close()
    runs.poll()
    assert [one.state for one in runs.entries] == [CANCELLED] * 3 and len(begun) == 1 and len(told) == 3


def test_progress_never_falls_and_is_whole_only_at_the_end(queue):
    runs, add, begun, _ = queue
    add("a")
    runs.poll()
    shown = []
    for percent in (10, 5, 60, 100, 40):
        begun[0][1].events.append(Progress(percent, "segmenting", 3.0))
        runs.poll()
        shown.append(runs.entries[0].progress.percent)
    assert shown == [10, 10, 60, 99, 99] and runs.entries[0].progress.stage == "segmenting"
    begun[0][1].events.append(Outcome(DONE))
    runs.poll()
    assert runs.entries[0].progress.percent == 100


def test_one_that_failed_is_not_whole_and_says_why(queue):
    runs, add, begun, _ = queue
    add("a")
    runs.poll()
    begun[0][1].events += [Progress(100, "segmenting"), Outcome(FAILED, failure=Failure("No room.", "Free some."))]
    runs.poll()
    entry = runs.entries[0]
    assert entry.state == FAILED and entry.progress.percent == 99 and entry.log[-1] == "No room. Free some."


def test_the_log_is_bounded(queue):
    runs, add, begun, _ = queue
    add("a")
    runs.poll()
    begun[0][1].events += [Line(str(number)) for number in range(3 * MOST_LINES)]
    runs.poll()
    assert list(runs.entries[0].log) == [str(number) for number in range(2 * MOST_LINES, 3 * MOST_LINES)]


def test_lines_are_counted_although_the_first_are_gone(queue):
    runs, add, begun, _ = queue
    add("a")
    runs.poll()
    begun[0][1].events += [Line("x")] * (3 * MOST_LINES) + [Outcome(FAILED, failure=Failure("No room."))]
    runs.poll()
    assert runs.entries[0].said == 3 * MOST_LINES + 1 and len(runs.entries[0].log) == MOST_LINES


def test_what_is_private_is_that_of_when_it_was_added_and_begun():
    known = {"old volume"}
    runs = Runs(lambda: known)
    about = About()
    runs.add("a", Played, lambda outcome: None)
    runs.add("b", Played, lambda outcome: None, about)
    first, second = runs.entries
    known = {"new volume"}
    runs.poll()
    known = {"last volume"}
    assert first.secrets == {"old volume", "new volume"} and second.secrets == {"old volume"}
    assert second.about is about and first.about == About() and "volume" not in repr(first)


def test_one_that_cannot_be_begun_stops_nobody(queue):
    runs, add, begun, told = queue

    def start() -> Played:
        raise PermissionError(13, "Permission denied", "/some/where")

    runs.add("broken", start, lambda outcome: told.append(("broken", outcome.state)))
    add("b")
    runs.poll()
    runs.poll()
    assert told == [("broken", FAILED)] and [title for title, _ in begun] == ["b"]
    assert "Permission denied" in runs.entries[0].outcome.failure.what


def test_one_that_cannot_be_heard_stops_nobody(queue):
    runs, add, begun, told = queue
    add("a"), add("b")
    runs.poll()
    begun[0][1].poll = lambda: 1 / 0
    runs.poll()
    assert told == [("a", FAILED)] and begun[0][1].cancelled == 1 and [title for title, _ in begun] == ["a", "b"]


def test_a_result_that_cannot_be_shown_is_a_failure_and_stops_nobody(queue):
    runs, add, begun, _ = queue
    runs.add("a", Played, lambda outcome: 1 / 0)
    add("b")
    runs.poll()
    runs._current[1].events.append(Outcome(DONE))
    runs.poll()
    assert runs.entries[0].state == FAILED and "division by zero" in runs.entries[0].outcome.failure.detail
    assert [title for title, _ in begun] == ["b"]


def test_an_ending_is_told_once_even_if_a_dialogue_polls_within(queue):
    runs, add, begun, _ = queue
    calls = []

    def ended(outcome: Outcome) -> None:
        calls.append(outcome.state)
        runs.poll()

    runs.add("a", Played, ended)
    add("b")
    runs.poll()
    runs._current[1].events.append(Outcome(DONE))
    runs.poll()
    assert calls == [DONE] and [title for title, _ in begun] == ["b"]


def test_a_function_becomes_a_run():
    def work(talk: Talk) -> Outcome:
        talk.progress(30, "half")
        talk.progress(20, "still")
        talk.progress(100, "almost")
        talk.line("a line")
        return Outcome(DONE, facts={"x": 1})

    events = finished(Background(work))
    assert [one.percent for one in events if isinstance(one, Progress)] == [30, 30, 99, 100]
    assert Line("a line") in events and events[-1].facts == {"x": 1}


def test_a_function_that_raises_becomes_a_failure():
    def work(talk: Talk) -> Outcome:
        raise OSError(28, "No space left on device")

    outcome = finished(Background(work))[-1]
    assert outcome.state == FAILED and outcome.failure.code == "disk-full" and "Traceback" not in str(outcome.failure)


def test_a_function_that_is_cancelled_is_never_done():
    def work(talk: Talk) -> Outcome:
        talk.stopped.wait(30)
        return Outcome(DONE)

    run = Background(work)
    run.cancel()
    events = finished(run)
    assert events == [Outcome(CANCELLED)] and run.poll() == []


def test_a_run_that_nobody_polls_does_not_fill_the_memory():
    def work(talk: Talk) -> Outcome:
        for number in range(100_000):
            talk.line(str(number))
        return Outcome(DONE)

    run = Background(work)
    until(lambda: run._outcome is not None)
    events = run.poll()
    assert len(events) < 3000 and events[-1].state == DONE and Line("99999") in events
