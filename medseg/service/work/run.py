"""`medseg work`: who is needed at a site, and until when."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from medseg import interrupts
from medseg.service.journal import Journal
from medseg.service.journal.states import ENDS, STATES
from medseg.service.settings.site import Site
from medseg.service.work import liveness, pool
from medseg.service.work.supervisor import Start, Supervisor

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
        with (
            liveness.supervising(site.at(site.data)) as owner,
            hands(ray, site, journal, _models(site)) as (workers, start),
            interrupts.requests() as asked,
        ):
            posts = [(role, 0) for role in OTHERS] + [("worker", number) for number in range(workers)]
            log.info("supervising", extra={"facts": {"workers": workers, "owner": owner}})
            over = _over(journal) if drain else lambda: False
            Supervisor(site, journal, posts, owner=owner, start=start).run(ended=lambda: bool(asked()) or over())
    finally:
        journal.close()


@contextmanager
def hands(ray: str, site: Site, journal: Journal, models: Iterable[str]) -> Iterator[tuple[int, Start]]:
    """How many workers there are to be, and what starts one.

    Args:
        ray: address of a cluster; empty: this machine.
        models: that jobs will name, for other machines to be given.
    """
    if not ray:
        yield pool.count(site), pool.Child
        return
    from medseg.service.work import cluster

    with cluster.connected(ray, site, journal, models) as found:
        yield found.workers, found.start


def _models(site: Site) -> Iterator[str]:
    from medseg.service import models

    folder = models.at(site)
    yield from dict.fromkeys(str(models.find(folder, route.model, beside=site.folder)) for route in site.routes)


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
