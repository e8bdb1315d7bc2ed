"""What a child process of the supervisor does all its life: step after step of one post, until it is asked to end.

Imports little, because the environment of the process is set before anything heavy is imported.
"""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from medseg.interrupts import AGAIN
from medseg.service import logs
from medseg.service.settings.site import Site
from medseg.service.work import liveness

if TYPE_CHECKING:  # see above
    from sqlalchemy.exc import DBAPIError

log = logging.getLogger(__name__)

POSTS = {
    "clerk": ("medseg.service.routing.clerk", "Clerk"),
    "sender": ("medseg.service.delivery.sender", "Sender"),
    "housekeeper": ("medseg.service.operations.housekeeper", "Housekeeper"),
    "worker": ("medseg.service.work.worker", "Worker"),
}
IDLE_S = 0.5
"""Before a post with nothing to do looks again."""
GLANCE_S = 0.2
TWICE = "23505"
"""SQLSTATE of what is there once already, and may be but once."""


def main(role: str, site: Site, owner: str, environment: dict[str, str], level: int) -> None:
    """The whole of a child process. It ends with its parent, however that ends, and logs what its parent would."""
    os.environ |= environment
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent says what it means
    asked: list[int] = []  # an Event that the main thread waits for must not be set by a signal in the same thread
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logs.begin(level)
    from sqlalchemy.exc import DBAPIError

    try:
        with liveness.alive(liveness.folder(site.at(site.data)), owner):
            serve(role, site, owner, lambda: bool(asked))
    except (DBAPIError, OSError) as error:
        log.error("the journal or the disk cannot be used", extra={"facts": {"role": role, "why": logs.why(error)}})
        sys.exit(AGAIN if not isinstance(error, DBAPIError) or passes(error) else 1)
    except Exception as error:  # whose words the interpreter would print
        log.critical("a process cannot go on", extra={"facts": {"role": role, "error": logs.place(error)}})
        sys.exit(1)


def passes(error: DBAPIError) -> bool:
    """Whether an error of the journal is nobody's fault: its disk is full, or its server is away. What PostgreSQL will
    never take (SQLSTATE 22 and 23) is the fault of a job, which else would be begun for ever, uncounted. That two have
    put the same on record at once (23505) is not: next time, the second finds it there."""
    told = error.orig.args[0] if error.orig and error.orig.args else ""
    code = str(told.get("C", "")) if isinstance(told, dict) else ""
    return code == TWICE or not code.startswith(("22", "23"))


def serve(role: str, site: Site, owner: str, asked: Callable[[], bool], **more: Any) -> None:
    """Steps of a post until it is asked to end.

    Args:
        asked: whether it is.
        more: what the post's class takes besides.
    """
    from medseg.service.journal import Journal

    journal = Journal(site.journal_at)
    try:
        module, name = POSTS[role]
        post = getattr(importlib.import_module(module), name)(site, journal, owner, **more)
        threading.Thread(target=_pass_on, args=(asked, post), daemon=True).start()
        try:
            while not asked():
                if not post.step():
                    time.sleep(IDLE_S)
        finally:
            if close := getattr(post, "close", None):
                close()
    finally:
        journal.close()


def _pass_on(asked: Callable[[], bool], post: Any) -> None:
    """A step may take long: posts that want to know that they are asked to end have an `end`."""
    while not asked():
        time.sleep(GLANCE_S)
    if end := getattr(post, "end", None):
        end()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(AGAIN)
