"""The clerk: looks at studies that have come in, and makes a job of each for every route that wants it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medseg.refusal import Refusal
from medseg.service.journal import Journal, heart
from medseg.service.journal.job import Asked, Identity, Job, Lost
from medseg.service.logs import place, pseudonym
from medseg.service.reading import Reading
from medseg.service.routing import explain, table, targets
from medseg.service.routing.table import RouteVerdict
from medseg.service.settings.site import Site

log = logging.getLogger(__name__)

AGAIN = ("crashed", "timeout")
"""Codes of what may go better the next time."""


class Clerk:
    """Takes jobs that are `received`: each becomes one `queued` job for each route that wants the study; or one that
    failed with a code, where a route means it and cannot have it; or `unmatched`.

    A received job that names a route was refused before and is tried again: it is judged by this route alone.
    """

    def __init__(self, site: Site, journal: Journal, owner: str):
        self._site, self._journal, self._owner = site, journal, owner
        self._reading = Reading()

    def step(self) -> bool:
        """Route one study, if there is any; says whether there was."""
        job = self._journal.jobs.take("received", self._owner)
        if job is None:
            return False
        try:
            with heart.beating(self._journal.jobs, job, self._owner):
                verdicts, failure = self._looked_at(job)
            self._end(job, verdicts, failure)
        except Lost:
            log.info("a study was taken away while it was routed", extra={"facts": {"job": job.id}})
        return True

    def close(self) -> None:
        """End the process that reads headers."""
        self._reading.close()

    def _looked_at(self, job: Job) -> tuple[list[RouteVerdict], Refusal | None]:
        """What the routes say of a study; or why nobody can tell."""
        folder = Path(job.source["all"])
        try:
            found = self._reading.look(folder)
            for outcome in found:
                if isinstance(outcome, Refusal):  # whoever reads the study refuses it for this, so no route may have it
                    return [], outcome
            headers = [outcome for outcome in found if not isinstance(outcome, Refusal)]
            routes = [one for one in targets.of(self._site) if job.route in ("", one.route.name)]
            return table.judge(routes, headers, folder), None
        except Refusal as refusal:
            return [], refusal
        except Exception as error:  # the border between one study and the next: whatever it was, it is put on record
            log.error("a study could not be routed", extra={"facts": {"job": job.id, "error": place(error)}})
            return [], Refusal(
                folder,
                found=f"{type(error).__name__}: {error}",
                needed="a study that can be looked at",
                remedy="see the log, and report this",
                code="error",
            )

    def _end(self, job: Job, verdicts: Sequence[RouteVerdict], failure: Refusal | None) -> None:
        jobs, facts = self._journal.jobs, {"job": job.id, "study": pseudonym(job.identity.study_uid)}
        if failure and failure.code in (*AGAIN, "error"):
            state = jobs.give_back(job.id, self._owner, failure.code, str(failure))
            log.warning(
                "a study could not be looked at", extra={"facts": facts | {"why": failure.code, "state": state}}
            )
        elif failure:
            jobs.move(job.id, self._owner, "failed", str(failure), reason_code=failure.code, reason=str(failure))
            log.warning("a study was refused", extra={"facts": facts | {"why": failure.code}})
        else:
            wanted = [verdict for verdict in verdicts if verdict.wanted]
            refused = {one.target.route.name: (one.refusal.code, str(one.refusal)) for one in wanted if one.refusal}
            asked = [self._asked(job, verdict) for verdict in wanted]
            made = jobs.route(job, self._owner, asked, explain.account(verdicts), refused)
            told = {one.route: refused[one.route][0] if one.route in refused else one.state for one in made}
            log.info("a study was routed", extra={"facts": facts | {"routes": told}})

    def _asked(self, job: Job, verdict: RouteVerdict) -> Asked:
        """The job for one route. One that is refused names no model, so that it is routed anew when it is retried."""
        route = verdict.target.route
        results = self._site.at(self._site.data) / "results" / f"{job.id}-{route.name}"
        return Asked(
            source=job.source,
            digest=job.digest,
            case=job.case,
            model="" if verdict.refusal else str(verdict.target.model),
            parameters=verdict.parameters,
            route=route.name,
            receivers=route.send_to,
            hold=route.hold,
            out=job.out if job.route else str(results),
            identity=_with_series(job.identity, verdict),
            arrival=job.arrival,
            supersedes=job.supersedes,
        )


def _with_series(identity: Identity, verdict: RouteVerdict) -> Identity:
    """What a person knows the study by, and the series that is taken of it."""
    facts = verdict.facts
    if facts is None:
        return identity
    return replace(
        identity, patient_id=facts.patient_id, series_uid=facts.uid, description=facts.name, modality=facts.modality
    )
