"""The same work for many cases, in processes; what fails is collected, so that one bad file does not hide the next."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from medseg.refusal import Refusal

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int, int, str], None]
"""Called with (cases done, cases in all, id of the case just done)."""
LISTED = 20
"""Failures that a refusal spells out."""


class Stop(Refusal):
    """A refusal after which the other cases cannot succeed either (the disk is full)."""


def for_each(
    work: Callable[[Item], Result],
    items: Iterable[tuple[str, Item]],
    *,
    workers: int,
    progress: Progress | None = None,
    doing: str,
    refused: Mapping[str, Refusal] | None = None,
    done: int = 0,
) -> dict[str, Result]:
    """`work` on every item.

    Args:
        work: a function at the top of a module (or a partial of one), because processes are started afresh.
        items: (case id, argument).
        workers: 0 or 1 works in this process.
        progress: called after every case.
        doing: for the refusal.
        refused: cases that failed before it came to the work; they are listed with the others.
        done: how many cases were finished before, for `progress`.

    Returns:
        Results by case id, in the order of `items`.

    Raises:
        Refusal: some cases were refused (all others are done); it lists them with their files. A refused case that
            stops everything (`Stop`) is raised at once.
        Exception: the first that is no refusal, after all cases, with a note that names its case.
    """
    items = list(items)
    results: dict[str, Result] = {}
    failures: dict[str, Refusal] = dict(refused or {})
    unexpected: dict[str, Exception] = {}
    total = done + len(items) + len(failures)

    def finish(case: str, outcome: Callable[[], Result]) -> None:
        try:
            results[case] = outcome()
        except (Stop, BrokenProcessPool):
            raise
        except Refusal as refusal:
            failures[case] = refusal
        except Exception as error:  # a mistake of ours: it keeps its traceback, but does not cost the other cases
            error.add_note(f"while {doing} case {case}")
            unexpected[case] = error
        if progress is not None:
            progress(done + len(results) + len(failures) + len(unexpected), total, case)

    if workers <= 1:
        for case, item in items:
            finish(case, lambda item=item: work(item))  # type: ignore[misc]
    else:
        _in_processes(work, items, min(workers, len(items)), finish)
    if unexpected:
        raise next(iter(unexpected.values()))
    if failures:
        raise _together(failures, total, doing)
    return {case: results[case] for case, _ in items}


def _in_processes(
    work: Callable[[Item], Result],
    items: list[tuple[str, Item]],
    workers: int,
    finish: Callable[[str, Callable[[], Result]], None],
) -> None:
    """Hand out items so that no more wait than there are workers: a stop leaves little to undo."""
    context = multiprocessing.get_context("spawn")
    waiting = list(reversed(items))
    running: dict[Future[Result], str] = {}
    with ProcessPoolExecutor(max(1, workers), mp_context=context, initializer=_start_worker) as pool:
        try:
            while waiting or running:
                while waiting and len(running) < 2 * workers:
                    case, item = waiting.pop()
                    running[pool.submit(work, item)] = case
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    finish(running.pop(future), future.result)
        except BrokenProcessPool as error:
            raise Refusal(
                "worker process",
                found=f"that it died while working on one of: {', '.join(running.values())}",
                needed="enough memory for each worker",
                remedy=f"use fewer workers than {workers} (prepare.workers), then run again; what is finished stays",
            ) from error
        finally:
            for future in running:
                future.cancel()


def _start_worker() -> None:
    """One thread each, since there is a process per core; and no life after the parent's, even if that is killed."""
    import torch

    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _together(failures: dict[str, Refusal], total: int, doing: str) -> Refusal:
    """The refusal itself if there is one, else one that lists them."""
    if len(failures) == 1:
        return next(iter(failures.values()))
    listed = [f"{case}: {refusal}" for case, refusal in sorted(failures.items())][:LISTED]
    more = f"\n  and {len(failures) - LISTED} more" if len(failures) > LISTED else ""
    return Refusal(
        doing,
        found=f"{len(failures)} of {total} cases that were refused:\n  " + "\n  ".join(listed) + more + "\n",
        needed="every case",
        remedy="do what is said for each, or leave these cases out; the others are done and will not be repeated",
    )
