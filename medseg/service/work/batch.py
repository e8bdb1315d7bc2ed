"""`medseg batch`: cases become jobs of a journal, workers do them, and a table says what became of each."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medseg import config
from medseg.engine import folds
from medseg.engine.run import EXTRAS, PARTS, Run
from medseg.progress import Step
from medseg.refusal import Refusal
from medseg.service.journal import Journal
from medseg.service.journal.job import Asked, Job
from medseg.service.journal.states import ENDS
from medseg.service.journal.tail import Tail
from medseg.service.settings.site import Site
from medseg.service.settings.work import Work
from medseg.service.work import liveness, proof
from medseg.service.work.inputs import Input, Needs
from medseg.service.work.parameters import Parameters
from medseg.service.work.run import hands
from medseg.service.work.supervisor import Supervisor

ROUTE = "batch"
"""By which the jobs of batches are told from those of a site."""
JOURNAL, DOWNLOADS = "journal.sqlite", "downloads"
DICOM = "dicom."
RETRIED = ("failed", "quarantined", "cancelled")
SHOW_S = 0.5


@dataclass(frozen=True)
class Batch:
    """What is the same for all cases.

    Attributes:
        run: run folder, zipped run or folder of folds.
        out: folder of the results.
        journal: URL, or empty: a file in `out`.
    """

    run: Path
    out: Path
    parameters: Parameters
    work: Work = field(default_factory=Work)
    journal: str = ""

    @property
    def site(self) -> Site:
        """As workers are told of it."""
        return Site(name=ROUTE, data=self.out.absolute(), journal=self.journal, work=self.work)

    def needs(self) -> Needs:
        """
        Raises:
            Refusal: no run, or changes of settings that there are not.
        """
        first = Run.open(folds.run_folders([self.run])[0])
        changes = [text.removeprefix(DICOM) for text in self.parameters.changes if text.startswith(DICOM)]
        return Needs(first.plan.channels, config.changed(first.recipe.dicom, changes, key=DICOM))

    def fingerprint(self) -> str:
        """Of the model: another one under its name makes other jobs."""
        digest = hashlib.sha256()
        for folder in folds.run_folders([self.run]):
            run = Run.open(folder)
            for path in (run.path(name) for name in (*PARTS, *EXTRAS)):
                digest.update(proof.sha256(path).encode() if path.is_file() else b"none")
        return digest.hexdigest()


def fetched(inputs: Sequence[str], out: Path) -> list[Path]:
    """Paths as they are, and in place of DICOMweb addresses folders in `out` into which their studies were fetched."""
    found: list[Path] = []
    for one in inputs:
        if not one.startswith(("http://", "https://")):
            found.append(Path(one))
            continue
        from medseg.service.intake import dicomweb

        folder = out / DOWNLOADS / hashlib.sha256(one.encode()).hexdigest()[:12]
        found += dicomweb.download(one, folder)
    return found


def submit(batch: Batch, journal: Journal, inputs: Sequence[Input], *, who: str, retry: bool = False) -> list[int]:
    """Put a job on record for each input, and say which they are; what was done before is not done again.

    Args:
        retry: try those again that have failed, were put aside or cancelled.

    Raises:
        Refusal: the journal is a site's, or a case has the name of another one whose results are in the folder.
    """
    known = journal.jobs.find()
    if any(job.route != ROUTE for job in known):
        raise Refusal(
            batch.journal or batch.out / JOURNAL,
            found="the journal of a site",
            needed="one that holds batches alone: whoever runs a batch ends jobs without sending anything",
            remedy="name another database",
        )
    model = batch.fingerprint()
    asked = [_asked(batch, one, model) for one in inputs]
    for job in _replaced(asked, known):
        journal.jobs.cancel(job.id, who)
    with journal.database.write() as connection:  # a disk's pause for all of them, not for each
        jobs = [journal.jobs.submit(one, who=who, within=connection)[0] for one in asked]
    for job in jobs:
        if retry and job.state in RETRIED:
            journal.jobs.retry(job.id, who)
    return [job.id for job in jobs]


def _asked(batch: Batch, one: Input, model: str) -> Asked:
    parameters = batch.parameters.model_copy(update={"series": one.series})
    told = json.dumps([one.facts, model, str(batch.out.absolute())])  # into another folder it is another job
    return Asked(
        source=one.source,
        digest=hashlib.sha256(told.encode()).hexdigest(),
        case=one.case,
        model=str(batch.run.absolute()),
        parameters=parameters.to_json(),
        route=ROUTE,
        out=str(batch.out.absolute()),
        identity=one.identity,
    )


def _replaced(asked: Sequence[Asked], known: Sequence[Job]) -> list[Job]:
    """Jobs that still wait for what is now asked for otherwise.

    A later batch may do a case anew, but not put the results of another case in the place of its own.
    """
    wanted, waiting = {one.key for one in asked}, []
    there: dict[tuple[str, str], list[Job]] = {}
    for job in known:
        there.setdefault((job.out, job.case), []).append(job)
    for one in asked:
        for job in there.get((one.out, one.case), ()):
            if dict(one.source) != job.source:
                raise Refusal(
                    ", ".join(one.source.values()),
                    found=f"the name {one.case}, which {', '.join(job.source.values())} has in {one.out} already",
                    needed="a name for each",
                    remedy="choose another folder for the results",
                )
            if job.key not in wanted and job.state not in ENDS:
                waiting.append(job)
    return waiting


def run(
    batch: Batch,
    journal: Journal,
    jobs: Sequence[int],
    *,
    asked: Callable[[], int],
    show: Callable[[Step | str], None],
    ray: str = "",
) -> None:
    """Let workers do the jobs, until all have ended or `asked` says that nobody wants to wait.

    Args:
        ray: address of a cluster that does them; empty: this machine.
    """
    site = batch.site
    with liveness.supervising(site.data) as owner:
        watched = _Watched(journal, jobs, owner, show)
        if watched.over:
            return
        with hands(ray, site, journal, [str(batch.run.absolute())]) as (count, start):
            posts = [("worker", number) for number in range(min(count, len(jobs)))]
            supervisor = Supervisor(site, journal, posts, owner=owner, start=start)
            supervisor.run(ended=lambda: watched.over or bool(asked()), between=watched.look)
        watched.look(at_once=True)


class _Watched:
    """The jobs of a batch on their way to their ends, for whoever waits for them."""

    def __init__(self, journal: Journal, jobs: Sequence[int], owner: str, show: Callable[[Step | str], None]):
        self._journal, self._owner, self._show = journal, owner, show
        self._numbers = {job: number for number, job in enumerate(jobs, start=1)}
        self._open = {job.id for job in journal.jobs.find() if job.id in self._numbers and job.state not in ENDS}
        self._changes = Tail(journal.jobs, after=0)
        self._looked = float("-inf")

    @property
    def over(self) -> bool:
        return not self._open

    def look(self, *, at_once: bool = False) -> None:
        """Let go what was proven, and tell of what has changed since the last look."""
        if time.monotonic() - self._looked < SHOW_S and not at_once:
            return
        self._looked = time.monotonic()
        while proven := self._journal.jobs.take("proven", self._owner):
            self._journal.jobs.move(proven.id, self._owner, "sent", "nobody is to be sent it", keep=True)
            self._journal.jobs.move(proven.id, self._owner, "done")
        for _, event in self._changes.new():
            if event.job in self._open and event.state in ENDS:
                job = self._journal.jobs.get(event.job)
                if job.state in ENDS:  # and not tried again since
                    self._open.discard(job.id)
                    self._tell(job)
        for job in self._journal.jobs.find(states=["running"]):
            if job.id in self._open:
                share = round(100 * job.share)
                self._show(Step(job.case, self._numbers[job.id], len(self._numbers), job.stage, share, 100))

    def _tell(self, job: Job) -> None:
        done = len(self._numbers) - len(self._open)
        told = ", ".join(job.files) if job.state == "done" else job.reason
        self._show(f"[{done}/{len(self._numbers)}] {job.case}: {job.state}: {told}")
