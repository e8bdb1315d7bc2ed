"""`medseg listen`: the listener, the watched folders, and the closing of studies, until it is asked to stop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from sqlalchemy.exc import DBAPIError

from medseg.service.intake.closing import Closing
from medseg.service.intake.listener import Listener
from medseg.service.intake.store import Store
from medseg.service.intake.watch import Watching
from medseg.service.journal import Journal
from medseg.service.logs import place
from medseg.service.settings.site import Site

log = logging.getLogger(__name__)

EVERY_S = 0.25
PAUSE_S = 5.0
"""After an error of the journal or the disk."""


def run(site: Site, stop: Callable[[], bool], *, grace_s: float = 30.0) -> None:
    """Take studies in until `stop` says so.

    Raises:
        Refusal: see `Listener.start`.
    """
    journal = Journal(site.journal_at)
    store = Store(site, journal)
    try:
        listener = Listener(site, journal, store)
        listener.start()
        log.info("%s listens at %s:%d", site.listen.ae_title, site.listen.host, listener.port)
        watching, closing = Watching(site, store, journal), Closing(site, journal, busy=listener.busy)
        try:
            while not stop():
                time.sleep(EVERY_S if _step(watching, closing) else PAUSE_S)
        finally:
            log.info("stops; associations may end within %g s", grace_s)
            listener.stop(grace_s=grace_s)
    finally:
        store.close()
        journal.close()


def _step(watching: Watching, closing: Closing) -> bool:
    """One round; says whether all went well. What did not is tried again: nothing of it is lost."""
    well = True
    for step in (watching.step, closing.step):  # what is wrong with a folder keeps no study from being closed
        try:
            step()
        except (OSError, DBAPIError) as error:
            log.error("the disk or the journal cannot be used; tried again", extra={"facts": {"error": place(error)}})
            well = False
    return well
