"""Prepare all cases of a data set into the cache: in parallel, resumable at any moment, never half-written."""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import filelock

from medseg.atomic import DISK_FULL, remove_partial
from medseg.case import Case, CaseSet
from medseg.data.cache import Cache, Contents, cache_key, is_complete, write_case
from medseg.engine import unknown
from medseg.engine.load import Read, load_case, load_valid
from medseg.engine.parallel import Progress, Stop, for_each
from medseg.labels import LabelTable
from medseg.plan import Plan
from medseg.refusal import Refusal
from medseg.transforms import prepare as transform

log = logging.getLogger(__name__)

SOURCES = "sources.json"


def prepare(
    cases: CaseSet,
    plan: Plan,
    *,
    folder: Path,
    read: Read,
    reading: Mapping[str, Any] | None = None,
    unknown_labels: Literal["refuse", "background"] = "refuse",
    workers: int = 0,
    progress: Progress | None = None,
    verify: bool = False,
) -> dict[str, Path]:
    """Prepare what the cache does not have yet.

    Args:
        cases: of one data set; cases without a label map are prepared without.
        plan: how.
        folder: of the cache; several plans may share it; of two runs at the same time, one waits.
        read: path -> Volume; picklable when `workers` is above 1.
        reading: settings of `read` that are not the usual ones; cases read otherwise are prepared anew.
        unknown_labels: whether numbers that the label table does not name are refused, or count as background.
        workers: processes; 0 or 1 works in this one.
        progress: called with (cases done, cases in all, case id).
        verify: compare the sha256 of what is there already, and not only the sizes.

    Returns:
        Folder of every case, by id, for `data.cache.open_case` and `data.patches.PatchSource`.

    Raises:
        Refusal: some cases were refused (every other one is prepared), or the disk is full.
    """
    with _alone(folder):
        cache = Cache(folder, cache_key(plan, cases.labels, reading))
        return _prepare(cases, plan, cache, read, unknown_labels, workers, progress, verify)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One preparation at a time in a cache folder; the system gives the lock back when a process is killed."""
    with _refusing_full_disk(folder, needed=1):
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            log.warning("another run is preparing cases in %s; waiting for it", folder)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _prepare(
    cases: CaseSet,
    plan: Plan,
    cache: Cache,
    read: Read,
    unknown_labels: str,
    workers: int,
    progress: Progress | None,
    verify: bool,
) -> dict[str, Path]:
    remove_partial(cache.folder)
    places, refused = _places(cases, cache)
    todo = [
        (case.id, (case, places[case.id]))
        for case in cases.cases
        if case.id in places and not is_complete(places[case.id], verify=verify)
    ]
    for_each(
        partial(_prepare_one, plan=plan, table=cases.labels, read=read, unknown_labels=unknown_labels),
        todo,
        workers=workers if len(todo) > 1 else 0,
        progress=progress,
        doing="preparing",
        refused=refused,
        done=len(places) - len(todo),
    )
    return places


def _places(cases: CaseSet, cache: Cache) -> tuple[dict[str, Path], dict[str, Refusal]]:
    """Folder of every case, which hangs on the content of its files; and the cases whose files cannot be read."""
    contents = Contents(cache.folder / SOURCES)
    places: dict[str, Path] = {}
    refused: dict[str, Refusal] = {}
    for case in cases.cases:
        try:
            places[case.id] = cache.place(case, contents.of(case))
        except Refusal as refusal:
            refused[case.id] = refusal
    with _refusing_full_disk(cache.folder, needed=1):
        cache.folder.mkdir(parents=True, exist_ok=True)
        contents.save()
    return places, refused


def _prepare_one(item: tuple[Case, Path], *, plan: Plan, table: LabelTable, read: Read, unknown_labels: str) -> None:
    """One case from its files to its folder in the cache."""
    case, place = item
    image, labels = load_case(case, read, policy=plan.channels_on_other_grids, table=table, steps=plan.steps)
    if labels is not None and unknown_labels == "refuse":
        remedy = "set prepare.unknown_labels to background"
        unknown.refuse(case.target or case.id, labels, table, remedy=remedy)
    valid = load_valid(case, image, read) if plan.steps else None
    array, undo = transform.image(image, plan, valid=valid, square=table.unit == "image")
    target = None if labels is None else transform.target(labels, undo, table)
    if table.unit == "image" and case.classes is not None:
        target = table.encode_classes(case.classes)
    del image, labels
    needed = array.nbytes + (0 if target is None else target.nbytes)
    with _refusing_full_disk(place.parent, needed=needed):
        write_case(place, case.id, array, target, undo, table)


@contextlib.contextmanager
def _refusing_full_disk(folder: Path, *, needed: int) -> Iterator[None]:
    """What `write_case` and `atomic` had begun is removed already when this speaks."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        free = shutil.disk_usage(folder).free
        raise Stop(
            folder,
            found=f"a full disk ({math.floor(free / 2**20)} MiB free)",
            needed=f"{math.ceil(needed / 2**20)} MiB for the next case alone",
            remedy="free some space or name another cache folder, then run again; what is finished stays",
        ) from error
