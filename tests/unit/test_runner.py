"""A case that fails does not stop the others; a batch that is stopped leaves a record of what was done."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.case import Case
from medseg.engine import stages
from medseg.engine.runner import Steps, run_all
from medseg.progress import Cancelled
from medseg.refusal import Refusal

CASES = [Case(name, name, {"CT": Path(name)}) for name in ("good", "refused", "broken", "fine")]
PATIENCE_S = 30
both = pytest.mark.parametrize("ahead", [False, True], ids=["alone", "ahead"])


def work(case: Case) -> Steps:
    if case.id == "refused":
        raise Refusal("x.nii", found="a", needed="b", remedy="c")
    yield
    if case.id == "broken":
        raise ZeroDivisionError("division by zero")
    yield
    return (f"{case.id}.nii",), {"ml": 1}


@both
def test_every_case_has_its_outcome(ahead):
    outcomes = list(run_all(CASES, work, ahead=ahead))
    assert [(outcome.case, outcome.state, outcome.files) for outcome in outcomes] == [
        ("good", "done", ("good.nii",)),
        ("refused", "refused", ()),
        ("broken", "failed", ()),
        ("fine", "done", ("fine.nii",)),
    ]
    assert outcomes[1].reason == "x.nii: found a; needed b. What to do: c."
    assert outcomes[2].reason == "ZeroDivisionError: division by zero"
    assert outcomes[0].to_json()["facts"] == {"ml": 1} and outcomes[0].seconds >= 0


STEPS = ("read", "network", "write", "use")


@settings(max_examples=60, deadline=None)
@given(
    failing=st.lists(st.sampled_from([None, *STEPS]), max_size=6),
    ahead=st.booleans(),
)
def test_failures_stay_with_their_case_and_order_is_kept(failing, ahead):
    """Whichever step of whichever cases fails, in whichever thread."""
    cases = [Case(str(number), "p", {"CT": Path("x")}) for number in range(len(failing))]
    here, threads, held = threading.get_ident(), {}, set()
    most = 0

    def work(case: Case) -> Steps:
        nonlocal most
        held.add(case.id)
        most = max(most, len(held))
        try:
            for step in STEPS:
                threads.setdefault(step, set()).add(threading.get_ident() == here)
                with stages.stage(step):
                    if failing[int(case.id)] == step:
                        raise ZeroDivisionError(step)
                if step != STEPS[-1]:
                    yield
            return (case.id,), {}
        finally:
            held.discard(case.id)

    outcomes = list(run_all(cases, work, ahead=ahead))
    assert [(one.case, one.state, one.reason) for one in outcomes] == [
        (str(number), "failed", f"ZeroDivisionError: {step}") if step else (str(number), "done", "")
        for number, step in enumerate(failing)
    ]
    for one, step in zip(outcomes, failing, strict=True):
        assert [stage["name"] for stage in one.stages] == list(STEPS[: STEPS.index(step) + 1 if step else None])
    assert threads.get("network", {True}) == threads.get("use", {True}) == {True}
    assert threads.get("read", {not ahead}) == threads.get("write", {not ahead}) == {not ahead}
    assert most <= (3 if ahead else 1) and not held


def test_neighbours_are_worked_on_beside_the_network():
    """The network of the second case waits until the third is read and the first is written: alone that never ends."""
    read, written = {str(number): threading.Event() for number in range(3)}, threading.Event()
    cases = [Case(name, name, {"CT": Path(name)}) for name in read]

    def work(case: Case) -> Steps:
        read[case.id].set()
        yield
        if case.id == "1":
            assert read["2"].wait(PATIENCE_S) and written.wait(PATIENCE_S)
        yield
        written.set()
        return (), {}

    assert [one.state for one in run_all(cases, work, ahead=True)] == ["done"] * 3


@both
def test_threads_see_the_context_of_the_batch(ahead):
    setting: ContextVar[str] = ContextVar("setting")
    seen = []

    def work(case: Case) -> Steps:
        for _ in STEPS[1:]:
            seen.append(setting.get())
            yield
        return (), {}

    token = setting.set("on disk")
    try:
        list(run_all(CASES[:2], work, ahead=ahead))
    finally:
        setting.reset(token)
    assert seen == ["on disk"] * 6


def stopping(stop: BaseException, at: str) -> Callable[[Case], Steps]:
    """Work that is stopped in a step of the second case."""

    def work(case: Case) -> Steps:
        for step in STEPS[:-1]:
            with stages.stage(step):
                if case.id == "refused" and step == at:
                    raise stop
            yield
        return (f"{case.id}.nii",), {}

    return work


@both
@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Cancelled()], ids=["interrupt", "cancel"])
def test_a_stop_ends_the_batch_and_what_was_begun_is_on_record(stop, ahead):
    outcomes, threads = [], threading.active_count()
    try:
        run = run_all(CASES, stopping(stop, "network"), ahead=ahead)
        outcomes.extend((outcome.case, outcome.state, outcome.files) for outcome in run)
    except KeyboardInterrupt:
        outcomes.append("interrupt")
    first = outcomes.pop(0)
    assert first == ("good", "done", ("good.nii",)) or (ahead and first == ("good", "cancelled", ()))
    assert outcomes == [("refused", "cancelled", ()), *(["interrupt"] if isinstance(stop, KeyboardInterrupt) else [])]
    assert threading.active_count() == threads


def test_what_is_written_when_the_batch_stops_is_done():
    written = threading.Event()

    def work(case: Case) -> Steps:
        yield
        if case.id != "good":
            assert written.wait(PATIENCE_S)
            raise Cancelled
        yield
        written.set()
        yield
        return ("good.nii",), {}

    outcomes = [(one.case, one.state, one.files) for one in run_all(CASES, work, ahead=True)]
    assert outcomes == [("good", "done", ("good.nii",)), ("refused", "cancelled", ())]


def test_what_a_thread_is_at_ends_at_its_next_stage():
    """Cancelled while the first case is being written, in very many files; and nothing of it stays either."""
    begun = threading.Event()
    arrays: list[weakref.ref[np.ndarray]] = []

    def work(case: Case) -> Steps:
        scan = np.zeros(10)
        arrays.append(weakref.ref(scan))
        yield
        if case.id != "good":
            assert begun.wait(PATIENCE_S)
            raise Cancelled
        yield
        patience = time.monotonic() + PATIENCE_S
        while time.monotonic() < patience:
            with stages.stage("write"):
                begun.set()
        return (str(scan.size),), {}

    gc.disable()
    try:
        outcomes = [(one.case, one.state) for one in run_all(CASES, work, ahead=True)]
        assert outcomes == [("good", "cancelled"), ("refused", "cancelled")]
        assert [array() for array in arrays] == [None] * len(arrays)
    finally:
        gc.enable()


@both
def test_whoever_is_told_of_a_stage_can_cancel(ahead):
    said = []

    def told(case: Case, stage: str) -> None:
        said.append((case.id, stage))
        if said[-1] == ("refused", "network"):
            raise Cancelled

    outcomes = list(run_all(CASES, stopping(Cancelled(), "never"), ahead=ahead, on_stage=told))
    assert [one.case for one in outcomes] == ["good", "refused"] and outcomes[1].state == "cancelled"
    assert said[-1] == ("refused", "cancelled")
    assert said.count(("good", outcomes[0].state)) == 1


@both
def test_nothing_of_a_cancelled_case_stays_in_memory(ahead):
    arrays: list[weakref.ref[np.ndarray]] = []

    def work(case: Case) -> Steps:
        scan = np.zeros(10)
        arrays.append(weakref.ref(scan))
        yield
        if case.id == "refused":
            raise Cancelled
        yield
        yield
        return (str(scan.size),), {}

    gc.disable()  # nor does it wait for the collector
    try:
        outcomes = list(run_all(CASES, work, ahead=ahead))
        assert outcomes[1].state == "cancelled" and len(arrays) >= 2
        assert [array() for array in arrays] == [None] * len(arrays)
    finally:
        gc.enable()


def test_a_batch_that_nobody_wants_any_more_ends_its_threads():
    threads = threading.active_count()
    run = run_all(CASES, work, ahead=True)
    next(run)
    run.close()
    assert threading.active_count() == threads
