"""Jobs: asked for, taken by a process, moved from state to state, given back, and looked up.

Each call is one transaction. A process that takes a job gets it for itself until it lets it go or is found to be gone;
whoever was found to be gone too early cannot change the job any more (`Lost`), so that no job ends twice.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, or_, select, update

from medseg.refusal import Refusal
from medseg.service.journal.database import Database
from medseg.service.journal.states import ENDS, NEXT, STATES, TAKEN_BACK_TO, State
from medseg.service.journal.tables import arrivals, deliveries, events, jobs

TRIES = 3
"""How often a job may be begun; what failed so often is put aside."""
LONGEST_WAIT_S = 3600.0
"""No job waits longer before its next try; what claims to is the work of a clock that was wrong."""


_FRESH: dict[str, Any] = {
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


class Lost(Exception):
    """The job was taken from this process, or has ended meanwhile: what it has done is not wanted."""


@dataclass(frozen=True)
class Identity:
    """What a person knows a study by. It is in the journal and on the page, and in no log."""

    study_uid: str = ""
    series_uid: str = ""
    patient_id: str = ""
    accession: str = ""
    study_date: str = ""
    description: str = ""
    modality: str = ""


@dataclass(frozen=True)
class Asked:
    """What a job is to do. Two with the same input, model, parameters and route are one job.

    Attributes:
        source: channel (or "all") -> file or folder of the input.
        digest: sha256 of the input: of its bytes, or of what tells it from every other (path, size, time).
        case: names the results.
        model: run folder, zipped run or folder of folds; empty: a route will tell.
        parameters: what `work.parameters.Parameters` knows: outputs, quality, changes, labels, series, ...
        route: which has asked for it, empty: a person.
        receivers: whom the results are sent to.
        hold: verdicts of the quality control (fail, look) with which results wait for a person.
        out: folder of the results.
        arrival: the study as it came in.
        supersedes: job of a former revision of the study.
    """

    source: Mapping[str, str]
    digest: str
    case: str
    model: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    route: str = ""
    receivers: Sequence[str] = ()
    hold: Sequence[str] = ()
    out: str = ""
    identity: Identity = Identity()
    arrival: int | None = None
    supersedes: int | None = None

    @property
    def key(self) -> str:
        return _sha256([self.digest, self.case, self.model, dict(self.parameters), self.route, self.arrival])

    @property
    def kind(self) -> str:
        """Jobs of one kind can share a loaded model: all is equal but which series of a study is meant."""
        return _sha256([self.model, {name: value for name, value in self.parameters.items() if name != "series"}])


@dataclass(frozen=True)
class Job:
    """A job as it stands: what was `Asked`, and since then

    Attributes:
        attempts: how often it was begun.
        owner: process that has it, None: nobody.
        beat: grows while the owner lives.
        not_before: moment of the next try.
        stop_asked: "", or the state (cancelled, superseded) that its owner is asked to end it in.
        stage, share: where the owner is, see `progress.Step`; share is from 0 to 1.
        reason_code, reason: of the last failure.
        verdict: of the quality control: pass, look, fail, or empty.
        facts: what the record of a prediction says of a case.
        files: file of the result -> its sha256.
        kept: whether the results are still on the disk: yes, going (they are being removed) or no.
    """

    id: int
    key: str
    state: State
    case: str
    source: dict[str, str]
    digest: str
    kind: str
    model: str
    parameters: dict[str, Any]
    route: str
    hold: list[str]
    out: str
    identity: Identity
    arrival: int | None
    supersedes: int | None
    superseded_by: int | None
    attempts: int
    owner: str | None
    beat: int
    not_before: float
    stop_asked: str
    stage: str
    share: float
    reason_code: str
    reason: str
    verdict: str
    facts: dict[str, Any]
    files: dict[str, str]
    received_at: float
    changed_at: float
    kept: str = "yes"


@dataclass(frozen=True)
class Event:
    """One change of a job, see `tables.events`."""

    job: int
    at: float
    state: State
    who: str
    what: str


class Jobs:
    """The jobs of a journal."""

    def __init__(self, database: Database):
        self.database = database

    # asking

    def submit(self, asked: Asked, *, who: str, within: Connection | None = None) -> tuple[Job, bool]:
        """Put a job on record, once: `received` where a route has to be found, `queued` where the model is named.

        Args:
            within: a transaction that this is to be a part of.

        Returns:
            The job, and whether it is new; what was submitted before is left as it is, with a note.
        """
        if within is None:
            with self.database.write() as connection:
                return self.submit(asked, who=who, within=connection)
        known = within.execute(select(jobs).where(jobs.c.key == asked.key)).one_or_none()
        if known:
            self._note(within, known.id, known.state, who, "submitted again")
            return _job(known), False
        return _submitted(within, asked, who), True

    def fail(self, within: Connection, job: Job, who: str, code: str, reason: str) -> None:
        """End a job that nobody has taken yet and that cannot be done, in the transaction that has submitted it."""
        _check(job, "failed")
        _set(within, job.id, state="failed", reason_code=code, reason=reason)
        self._note(within, job.id, "failed", who, f"{code}: {reason}")

    def route(
        self,
        job: Job,
        owner: str,
        asked: Sequence[Asked],
        what: str,
        refused: Mapping[str, tuple[str, str]] = MappingProxyType({}),
    ) -> list[Job]:
        """End the search for a route: the job becomes the first of `asked`, and the others jobs beside it; none:
        `unmatched`. What a former revision of the study led to on the same route is superseded.

        Args:
            what: the verdicts in words, for the record.
            refused: route -> code and reason, where a route means the study and cannot have it; its job, which names
                no model, fails at once, and is routed anew if it is tried again.

        Raises:
            Lost: see there.
        """
        from medseg.service.journal.deliveries import promise

        with self.database.write() as connection:
            current = self._own(connection, job.id, owner)
            if current.stop_asked:
                self._back(connection, current, owner, "", "", TRIES, 0.0, True)
                return []
            if not asked:
                _set(connection, job.id, state="unmatched", owner=None, reason_code="no-route", reason=what)
                self._note(connection, job.id, "unmatched", owner, what)
                return []
            first, *others = asked
            _set(connection, job.id, **_wanted(first), state="queued", owner=None, **_FRESH)
            former = (deliveries.c.job == job.id) & deliveries.c.receiver.not_in(first.receivers)
            connection.execute(delete(deliveries).where(former))  # promised when it was refused, by the routes of then
            promise(connection, job.id, first.receivers)
            self._note(connection, job.id, "checked", owner, what)
            if first.route not in refused:
                self._note(connection, job.id, "queued", owner, f"route {first.route}, model {first.model}")
            found = [_get(connection, job.id), *(self.submit(one, who=owner, within=connection)[0] for one in others)]
            for one in found:
                if one.route in refused and one.state in ("queued", "received"):
                    code, reason = refused[one.route]
                    _set(connection, one.id, state="failed", reason_code=code, reason=reason)
                    self._note(connection, one.id, "failed", owner, f"{code}: {reason}")
                else:  # a revision that cannot be used leaves what the former one led to
                    self._supersede(connection, _get(connection, one.id), owner)
            return [_get(connection, one.id) for one in found]

    # working

    def take(
        self,
        state: State,
        owner: str,
        *,
        becomes: State | None = None,
        beside: Job | None = None,
        unless_for: Sequence[str] = (),
    ) -> Job | None:
        """The oldest job in a state that nobody has, for `owner` alone; None if there is none.

        Args:
            becomes: the state that it goes to; none: it stays.
            beside: a job that the owner has; only one of its kind that was never begun is given.
            unless_for: receivers that are to be left alone: jobs that wait for nobody else are passed over.
        """
        now = time.time()
        free = (jobs.c.state == state) & jobs.c.owner.is_(None)
        if beside:
            free &= (jobs.c.kind == beside.kind) & (jobs.c.attempts == 0)
        due = or_(jobs.c.not_before <= now, jobs.c.not_before > now + LONGEST_WAIT_S)
        if unless_for:
            due &= _goes_elsewhere(unless_for)
        # what its sender died at, which is not counted, comes after those that were not begun
        order = (jobs.c.id,) if state in COUNTED else (jobs.c.not_before, jobs.c.id)
        oldest = select(jobs.c.id).where(free & due).order_by(*order).limit(1).with_for_update(skip_locked=True)
        with self.database.read() as connection:  # to look costs nobody a lock
            if connection.execute(select(jobs.c.id).where(free & due).limit(1)).first() is None:
                return None
        with self.database.write() as connection:
            found = connection.execute(oldest).scalar_one_or_none()
            if found is None:
                return None
            job = _get(connection, found)
            _check(job, becomes)
            attempts = job.attempts + (state in COUNTED)
            changes: dict[str, Any] = {"owner": owner, "attempts": attempts, "beat": job.beat + 1}
            if becomes:
                changes |= {"state": becomes, "share": 0.0}
            _set(connection, found, **changes)
            told = f"begun, attempt {attempts}" if state in COUNTED else "begun"
            self._note(connection, found, becomes or state, owner, told)
            return _get(connection, found)

    def beat(self, job: int, owner: str, *, stage: str = "", share: float = 0.0) -> str:
        """Say that the owner lives, and where it is.

        Returns:
            `stop_asked` of the job.

        Raises:
            Lost: see there.
        """
        with self.database.write() as connection:
            self._own(connection, job, owner)
            _set(connection, job, moved=False, beat=jobs.c.beat + 1, stage=stage, share=share)
            return str(connection.execute(select(jobs.c.stop_asked).where(jobs.c.id == job)).scalar_one())

    def move(self, job: int, owner: str, state: State, what: str = "", *, keep: bool = False, **facts: Any) -> None:
        """Go to the next state.

        Args:
            keep: the owner keeps it, unless it has ended; else it is free for whoever does what comes next.
            facts: columns of the job that change with it: files, facts, verdict, reason_code, reason, ...

        Raises:
            Lost: see there.
        """
        with self.database.write() as connection:
            current = self._own(connection, job, owner)
            _check(current, state)
            if not keep and current.stop_asked in NEXT[state]:  # asked for since the last beat
                state = current.stop_asked
                facts |= {"reason_code": state, "reason": what}
            if state == "done":  # what was wrong with earlier tries is among the events
                facts = {"reason_code": "", "reason": ""} | facts
            _set(connection, job, state=state, owner=owner if keep and state not in ENDS else None, **facts)
            self._note(connection, job, state, owner, what)

    def give_back(
        self,
        job: int,
        owner: str,
        code: str = "",
        reason: str = "",
        *,
        tries: int = TRIES,
        wait_s: float = 0.0,
        counts: bool = True,
    ) -> State:
        """Let a job go that could not be done; it is tried again, or put aside if it was begun `tries` times.

        Args:
            code: see `states.REASONS`; empty: nothing was wrong with it.
            counts: whether this was an attempt; a process that ends in good order takes nothing from its jobs.

        Raises:
            Lost: see there.
        """
        with self.database.write() as connection:
            return self._back(connection, self._own(connection, job, owner), owner, code, reason, tries, wait_s, counts)

    def take_back(
        self,
        owner: str,
        who: str,
        code: str = "crashed",
        reason: str = "",
        *,
        tries: int = TRIES,
        counts: bool = True,
    ) -> int:
        """Free all jobs of a process that is gone; says how many. `counts`: see `give_back`."""
        with self.database.write() as connection:
            found = connection.execute(select(jobs).where(jobs.c.owner == owner).with_for_update()).all()
            for row in found:
                self._back(connection, _job(row), who, code, reason or f"{owner} is gone", tries, 0.0, counts)
            return len(found)

    def owned(self) -> dict[str, dict[int, int]]:
        """Of each process that has jobs: job -> beat."""
        with self.database.read() as connection:
            rows = connection.execute(select(jobs.c.owner, jobs.c.id, jobs.c.beat).where(jobs.c.owner.is_not(None)))
            found: dict[str, dict[int, int]] = {}
            for owner, job, beat in rows:
                found.setdefault(owner, {})[job] = beat
            return found

    # people

    def cancel(self, job: int, who: str) -> State:
        """End a job; what runs is asked to stop, and says so within a beat.

        Raises:
            Refusal: no such job, or it has ended.
        """
        with self.database.write() as connection:
            return self._stop(connection, self._known(connection, job), "cancelled", who)

    def retry(self, job: int, who: str) -> State:
        """Try a job again that ended badly.

        Raises:
            Refusal: no such job, or it has not.
        """
        with self.database.write() as connection:
            found = self._known(connection, job)
            state: State = "queued" if found.model else "received"
            if found.reason_code == "refused-by-receiver":  # the results are there, and only have to be sent
                state = "proven"
            if state not in NEXT[found.state] or found.state not in ENDS:
                raise _unfit(found, "one that failed, was put aside, unmatched or cancelled")
            if found.superseded_by:
                raise _superseded(found)
            _refuse_removed(connection, found)
            _set(connection, job, state=state, owner=None, kept="yes", **_FRESH)
            again = (deliveries.c.job == job) & (deliveries.c.state == "refused")
            connection.execute(update(deliveries).where(again).values(state="waiting", changed_at=time.time()))
            self._note(connection, job, state, who, "tried again")
            return state

    def release(self, job: int, who: str) -> None:
        """Send results that were held back.

        Raises:
            Refusal: no such job, or it is not held.
        """
        with self.database.write() as connection:
            found = self._known(connection, job)
            if found.state != "held":
                raise _unfit(found, "one that is held")
            _set(connection, job, state="proven", hold=[])
            self._note(connection, job, "proven", who, "released")

    # looking

    def get(self, job: int) -> Job:
        """
        Raises:
            Refusal: no such job.
        """
        with self.database.read() as connection:
            return self._known(connection, job)

    def find(
        self, *, states: Sequence[State] = (), text: str = "", route: str = "", limit: int = 0, before: int = 0
    ) -> list[Job]:
        """Jobs, the newest first.

        Args:
            text: in the case's name, the model, or what a person knows the study by.
            limit: most that are given; 0: all.
            before: only jobs with a smaller id, to turn pages by.
        """
        query = select(jobs).order_by(jobs.c.id.desc())
        if states:
            query = query.where(jobs.c.state.in_(states))
        if route:
            query = query.where(jobs.c.route == route)
        if before:
            query = query.where(jobs.c.id < before)
        if text:
            within = [jobs.c.case, jobs.c.model] + [jobs.c.identity[name].as_string() for name in Identity().__dict__]
            query = query.where(or_(*(one.icontains(text, autoescape=True) for one in within)))
        with self.database.read() as connection:
            return [_job(row) for row in connection.execute(query.limit(limit) if limit else query)]

    def events(self, job: int = 0, *, after: int = 0, limit: int = 1000) -> list[tuple[int, Event]]:
        """Changes with their numbers, the oldest first; of one job or of all, from the one after `after` on."""
        query = select(events).where(events.c.id > after).order_by(events.c.id).limit(limit)
        if job:
            query = query.where(events.c.job == job)
        with self.database.read() as connection:
            rows = connection.execute(query).all()
        return [(row.id, Event(row.job, row.at, row.state, row.who, row.what)) for row in rows]

    def last_event(self) -> int:
        """Number of the newest change; 0 if there is none."""
        with self.database.read() as connection:
            return connection.execute(select(func.max(events.c.id))).scalar_one() or 0

    def counts(self) -> dict[State, int]:
        """How many jobs are in each state; states without any are 0."""
        with self.database.read() as connection:
            found = connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state)).all()
        return dict.fromkeys(STATES, 0) | {row[0]: row[1] for row in found}

    # inside of a transaction

    def _own(self, connection: Connection, job: int, owner: str) -> Job:
        found = connection.execute(select(jobs).where(jobs.c.id == job).with_for_update()).one_or_none()
        if found is None or found.owner != owner:
            raise Lost(f"job {job} is not {owner}'s any more")
        return _job(found)

    def _known(self, connection: Connection, job: int) -> Job:
        found = connection.execute(select(jobs).where(jobs.c.id == job).with_for_update()).one_or_none()
        if found is None:
            raise Refusal(f"job {job}", found="no such job", needed="one of the journal", remedy="see `medseg jobs`")
        return _job(found)

    def _back(
        self,
        connection: Connection,
        job: Job,
        who: str,
        code: str,
        reason: str,
        tries: int,
        wait_s: float,
        counts: bool,
    ) -> State:
        state = TAKEN_BACK_TO.get(job.state, job.state)
        attempts = job.attempts - (not counts and state in COUNTED)
        if job.stop_asked:
            state, code = job.stop_asked, job.stop_asked  # type: ignore[assignment]  # one of the two states
        elif counts and attempts >= tries and state in COUNTED:
            state = "quarantined"
        changes: dict[str, Any] = {"reason_code": code, "reason": reason} if code else {}
        _set(
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
        self._note(connection, job.id, state, who, f"{code}: {reason}" if code else "given back")
        return state

    def _stop(self, connection: Connection, job: Job, state: State, who: str) -> State:
        if state not in NEXT[job.state]:
            raise _unfit(job, "one that has not ended")
        if job.owner:
            _set(connection, job.id, stop_asked=state)
            self._note(connection, job.id, job.state, who, f"asked to stop: {state}")
            return job.state
        _set(connection, job.id, state=state, reason_code=state, reason=f"by {who}")
        self._note(connection, job.id, state, who, "")
        return state

    def _supersede(self, connection: Connection, job: Job, who: str) -> None:
        """Mark what a former revision of the study led to on the same route, and stop it if it is not on its way."""
        former = (jobs.c.study_uid == job.identity.study_uid) & (jobs.c.route == job.route)
        if not job.arrival:
            return
        of_study = arrivals.c.study_uid == job.identity.study_uid
        connection.execute(select(arrivals.c.id).where(of_study).order_by(arrivals.c.id).with_for_update())
        newer = select(jobs.c.id).where(former & (jobs.c.arrival > job.arrival)).order_by(jobs.c.arrival.desc())
        later = connection.execute(newer.limit(1)).scalar_one_or_none()
        if later is not None:  # another clerk was faster with it, or this one was tried again
            _set(connection, job.id, moved=False, superseded_by=later)
            self._note(connection, job.id, job.state, who, f"superseded by job {later}, a later revision")
            if "superseded" in NEXT[job.state]:
                self._stop(connection, job, "superseded", who)
        older = former & (jobs.c.arrival < job.arrival) & jobs.c.superseded_by.is_(None)
        for row in connection.execute(select(jobs).where(older).order_by(jobs.c.id)).all():
            _set(connection, row.id, moved=False, superseded_by=job.id)
            _set(connection, job.id, moved=False, supersedes=row.id)
            self._note(connection, row.id, row.state, who, f"superseded by job {job.id}, a later revision")
            if "superseded" in NEXT[row.state]:
                self._stop(connection, _job(row), "superseded", who)

    def _note(self, connection: Connection, job: int, state: str, who: str, what: str) -> None:
        connection.execute(insert(events).values(job=job, at=time.time(), state=state, who=who, what=what))


def _goes_elsewhere(left_alone: Sequence[str]) -> ColumnElement[bool]:
    """Whether a job has something to send or to ask, and not only to those who are left alone."""
    unfinished = (deliveries.c.job == jobs.c.id) & deliveries.c.state.in_(("waiting", "sent"))
    other = select(deliveries.c.id).where(unfinished & deliveries.c.receiver.not_in(left_alone)).exists()
    return other | ~select(deliveries.c.id).where(unfinished).exists()


def _submitted(connection: Connection, asked: Asked, who: str) -> Job:
    from medseg.service.journal.deliveries import promise

    state: State = "queued" if asked.model else "received"
    now = time.time()
    values = _wanted(asked) | {
        "key": asked.key,
        "state": state,
        "arrival": asked.arrival,
        "supersedes": asked.supersedes,
        "attempts": 0,
        "owner": None,
        "beat": 0,
        "not_before": 0.0,
        "stop_asked": "",
        "stage": "",
        "share": 0.0,
        "reason_code": "",
        "reason": "",
        "verdict": "",
        "facts": {},
        "files": {},
        "received_at": now,
        "changed_at": now,
    }
    made = connection.execute(insert(jobs).values(**values)).inserted_primary_key
    assert made is not None  # an insert of one row has one
    promise(connection, made[0], asked.receivers)
    for one in dict.fromkeys(("received", state)):
        connection.execute(insert(events).values(job=made[0], at=now, state=one, who=who, what=""))
    return _get(connection, made[0])


def _wanted(asked: Asked) -> dict[str, Any]:
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


def _check(job: Job, state: State | None) -> None:
    if state is not None and state not in NEXT[job.state]:
        raise RuntimeError(f"job {job.id} cannot go from {job.state} to {state}")


def _unfit(job: Job, needed: str) -> Refusal:
    return Refusal(f"job {job.id}", found=f"one that is {job.state}", needed=needed, remedy="see `medseg jobs`")


def _superseded(job: Job) -> Refusal:
    return Refusal(
        f"job {job.id}",
        found=f"a former revision of its study, superseded by job {job.superseded_by}",
        needed="the latest one",
        remedy=f"try job {job.superseded_by} again, if it has failed",
    )


def _refuse_removed(connection: Connection, job: Job) -> None:
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


def _get(connection: Connection, job: int) -> Job:
    return _job(connection.execute(select(jobs).where(jobs.c.id == job)).one())


def _set(connection: Connection, job: int, *, moved: bool = True, **values: Any) -> None:
    changed = {"changed_at": time.time()} if moved else {}
    connection.execute(update(jobs).where(jobs.c.id == job).values(**values, **changed))


def _job(row: Row[Any]) -> Job:
    values = dict(row._mapping)
    values.pop("study_uid")
    return Job(**values | {"identity": Identity(**values["identity"])})


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
