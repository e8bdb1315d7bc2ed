"""A site with one tiny model, and jobs for it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from medseg.service.journal import Journal
from medseg.service.journal.job import Asked, Job
from medseg.service.settings.site import Site
from medseg.service.settings.work import Work
from tests import tiny

PATIENCE_S = 300


def site(folder: Path, journal: str = "", **work: object) -> Site:
    settings = {"device": "cpu", "threads": 1, "workers": 1, "drain_s": 20} | work
    return Site(folder=folder, journal=journal, work=Work.model_validate(settings))


def scan(path: Path, seed: int = 0, shape: tuple[int, int, int] = (16, 16, 16)) -> Path:
    return tiny.nifti(path, np.random.default_rng(seed).normal(0, 40, shape).astype(np.int16))


def asked(model: Path, path: Path, out: Path, **more: object) -> Asked:
    """A job for a scan."""
    name = path.name.removesuffix(".nii.gz")
    digest = hashlib.sha256(str(path).encode()).hexdigest()
    return Asked({"all": str(path)}, digest, name, str(model), out=str(out), **more)  # type: ignore[arg-type]


def submitted(journal: Journal, one: Asked) -> Job:
    return journal.jobs.submit(one, who="test")[0]


def until(true: Callable[[], object], between: Callable[[], object] = lambda: None) -> None:
    """Wait, but not for ever."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, "this did not come to be"
        between()
        time.sleep(0.02)
