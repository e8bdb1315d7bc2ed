"""The supervisor: starts whoever holds a post, replaces who dies, ends who hangs, and frees the jobs of the dead."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError

from medseg.service import logs
from medseg.service.journal import Journal
from medseg.service.settings.site import Site
from medseg.service.work import liveness
from medseg.service.work.pool import STARVED, Child, Hand

log = logging.getLogger(__name__)

TICK_S = 0.2
LOOK_S = 1.0
"""Between looks at who owns which jobs."""
SOON_S = 10.0
"""Who dies sooner than this after the start is started again later and later."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0
GRACE_S = 10.0
"""What a process may take to end beyond the limit for its case."""


Start = Callable[[Site, str, int], Hand]
"""Of a site, a role and a number: starts who holds the post."""


@dataclass
class Seat:
    """A post, and who holds it.

    Attributes:
        since: when it was taken.
        due: when it may be taken again, or the journal told that who held it is dead.
        jobs, changed: those of who holds it at the last look, and when they were others.
    """

    role: str
    number: int
    hand: Hand | None = None
    since: float = 0.0
    due: float = 0.0
    pause_s: float = 0.0
    jobs: frozenset[int] = frozenset()
    changed: float = 0.0


class Supervisor:
    """Everything that it decides by time is decided by the monotonic clock of its own machine."""

    def __init__(
        self,
        site: Site,
        journal: Journal,
        posts: Sequence[tuple[str, int]],
        *,
        owner: str,
        start: Start = Child,
        now: Callable[[], float] = time.monotonic,
    ):
        """
        Args:
            posts: role and number of each process.
            owner: name of this process.
            start: starts one.
        """
        self._site, self._jobs, self._start, self._now = site, journal.jobs, start, now
        self._seats = [Seat(role, number) for role, number in posts]
        locks = liveness.folder(site.at(site.data))
        self._owner, self._watch = owner, liveness.Watch(locks)
        self._looked = float("-inf")

    def run(self, *, ended: Callable[[], bool], between: Callable[[], None] = lambda: None) -> None:
        """Supervise until `ended` says so, then drain. Whatever happens, nobody is left behind.

        Args:
            between: done between looks.
        """
        try:
            while not self._over(ended, between):
                time.sleep(TICK_S)
            self.drain()
        finally:
            for seat in self._seats:
                if seat.hand and seat.hand.alive():
                    seat.hand.kill()
                    self._free(seat.hand, "", "", counts=False)

    def _over(self, ended: Callable[[], bool], between: Callable[[], None]) -> bool:
        """Look after everybody, unless it is time to end; a journal that cannot be used for a while ends nothing."""
        try:
            if ended():
                return True
            self.tick()
            between()
        except DBAPIError as error:
            log.error("the journal cannot be used", extra={"facts": {"why": logs.why(error)}})
        return False

    def tick(self) -> None:
        """Look after everybody once."""
        for seat in self._seats:
            if seat.hand and not seat.hand.alive() and self._now() >= seat.due:
                self._replace(seat, seat.hand)
            if seat.hand is None and self._now() >= seat.due:
                seat.hand, seat.since = self._start(self._site, seat.role, seat.number), self._now()
                seat.jobs, seat.changed = frozenset(), seat.since
        if self._now() - self._looked >= LOOK_S:
            self._looked = self._now()
            self._look()

    def drain(self) -> None:
        """Let everybody end in good order, as long as a case may take, and then no longer."""
        hands = [seat.hand for seat in self._seats if seat.hand]
        for hand in hands:
            hand.end()
        until = self._now() + self._site.work.drain_s + GRACE_S
        while any(hand.alive() for hand in hands) and self._now() < until:
            time.sleep(TICK_S)
        for hand in hands:
            if hand.alive():
                log.warning("did not end in time", extra={"facts": {"owner": hand.owner}})
                hand.kill()
            self._free(hand, "", "", counts=False)

    def _replace(self, seat: Seat, dead: Hand) -> None:
        """Free the jobs of who died, and let the seat be taken again, later and later if that happens at once."""
        fault, now = dead.fault(), self._now()
        code = "memory" if fault == STARVED else "crashed" if fault else ""
        freed, early = self._free(dead, code, f"its process: {fault}", counts=bool(fault)), now - seat.since < SOON_S
        seat.pause_s = min(max(2 * seat.pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S) if early or not freed else 0.0
        seat.due = now + seat.pause_s
        if not freed:
            return
        seat.hand = None
        facts = {"owner": dead.owner, "how": fault or "in good order", "pause_s": seat.pause_s}
        log.warning("a process has ended", extra={"facts": facts})

    def _look(self) -> None:
        owned = self._jobs.owned()
        for seat in self._seats:
            if seat.role == "worker" and seat.hand:
                self._end_if_stuck(seat, frozenset(owned.pop(seat.hand.owner, {})))
        for owner in self._watch.gone(owned):
            log.warning("a process is gone", extra={"facts": {"owner": owner}})
            self._jobs.take_back(owner, self._owner, tries=self._site.work.tries)
        self._watch.sweep(owned)

    def _end_if_stuck(self, seat: Seat, jobs: frozenset[int]) -> None:
        """A worker that has had the same jobs for longer than one may take is ended."""
        if jobs != seat.jobs or not jobs:
            seat.jobs, seat.changed = jobs, self._now()
            return
        limit_s = self._site.work.limit_s
        if self._now() - seat.changed > limit_s and seat.hand:
            log.warning("a case takes too long", extra={"facts": {"owner": seat.hand.owner, "limit_s": limit_s}})
            seat.hand.kill()
            if self._free(seat.hand, "timeout", f"no end after {limit_s:g} s", counts=True):
                seat.hand = None

    def _free(self, hand: Hand, code: str, reason: str, *, counts: bool) -> bool:
        """Take back the jobs of a process that is dead for certain; says whether the journal could be told."""
        try:
            self._jobs.take_back(hand.owner, self._owner, code, reason, tries=self._site.work.tries, counts=counts)
        except DBAPIError as error:
            log.error("the journal cannot be used", extra={"facts": {"why": logs.why(error)}})
            return False
        return True
