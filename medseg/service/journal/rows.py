"""What changes of a job within a transaction; `Jobs` opens it, and says when."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, insert, select, update

from medseg.refusal import Refusal
from medseg.service.journal.deliveries import promise
from medseg.service.journal.job import Asked, Identity, Job, Lost
from medseg.service.journal.states import NEXT, TAKEN_BACK_TO, State
from medseg.service.journal.tables import arrivals, deliveries, events, jobs

TRIES = 3
"""How often a job may be begun; what failed so often is put aside."""

FRESH: dict[str, Any] = {
    "attempts": 0,
    "not_before": 0.0,
    "stop_asked": "",
    "stage": "",
    "share": 0.0,
    "reason_code": "",
    "reason": "",
}
"""What is forgotten of earlier tries."""


COUNTED: tuple[State, ...] = ("received", "queued")
"""States from which a beginning is an attempt; what is sent is tried until it is taken."""


def own(connection: Connection, job: int, owner: str) -> Job:
    """The job, which `owner` has.

    Raises:
        Lost: it has not.
    """
    found = connection.execute(select(jobs).where(jobs.c.id == job).with_for_update()).one_or_none()
    if found is None or found.owner != owner:
        raise Lost(f"job {job} is not {owner}'s any more")
    return job_of(found)


def known(connection: Connection, job: int) -> Job:
    """The job.

    Raises:
        Refusal: there is none of this number.
    """
    found = connection.execute(select(jobs).where(jobs.c.id == job).with_for_update()).one_or_none()
    if found is None:
        raise Refusal(f"job {job}", found="no such job", needed="one of the journal", remedy="see `medseg jobs`")
    return job_of(found)


def let_go(
    connection: Connection,
    job: Job,
    who: str,
    code: str,
    reason: str,
    tries: int,
    wait_s: float,
    counts: bool,
) -> State:
    """Nobody has the job any more: it is tried again, put aside, or ended as was asked; see `Jobs.give_back`."""
    state = TAKEN_BACK_TO.get(job.state, job.state)
    attempts = job.attempts - (not counts and state in COUNTED)
    if job.stop_asked:
        state, code = job.stop_asked, job.stop_asked  # type: ignore[assignment]  # one of the two states
    elif counts and attempts >= tries and state in COUNTED:
        state = "quarantined"
    changes: dict[str, Any] = {"reason_code": code, "reason": reason} if code else {}
    change(
        connection,
        job.id,
        state=state,
        owner=None,
        attempts=attempts,
        not_before=time.time() + wait_s,
        share=0.0,
        stage="",
        **changes,
    )
    note(connection, job.id, state, who, f"{code}: {reason}" if code else "given back")
    return state


def stop(connection: Connection, job: Job, state: State, who: str) -> State:
    """End a job that nobody has, or ask who has it to end it, in `state`.

    Raises:
        Refusal: it has ended.
    """
    if state not in NEXT[job.state]:
        raise unfit(job, "one that has not ended")
    if job.owner:
        change(connection, job.id, stop_asked=state)
        note(connection, job.id, job.state, who, f"asked to stop: {state}")
        return job.state
    change(connection, job.id, state=state, reason_code=state, reason=f"by {who}")
    note(connection, job.id, state, who, "")
    return state


def supersede(connection: Connection, job: Job, who: str) -> None:
    """Mark what a former revision of the study led to on the same route, and stop it if it is not on its way."""
    former = (jobs.c.study_uid == job.identity.study_uid) & (jobs.c.route == job.route)
    if not job.arrival:
        return
    of_study = arrivals.c.study_uid == job.identity.study_uid
    connection.execute(select(arrivals.c.id).where(of_study).order_by(arrivals.c.id).with_for_update())
    newer = select(jobs.c.id).where(former & (jobs.c.arrival > job.arrival)).order_by(jobs.c.arrival.desc())
    later = connection.execute(newer.limit(1)).scalar_one_or_none()
    if later is not None:  # another clerk was faster with it, or this one was tried again
        change(connection, job.id, moved=False, superseded_by=later)
        note(connection, job.id, job.state, who, f"superseded by job {later}, a later revision")
        if "superseded" in NEXT[job.state]:
            stop(connection, job, "superseded", who)
    older = former & (jobs.c.arrival < job.arrival) & jobs.c.superseded_by.is_(None)
    for row in connection.execute(select(jobs).where(older).order_by(jobs.c.id)).all():
        change(connection, row.id, moved=False, superseded_by=job.id)
        change(connection, job.id, moved=False, supersedes=row.id)
        note(connection, row.id, row.state, who, f"superseded by job {job.id}, a later revision")
        if "superseded" in NEXT[row.state]:
            stop(connection, job_of(row), "superseded", who)


def note(connection: Connection, job: int, state: str, who: str, what: str) -> None:
    """Put a change on record."""
    connection.execute(insert(events).values(job=job, at=time.time(), state=state, who=who, what=what))


def came_again(connection: Connection, study_uid: str, who: str) -> None:
    """Say of the jobs of a study that it came again, and why that led to no other job."""
    latest = (jobs.c.study_uid == study_uid) & jobs.c.arrival.is_not(None) & jobs.c.superseded_by.is_(None)
    for row in connection.execute(select(jobs.c.id, jobs.c.state).where(latest).order_by(jobs.c.id)).all():
        note(connection, row.id, row.state, who, "the study came again in another transfer syntax, with nothing new")


def goes_elsewhere(left_alone: Sequence[str]) -> ColumnElement[bool]:
    """Whether a job has something to send or to ask, and not only to those who are left alone."""
    unfinished = (deliveries.c.job == jobs.c.id) & deliveries.c.state.in_(("waiting", "sent"))
    other = select(deliveries.c.id).where(unfinished & deliveries.c.receiver.not_in(left_alone)).exists()
    return other | ~select(deliveries.c.id).where(unfinished).exists()


def submitted(connection: Connection, asked: Asked, who: str) -> Job:
    """A new job."""
    state: State = "queued" if asked.model else "received"
    now = time.time()
    values = (
        FRESH
        | wanted(asked)
        | {
            "key": asked.key,
            "state": state,
            "arrival": asked.arrival,
            "supersedes": asked.supersedes,
            "owner": None,
            "beat": 0,
            "verdict": "",
            "facts": {},
            "files": {},
            "received_at": now,
            "changed_at": now,
        }
    )
    made = connection.execute(insert(jobs).values(**values)).inserted_primary_key
    assert made is not None  # an insert of one row has one
    promise(connection, made[0], asked.receivers)
    for one in dict.fromkeys(("received", state)):
        connection.execute(insert(events).values(job=made[0], at=now, state=one, who=who, what=""))
    return get(connection, made[0])


def wanted(asked: Asked) -> dict[str, Any]:
    """The columns that say what a job is to do."""
    return {
        "case": asked.case,
        "source": dict(asked.source),
        "digest": asked.digest,
        "kind": asked.kind,
        "model": asked.model,
        "parameters": dict(asked.parameters),
        "route": asked.route,
        "hold": list(asked.hold),
        "out": asked.out,
        "identity": asked.identity.__dict__,
        "study_uid": asked.identity.study_uid,
    }


def check(job: Job, state: State | None) -> None:
    """Refuse a way between states that there is not: an error of ours, never of a user."""
    if state is not None and state not in NEXT[job.state]:
        raise RuntimeError(f"job {job.id} cannot go from {job.state} to {state}")


def unfit(job: Job, needed: str) -> Refusal:
    """For a job that is in another state than was needed."""
    return Refusal(f"job {job.id}", found=f"one that is {job.state}", needed=needed, remedy="see `medseg jobs`")


def superseded(job: Job) -> Refusal:
    return Refusal(
        f"job {job.id}",
        found=f"a former revision of its study, superseded by job {job.superseded_by}",
        needed="the latest one",
        remedy=f"try job {job.superseded_by} again, if it has failed",
    )


def refuse_removed(connection: Connection, job: Job) -> None:
    """A job is not begun again whose input went when it had been kept long enough, or whose results are just going."""
    inputs = select(arrivals.c.kept).where(arrivals.c.id == job.arrival)
    partly = job.reason_code == "lost-input" and not job.model  # what is left of it would pass for the study
    if partly or job.kept == "going" or connection.execute(inputs).scalar_one_or_none() not in (None, "yes"):
        raise Refusal(
            f"job {job.id}",
            found="that its study or its old results were removed, as site.yaml says under keep",
            needed="the study as it was received",
            remedy="try again in a minute if it is just being removed; else fetch the study and use `medseg predict`",
            code="lost-input",
        )


def get(connection: Connection, job: int) -> Job:
    """The job, which is known to be there."""
    return job_of(connection.execute(select(jobs).where(jobs.c.id == job)).one())


def change(connection: Connection, job: int, *, moved: bool = True, **values: Any) -> None:
    """Set columns of a job; `moved`: whether this counts as a change for people."""
    changed = {"changed_at": time.time()} if moved else {}
    connection.execute(update(jobs).where(jobs.c.id == job).values(**values, **changed))


def job_of(row: Row[Any]) -> Job:
    """A row as a job."""
    values = dict(row._mapping)
    values.pop("study_uid")
    return Job(**values | {"identity": Identity(**values["identity"])})
