"""The post that keeps an installation well: counts its age, tells of troubles, removes what nobody needs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from medseg.service.journal import Journal
from medseg.service.operations import alerts, retention
from medseg.service.operations.alerts import Trouble
from medseg.service.settings.site import Site

log = logging.getLogger(__name__)
LOOK_S, TIDY_S = 10.0, 600.0
"""How often it looks for troubles, and for what may go."""


class Housekeeper:
    """See above. Several may work on one journal; none does twice what another has done."""

    def __init__(self, site: Site, journal: Journal, owner: str, *, clock: Callable[[], float] = time.monotonic):
        self._site, self._journal, self._owner, self._clock = site, journal, owner, clock
        self._watch = alerts.Watch(site, journal, clock)
        self._looked: float | None = None
        self._tidied: float | None = None
        self._own: list[Trouble] = []
        self._last = 0

    def step(self) -> bool:
        """Do what is due; whether there was something."""
        now = self._clock()
        if self._looked is not None and now - self._looked < LOOK_S:
            return False
        age = self._journal.keeping.grow(None if self._looked is None else now - self._looked)
        self._looked = now
        upto, self._last = self._last, self._journal.jobs.last_event()
        told = alerts.tell(self._site, self._journal, [*self._watch.look(), *self._own], age=age, upto=upto)
        if self._tidied is not None and now - self._tidied < TIDY_S:
            return bool(told)
        self._tidied = now
        return self._tidy(age) or bool(told)

    def _tidy(self, age: float) -> bool:
        try:
            done = retention.tidy(self._site, self._journal, age=age, who=self._owner)
        except OSError as error:  # somebody must look; what else is to be done goes on
            log.warning("nothing can be removed", extra={"facts": {"why": error.strerror}})
            self._own = [Trouble("keep", f"what nobody needs cannot be removed: {error.strerror}")]
            return False
        self._own = []
        if done.over:
            said = f"what must stay is {done.over / 2**30:.1f} GiB more than keep.quota_gib"
            self._own = [Trouble("quota", said, {"over_gib": round(done.over / 2**30, 1)})]
        return bool(done.going)
