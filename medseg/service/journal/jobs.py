"""Jobs: asked for, taken by a process, moved from state to state, given back, and looked up.

Each call is one transaction. A process that takes a job gets it for itself until it lets it go or is found to be gone;
whoever was found to be gone too early cannot change the job any more (`Lost`), so that no job ends twice.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, delete, func, or_, select, update

from medseg.service.journal import rows
from medseg.service.journal.database import Database
from medseg.service.journal.deliveries import promise
from medseg.service.journal.job import Asked, Event, Identity, Job
from medseg.service.journal.states import ENDS, NEXT, STATES, State
from medseg.service.journal.tables import deliveries, events, jobs

RELEASED = ", released"
"""What the verdict of a result that was held back says after itself, once a person let it go."""
LONGEST_WAIT_S = 3600.0
"""No job waits longer before its next try; what claims to is the work of a clock that was wrong."""


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
            rows.note(within, known.id, known.state, who, "submitted again")
            return rows.job_of(known), False
        return rows.submitted(within, asked, who), True

    def fail(self, within: Connection, job: Job, who: str, code: str, reason: str) -> None:
        """End a job that nobody has taken yet and that cannot be done, in the transaction that has submitted it."""
        rows.check(job, "failed")
        rows.change(within, job.id, state="failed", reason_code=code, reason=reason)
        rows.note(within, job.id, "failed", who, f"{code}: {reason}")

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
        with self.database.write() as connection:
            current = rows.own(connection, job.id, owner)
            if current.stop_asked:
                rows.let_go(connection, current, owner, "", "", rows.TRIES, 0.0, True)
                return []
            if not asked:
                rows.change(connection, job.id, state="unmatched", owner=None, reason_code="no-route", reason=what)
                rows.note(connection, job.id, "unmatched", owner, what)
                return []
            first, *others = asked
            rows.change(connection, job.id, **rows.wanted(first), state="queued", owner=None, **rows.FRESH)
            former = (deliveries.c.job == job.id) & deliveries.c.receiver.not_in(first.receivers)
            connection.execute(delete(deliveries).where(former))  # promised when it was refused, by the routes of then
            promise(connection, job.id, first.receivers)
            rows.note(connection, job.id, "checked", owner, what)
            if first.route not in refused:
                rows.note(connection, job.id, "queued", owner, f"route {first.route}, model {first.model}")
            found = [
                rows.get(connection, job.id),
                *(self.submit(one, who=owner, within=connection)[0] for one in others),
            ]
            for one in found:
                if one.route in refused and one.state in ("queued", "received"):
                    code, reason = refused[one.route]
                    rows.change(connection, one.id, state="failed", reason_code=code, reason=reason)
                    rows.note(connection, one.id, "failed", owner, f"{code}: {reason}")
                else:  # a revision that cannot be used leaves what the former one led to
                    rows.supersede(connection, rows.get(connection, one.id), owner)
            return [rows.get(connection, one.id) for one in found]

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
            due &= rows.goes_elsewhere(unless_for)
        # what its sender died at, which is not counted, comes after those that were not begun
        order = (jobs.c.id,) if state in rows.COUNTED else (jobs.c.not_before, jobs.c.id)
        oldest = select(jobs.c.id).where(free & due).order_by(*order).limit(1).with_for_update(skip_locked=True)
        with self.database.read() as connection:  # to look costs nobody a lock
            if connection.execute(select(jobs.c.id).where(free & due).limit(1)).first() is None:
                return None
        with self.database.write() as connection:
            found = connection.execute(oldest).scalar_one_or_none()
            if found is None:
                return None
            job = rows.get(connection, found)
            rows.check(job, becomes)
            attempts = job.attempts + (state in rows.COUNTED)
            changes: dict[str, Any] = {"owner": owner, "attempts": attempts, "beat": job.beat + 1}
            if becomes:
                changes |= {"state": becomes, "share": 0.0}
            rows.change(connection, found, **changes)
            told = f"begun, attempt {attempts}" if state in rows.COUNTED else "begun"
            rows.note(connection, found, becomes or state, owner, told)
            return rows.get(connection, found)

    def beat(self, job: int, owner: str, *, stage: str = "", share: float = 0.0) -> str:
        """Say that the owner lives, and where it is.

        Returns:
            `stop_asked` of the job.

        Raises:
            Lost: see there.
        """
        with self.database.write() as connection:
            rows.own(connection, job, owner)
            rows.change(connection, job, moved=False, beat=jobs.c.beat + 1, stage=stage, share=share)
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
            current = rows.own(connection, job, owner)
            rows.check(current, state)
            if not keep and current.stop_asked in NEXT[state]:  # asked for since the last beat
                state = current.stop_asked
                facts |= {"reason_code": state, "reason": what}
            if state == "done":  # what was wrong with earlier tries is among the events
                facts = {"reason_code": "", "reason": ""} | facts
            rows.change(connection, job, state=state, owner=owner if keep and state not in ENDS else None, **facts)
            rows.note(connection, job, state, owner, what)

    def give_back(
        self,
        job: int,
        owner: str,
        code: str = "",
        reason: str = "",
        *,
        tries: int = rows.TRIES,
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
            return rows.let_go(connection, rows.own(connection, job, owner), owner, code, reason, tries, wait_s, counts)

    def take_back(
        self,
        owner: str,
        who: str,
        code: str = "crashed",
        reason: str = "",
        *,
        tries: int = rows.TRIES,
        counts: bool = True,
    ) -> int:
        """Free all jobs of a process that is gone; says how many. `counts`: see `give_back`."""
        with self.database.write() as connection:
            found = connection.execute(select(jobs).where(jobs.c.owner == owner).with_for_update()).all()
            for row in found:
                rows.let_go(connection, rows.job_of(row), who, code, reason or f"{owner} is gone", tries, 0.0, counts)
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
            return rows.stop(connection, rows.known(connection, job), "cancelled", who)

    def retry(self, job: int, who: str) -> State:
        """Try a job again that ended badly. One that lacked its model is routed anew: another version may be there.

        Raises:
            Refusal: no such job, or it has not.
        """
        with self.database.write() as connection:
            found = rows.known(connection, job)
            lacking = found.reason_code == "model" and found.route and found.arrival
            state: State = "queued" if found.model and not lacking else "received"
            if found.reason_code == "refused-by-receiver":  # the results are there, and only have to be sent
                state = "proven"
            if state not in NEXT[found.state] or found.state not in ENDS:
                raise rows.unfit(found, "one that failed, was put aside, unmatched or cancelled")
            if found.superseded_by:
                raise rows.superseded(found)
            rows.refuse_removed(connection, found)
            model = "" if state == "received" else found.model
            rows.change(connection, job, state=state, owner=None, kept="yes", model=model, **rows.FRESH)
            again = (deliveries.c.job == job) & (deliveries.c.state == "refused")
            connection.execute(update(deliveries).where(again).values(state="waiting", changed_at=time.time()))
            rows.note(connection, job, state, who, "tried again")
            return state

    def release(self, job: int, who: str) -> None:
        """Send results that were held back; what comes of another try waits anew.

        Raises:
            Refusal: no such job, or it is not held.
        """
        with self.database.write() as connection:
            found = rows.known(connection, job)
            if found.state != "held":
                raise rows.unfit(found, "one that is held")
            rows.change(connection, job, state="proven", verdict=f"{found.verdict}{RELEASED}")
            rows.note(connection, job, "proven", who, "released")

    # looking

    def get(self, job: int) -> Job:
        """
        Raises:
            Refusal: no such job.
        """
        with self.database.read() as connection:
            return rows.known(connection, job)

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
            return [rows.job_of(row) for row in connection.execute(query.limit(limit) if limit else query)]

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
