"""Models are installed, chosen and removed by people, which goes on record."""

from __future__ import annotations

from pathlib import Path

from medseg.refusal import Refusal
from medseg.service import models
from medseg.service.journal import Journal
from medseg.service.journal.states import State
from medseg.service.models import Installed
from medseg.service.settings.folders import private
from medseg.service.settings.site import Site

NEED_IT: tuple[State, ...] = ("received", "checked", "queued", "running", "written")
"""States of jobs that may still load their model."""


def install(site: Site, run: Path, name: str, version: str, *, who: str, use: bool, code: bool) -> Installed:
    """`models.install`, and `models.use` if that is wanted, on record.

    Raises:
        Refusal: see there.
    """
    private(site.at(site.data))
    journal = Journal(site.journal_at)
    try:
        made = models.install(models.at(site), run, name, version, code=code)
        journal.audit.add(who, "install model", f"{made.name}@{made.version}", f"weights {made.weights}")
    finally:
        journal.close()
    return made if made.used or not use else choose(site, made.name, made.version, who=who)[1]


def choose(site: Site, name: str, version: str, *, who: str) -> tuple[str, Installed]:
    """`models.use`, on record; the version before it, and the one now in use.

    Raises:
        Refusal: see there.
    """
    folder = models.at(site)
    journal = Journal(site.journal_at)
    try:
        before = models.use(folder, name, version)
        journal.audit.add(who, "use model", f"{name}@{version}", f"before it: {before or 'none'}")
    finally:
        journal.close()
    return before, next(one for one in models.listed(folder) if (one.name, one.version) == (name, version))


def remove(site: Site, name: str, version: str, *, who: str, dry: bool) -> Path:
    """`models.remove`, on record, unless a job needs it; with `dry` nothing but the questions.

    Raises:
        Refusal: see there; or jobs that have not ended were given this version.
    """
    folder = models.at(site)
    path = models.find(folder, f"{name}@{version}")
    journal = Journal(site.journal_at)
    try:
        waiting = [job for job in journal.jobs.find(states=NEED_IT) if job.model == str(path)]
        if waiting:
            raise Refusal(
                path,
                found=f"{len(waiting)} jobs that are still to be done with it, such as job {waiting[-1].id}",
                needed="none",
                remedy="wait for them, or cancel them",
            )
        models.remove(folder, name, version, dry=dry)
        if not dry:
            journal.audit.add(who, "remove model", f"{name}@{version}")
    finally:
        journal.close()
    return path


def parted(name: str) -> tuple[str, str]:
    """NAME@VERSION as its two parts.

    Raises:
        Refusal: no version is named.
    """
    known, _, version = name.partition("@")
    if not version:
        raise Refusal(
            f"model {name}", found="no version", needed="NAME@VERSION", remedy="see `medseg models list` for them"
        )
    return known, version
