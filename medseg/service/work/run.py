"""`medseg work`: who is needed at a site, and until when."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from importlib.util import find_spec

from medseg import interrupts
from medseg.service.journal import Journal
from medseg.service.journal.states import ENDS, STATES
from medseg.service.settings.site import Site
from medseg.service.work import liveness, pool, post
from medseg.service.work.supervisor import Supervisor

log = logging.getLogger(__name__)

OTHERS = ("clerk", "sender", "housekeeper")
LEFT = tuple(state for state in STATES if state not in ENDS and state != "held")
LOOK_S = 1.0


def everything(site: Site, *, drain: bool = False, ray: str = "") -> None:
    """Supervise all posts of a site until a signal, or, with `drain`, until nothing is left to do.

    Args:
        ray: address of a cluster whose machines run the models; empty: this machine.
    """
    journal = Journal(site.journal_at)
    try:
        with liveness.supervising(site.at(site.data)) as owner, interrupts.requests() as asked:
            others = [(role, 0) for role in OTHERS if find_spec(post.POSTS[role][0])]
            posts = others + [("worker", number) for number in range(pool.count(site))]
            log.info("supervising", extra={"facts": {"posts": len(posts), "owner": owner}})
            supervisor = Supervisor(site, journal, posts, owner=owner, start=pool.Child)
            over = _over(journal) if drain else lambda: False
            supervisor.run(ended=lambda: bool(asked()) or over())
    finally:
        journal.close()


def _over(journal: Journal) -> Callable[[], bool]:
    """Whether nothing is left to do, looked up now and then."""
    looked, found = float("-inf"), False

    def over() -> bool:
        nonlocal looked, found
        if time.monotonic() - looked >= LOOK_S:
            counts, looked = journal.jobs.counts(), time.monotonic()
            found = not any(counts[state] for state in LEFT)
        return found

    return over
