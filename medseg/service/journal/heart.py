"""While a process works on a job, a thread says so in the journal, and listens for what people want of it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from medseg.progress import Step
from medseg.service.journal.job import Job, Lost
from medseg.service.journal.jobs import Jobs

EVERY_S = 1.0


class Heart:
    """Beats for one job.

    Attributes:
        stop_asked: "", or in which state a person or a later revision wants the job to end.
        lost: whether the job is not this process's any more.
    """

    def __init__(self, jobs: Jobs, job: Job, owner: str):
        self.stop_asked, self.lost = job.stop_asked, False
        self._jobs, self._job, self._owner = jobs, job.id, owner
        self._stage, self._share = "", 0.0

    @property
    def wanted(self) -> bool:
        """Whether anybody still wants what is done."""
        return not self.lost and not self.stop_asked

    def tell(self, step: Step) -> None:
        """Where the work is; goes into the journal with the next beat."""
        self._stage, self._share = step.stage, step.share

    def beat(self) -> None:
        """Beat once; a job that is lost is not worked on any more, and nothing is said of it."""
        try:
            self.stop_asked = self._jobs.beat(self._job, self._owner, stage=self._stage, share=self._share)
        except Lost:
            self.lost = True


@contextmanager
def beating(jobs: Jobs, job: Job, owner: str, *, every_s: float = EVERY_S) -> Iterator[Heart]:
    """Within it, a thread beats for a job. A beat that the journal did not take is made up for by the next one."""
    heart, ended = Heart(jobs, job, owner), threading.Event()

    def go_on() -> None:
        while not ended.wait(every_s) and not heart.lost:
            with contextlib.suppress(DBAPIError):  # one that lasts ends the lease
                heart.beat()

    thread = threading.Thread(target=go_on, name=f"heart of job {job.id}", daemon=True)
    thread.start()
    try:
        yield heart
    finally:
        ended.set()
        thread.join()
