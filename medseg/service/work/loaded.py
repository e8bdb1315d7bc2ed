"""Models that stay loaded: those used last are kept."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

from medseg.engine import device as devices
from medseg.engine.bench import Bench
from medseg.engine.predict import Predictor
from medseg.refusal import Refusal
from medseg.service.journal.jobs import Job
from medseg.service.settings.work import Work
from medseg.service.work import parameters

log = logging.getLogger(__name__)

Locate = Callable[[str], Sequence[Path]]
"""Of a model that jobs name: the run folders, or zipped ones, that this machine has of it."""


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
        self._benches: OrderedDict[str, Bench] = OrderedDict()

    def bench(self, job: Job) -> Bench:
        """For this job and others of its kind.

        Raises:
            Refusal: the model cannot be loaded (with the code `model`), or not be used so.
        """
        if job.kind in self._benches:
            self._benches.move_to_end(job.kind)
            return self._benches[job.kind]
        asked = parameters.of(job)
        while len(self._benches) >= self._work.models:
            self._benches.popitem(last=False)
            devices.give_back(after_error=True)  # a model's parts hold each other in circles
        try:
            predictor = Predictor.load(
                self._locate(job.model),
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
        self._benches[job.kind] = bench
        return bench
