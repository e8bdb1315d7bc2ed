"""Models that stay loaded: those used last are kept."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

from medseg.engine import device as devices
from medseg.engine import folds
from medseg.engine.bench import Bench
from medseg.engine.predict import Predictor
from medseg.engine.run import EXTRAS, PARTS
from medseg.refusal import Refusal
from medseg.service.journal.job import Job
from medseg.service.settings.work import Work
from medseg.service.work import parameters

log = logging.getLogger(__name__)

Locate = Callable[[str], Sequence[Path]]
"""Of a model that jobs name: the run folders, or zipped ones, that this machine has of it."""
Stamp = tuple[tuple[str, int, int, int], ...]
"""Of the files that a model is: path, time of change in ns, size in bytes, inode."""


def at_its_path(model: str) -> list[Path]:
    """Where jobs say."""
    return [Path(model)]


class Loaded:
    """Benches by the kind of their jobs."""

    def __init__(self, work: Work, locate: Locate):
        """
        Args:
            work: how many are kept, and where they compute.
        """
        self._work, self._locate = work, locate
        self._benches: OrderedDict[str, tuple[Stamp, Stamp, Bench]] = OrderedDict()

    def bench(self, job: Job) -> Bench:
        """For this job and others of its kind. A model that was replaced where it lies is loaded anew.

        Raises:
            Refusal: the model cannot be loaded, or is there no more (with the code `model`), or cannot be used so.
        """
        if self.current(job):
            self._benches.move_to_end(job.kind)
            return self._benches[job.kind][-1]
        asked = parameters.of(job)
        self._benches.pop(job.kind, None)
        while len(self._benches) >= self._work.models:
            self._benches.popitem(last=False)
        devices.give_back(after_error=True)  # a model's parts hold each other in circles
        try:
            runs = self._locate(job.model)
            stamp = _stamp(runs)  # before it is read: what is replaced meanwhile is seen next time
            predictor = Predictor.load(
                runs,
                device=self._work.device,
                changes=asked.changes,
                quality=asked.quality,
                labels=asked.labels,
            )
        except Refusal as refusal:
            parts = {"found": refusal.found, "needed": refusal.needed, "remedy": refusal.remedy}
            raise Refusal(refusal.where, **parts, code="model") from refusal
        log.info("a model is loaded", extra={"facts": {"model": predictor.provenance["model"], "kind": job.kind[:12]}})
        bench = Bench.of(predictor, asked.outputs, announce=lambda text: None)
        self._benches[job.kind] = stamp, _stamp(_coarse(bench)), bench
        return bench

    def away(self, job: Job) -> bool:
        """Whether nothing at all lies where the model of a job should be."""
        try:
            return not all(path.exists() for path in self._locate(job.model))
        except Refusal:  # no model of this name is installed
            return False

    def current(self, job: Job) -> bool:
        """Whether the model of a job is loaded, as it lies there now."""
        if job.kind not in self._benches:
            return False
        try:
            stamp, of_coarse, bench = self._benches[job.kind]
            return _stamp(self._locate(job.model)) == stamp and _stamp(_coarse(bench)) == of_coarse
        except Refusal:  # `bench` says why
            return False


def _coarse(bench: Bench) -> list[Path]:
    """The model that looks first, where there is one."""
    predictor = bench.predictor
    return [predictor.settings.coarse] if predictor.coarse and predictor.settings.coarse else []


def _stamp(runs: Sequence[Path]) -> Stamp:
    """
    Raises:
        Refusal: of a cross-validation's folds, not all are there.
    """
    found = []
    for run in folds.run_folders(runs):
        for path in [run] if run.is_file() else [run / name for name in (*PARTS, *EXTRAS)]:
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            found.append((str(path), status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(found)
