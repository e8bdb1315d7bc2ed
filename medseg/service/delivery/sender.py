"""The sender: takes results to their receivers, until each has them or has refused them for good."""

from __future__ import annotations

import logging
from pathlib import Path

from medseg.refusal import Refusal
from medseg.service.delivery.backoff import FIRST_S, LONGEST_S, BackOff
from medseg.service.delivery.way import Again, File, Gone, Never, Pending, files
from medseg.service.delivery.ways import Ways
from medseg.service.journal import Journal, heart
from medseg.service.journal.deliveries import Delivery, DeliveryState
from medseg.service.journal.heart import Heart
from medseg.service.journal.job import Job, Lost
from medseg.service.journal.states import State
from medseg.service.logs import place, pseudonym
from medseg.service.settings.site import Site

log = logging.getLogger(__name__)

PENDING_S = 10.0
"""Between two looks at whether an archive has said that it keeps what it took."""


class Sender:
    """Takes jobs that are `proven`: sends their results (`sent`), sees to it that they were kept (`done`), or lets them
    wait for a person (`held`). A job that was `sent` when its sender died is only asked about.

    A receiver that does not answer is left alone for a while, and jobs that go elsewhere are sent meanwhile.
    """

    def __init__(self, site: Site, journal: Journal, owner: str):
        self._site, self._journal, self._owner = site, journal, owner
        self._ways, self._backoff = Ways(site), BackOff()

    def step(self) -> bool:
        """See to one job, if there is any; says whether there was."""
        jobs, alone = self._journal.jobs, self._backoff.waiting()
        job = jobs.take("sent", self._owner, unless_for=alone) or jobs.take("proven", self._owner, unless_for=alone)
        if job is None:
            return False
        try:
            self._see_to(job)
        except Lost:
            log.info("a job was taken away while it was sent", extra={"facts": {"job": job.id}})
        return True

    def close(self) -> None:
        """End connections, and stop listening for answers."""
        self._ways.close()

    def _see_to(self, job: Job) -> None:
        jobs = self._journal.jobs
        if job.state == "proven" and job.verdict in job.hold:
            jobs.move(job.id, self._owner, "held", f"quality control: {job.verdict}")
            log.info("results are held back", extra={"facts": self._facts(job) | {"verdict": job.verdict}})
            return
        with heart.beating(jobs, job, self._owner) as beats:
            try:
                found = files(Path(job.out), job.files)
            except (ValueError, Refusal) as error:
                self._unproven(job, str(error))
                return
            wait_s = self._send(job, found, beats)
            state = self._taken(job)
            wait_s = max(wait_s, self._confirm(job, found))
        self._conclude(job.id, state, wait_s)

    def _unproven(self, job: Job, what: str) -> None:
        """Results that are not as they were written are made anew, as often as any case may be tried."""
        state: State = "failed" if job.state == "sent" or job.attempts >= self._site.work.tries else "queued"
        self._journal.jobs.move(job.id, self._owner, state, what, reason_code="unproven", reason=what)
        log.warning("results are not as they were written", extra={"facts": self._facts(job) | {"state": state}})

    def _send(self, job: Job, found: list[File], beats: Heart) -> float:
        """Send to everybody who waits for it; how long to leave the job alone, as somebody could not be sent to."""
        wait_s = 0.0
        for delivery in self._journal.deliveries.of(job.id):
            if delivery.state == "waiting" and beats.wanted:
                wait_s = max(wait_s, self._try(job, delivery, found, "sent"))
        return wait_s

    def _confirm(self, job: Job, found: list[File]) -> float:
        """Ask everybody who took it; how long to leave the job alone, because somebody has not said that it is kept."""
        deliveries = self._journal.deliveries.of(job.id)
        return max([0.0, *(self._try(job, one, found, "confirmed") for one in deliveries if one.state == "sent")])

    def _try(self, job: Job, delivery: Delivery, found: list[File], goal: DeliveryState) -> float:
        """Go one step with one receiver; 0.0, or how long to leave the job alone."""
        name = delivery.receiver
        facts = self._facts(job) | {"receiver": name}
        if name in self._backoff.waiting():
            return FIRST_S
        try:
            way, remark = self._ways.to(name), delivery.problem
            if goal == "sent":
                remark = way.send(job, found)
            else:
                way.confirm(job, found)
        except Never as refused:
            self._tell(delivery, "refused", str(refused))
            log.warning("a receiver refuses results", extra={"facts": facts})
            return 0.0
        except Pending as pending:
            self._tell(delivery, "sent", str(pending), tried=False)
            return PENDING_S
        except Gone as gone:
            self._tell(delivery, "waiting", str(gone))
            log.warning("a receiver does not have what it took", extra={"facts": facts})
            return self._backoff.failed(name)
        except Exception as error:  # the border between one receiver and the next: whatever it was, it is tried again
            if not isinstance(error, Again):
                log.error("results could not be sent", extra={"facts": facts | {"error": place(error)}})
            self._tell(delivery, delivery.state, str(error) or type(error).__name__)
            wait_s = self._backoff.failed(name)
            log.warning("a receiver cannot be reached", extra={"facts": facts | {"again_in_s": wait_s}})
            return min(2 * wait_s, LONGEST_S)  # so that others for it have their turn, if it is this one's fault
        self._backoff.worked(name)
        self._tell(delivery, goal, remark, tried=goal == "sent")
        return 0.0

    def _tell(self, delivery: Delivery, state: DeliveryState, what: str, *, tried: bool = True) -> None:
        if not self._journal.deliveries.tell(delivery.id, state, what, was=delivery.state, tried=tried):
            raise Lost(f"job {delivery.job}: another sender has seen to {delivery.receiver}")

    def _taken(self, job: Job) -> State:
        """The state of the job, which is `sent` once everybody has taken it."""
        states = {delivery.state for delivery in self._journal.deliveries.of(job.id)}
        if job.state == "proven" and not states & {"waiting", "refused"}:
            self._journal.jobs.move(job.id, self._owner, "sent", keep=True, reason_code="", reason="")
            return "sent"
        return job.state

    def _conclude(self, job: int, state: State, wait_s: float) -> None:
        """The job's end, or its next try."""
        jobs, deliveries = self._journal.jobs, self._journal.deliveries.of(job)
        by_state = {name: [one for one in deliveries if one.state == name] for name in ("waiting", "sent", "refused")}
        if by_state["waiting"] or by_state["sent"]:
            if by_state["waiting"] and state == "sent":
                jobs.move(job, self._owner, "proven", "a receiver does not have what it took", keep=True)
            late = [*by_state["waiting"], *by_state["sent"]]
            reason = "; ".join(f"{one.receiver}: {one.problem}" for one in late)
            code = "unreachable" if by_state["waiting"] else "unconfirmed"
            jobs.give_back(job, self._owner, code, reason, wait_s=max(wait_s, FIRST_S), counts=False)
        elif by_state["refused"]:
            reason = "; ".join(f"{one.receiver}: {one.problem}" for one in by_state["refused"])
            jobs.move(job, self._owner, "failed", reason, reason_code="refused-by-receiver", reason=reason)
        else:
            jobs.move(job, self._owner, "done", reason_code="", reason="")
            log.info("results are with everybody", extra={"facts": {"job": job}})

    def _facts(self, job: Job) -> dict[str, object]:
        return {"job": job.id, "study": pseudonym(job.identity.study_uid)}
