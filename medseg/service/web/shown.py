"""Jobs of the journal, as the API shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medseg.service import models
from medseg.service.journal import Journal
from medseg.service.journal.job import Job
from medseg.service.journal.states import ENDS, GOOD, NEXT, REASONS
from medseg.service.settings.site import Site
from medseg.service.web import shapes
from medseg.service.web.problem import Problem
from medseg.service.web.tokens import Token

WRITTEN = frozenset({"written", "proven", "sent", "done", "held"})
MOST_EVENTS = 1000
REMEDIES = {
    "error": "retry it; if it fails again, the log of `medseg work` says more",
    "crashed": "retry it; if it fails again, this case kills its worker: look at the log of `medseg work`",
    "timeout": "retry it, or raise work.limit_s in site.yaml",
    "memory": "retry it on a machine with more memory, or ask for quality fast",
    "model": "see that the model, or another version, is installed and whole (`medseg models list`), then retry it",
    "no-route": "see `medseg route --explain` for why, add a route in site.yaml, then retry it",
    "lost-input": "send the study again",
    "unproven": "retry it, and look after the disk",
    "cancelled": "retry it, if it is wanted after all",
    "superseded": "look at the job of the later revision",
    "refused-by-receiver": "see what the receiver said, mend it there, then retry it",
}
"""What to do about the codes that the service gives; what refuses an input says so itself."""
HELD = "look at the result, then release it, or cancel the job"


def row(job: Job, site: Site) -> shapes.Row:
    return shapes.Row(**_row(job, site))


def whole(job: Job, site: Site, journal: Journal, token: Token) -> shapes.Whole:
    """
    Args:
        token: of who looks.
    """
    out = folder(job, site)
    changes = journal.jobs.events(job.id, limit=MOST_EVENTS)
    return shapes.Whole(
        **_row(job, site),
        meaning=REASONS.get(job.reason_code, ""),
        remedy=HELD if job.state == "held" else REMEDIES.get(job.reason_code, ""),
        may=tuple(what for what in ("cancel", "retry", "release") if may(token, what, job, journal)),
        parameters=job.parameters,
        facts=job.facts,
        files=tuple(
            shapes.File(name=name, sha256=sha256, bytes=_size(out / name)) for name, sha256 in sorted(job.files.items())
        ),
        deliveries=tuple(
            shapes.Sent(**{key: value for key, value in vars(one).items() if key not in ("id", "job")})
            for one in journal.deliveries.of(job.id)
        ),
        events=tuple(shapes.Change(id=number, **vars(event)) for number, event in changes),
        supersedes=job.supersedes,
        superseded_by=job.superseded_by,
    )


def folder(job: Job, site: Site) -> Path:
    """Of its results."""
    return site.at(Path(job.out)) if job.out else site.at(site.data) / "results" / str(job.id)


def percent(state: str, share: float) -> int:
    """Never 100 before the result is written."""
    return 100 if state in WRITTEN else min(99, int(100 * share)) if state == "running" else 0


def may(token: Token, what: str, job: Job, journal: Journal) -> bool:
    """Whether a token may do this with a job, and the job is one with which it can be done."""
    fits = {
        "cancel": "cancelled" in NEXT[job.state] and not job.stop_asked,
        "retry": job.state in ENDS and bool(NEXT[job.state] & {"received", "queued"}),
        "release": job.state == "held",
    }
    return fits[what] and permitted(token, what, job, journal)


def permitted(token: Token, what: str, job: Job, journal: Journal) -> bool:
    """Administrators may do all; who may submit, cancel and retry what they asked for."""
    if token.may("admin"):
        return True
    return what != "release" and token.may("submit") and asked_by(job, journal) == f"token {token.name}"


def asked_by(job: Job, journal: Journal) -> str:
    """By the first entry of its record."""
    return next((event.who for _, event in journal.jobs.events(job.id, limit=1)), "")


def refuse_not_permitted(token: Token, what: str, job: Job, journal: Journal) -> None:
    """
    Raises:
        Problem: 403, it is somebody else's job.
    """
    if not permitted(token, what, job, journal):
        raise Problem(
            403,
            f"job {job.id}",
            found=f"the role {token.role}, and a job that {token.name} did not ask for",
            needed="the role admin" if what == "release" else "the role admin, or a job of your own",
            remedy="ask who runs this service",
        )


def _row(job: Job, site: Site) -> dict[str, Any]:
    return {
        "id": job.id,
        "state": job.state,
        "ended": job.state in ENDS,
        "good": job.state in GOOD,
        "percent": percent(job.state, job.share),
        "stage": job.stage if job.state == "running" else "",
        "case": job.case,
        "model": models.called(models.at(site), job.model),
        "route": job.route,
        "study": vars(job.identity),
        "verdict": job.verdict,
        "code": job.reason_code,
        "reason": _without(job.reason, site),
        "attempts": job.attempts,
        "received_at": job.received_at,
        "changed_at": job.changed_at,
    }


def _without(text: str, site: Site) -> str:
    """Where the service keeps its files is nobody's business."""
    return text.replace(f"{site.at(site.data)}/", "")


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
