"""What takes studies in by C-STORE, answers C-ECHO, and confirms what it keeps (storage commitment)."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Collection
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import evt
from sqlalchemy.exc import DBAPIError

from medseg.atomic import DISK_FULL
from medseg.refusal import Refusal
from medseg.service.intake import commitment, server
from medseg.service.intake.room import Room
from medseg.service.intake.spool import Limits
from medseg.service.intake.store import Store
from medseg.service.journal import Journal
from medseg.service.logs import place
from medseg.service.port import BESIDE
from medseg.service.settings.site import Site
from medseg.service.strangers import Counted
from medseg.service.wire import LOST, TICK_S, Visit, never_began

log = logging.getLogger(__name__)

Reply = tuple[int, int, int]
"""Result, source and reason of an A-ASSOCIATE-RJ (DICOM PS3.8 table 9-21)."""
CALLING, CALLED = (1, 1, 3), (1, 1, 7)
"""Permanent; AE title not recognised: of who calls, of who is called."""
CONGESTED, TOO_MANY = (2, 3, 1), (2, 3, 2)
"""Transient, so that senders come again: temporary congestion, local limit exceeded."""
SUCCESS, NO_ROOM, MISMATCH, NOT_UNDERSTOOD, ERROR = 0x0000, 0xA700, 0xA900, 0xC000, 0x0110
"""Status of a C-STORE (DICOM PS3.4 table B.2-1, PS3.7 annex C)."""
STATUS = {"no-room": NO_ROOM, "mismatch": MISMATCH}
"""Of other codes of a refusal: not understood."""
LONGEST_COMMENT = 64
MEASURE_S = 60.0
"""How often the data folder is added up, where there is a quota."""


class Listener:
    """A port that is listened at, from `start` to `stop`.

    Attributes:
        port: where, once it has started.
    """

    def __init__(self, site: Site, journal: Journal, store: Store):
        self._site, self._journal, self._store = site, journal, store
        self._room, self._refused = Room(site), Counted(time.monotonic)
        self._draining, self._ended, self._lock = False, threading.Event(), threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """
        Raises:
            Refusal: see `server.serve`.
        """
        limits = Limits(self._store.incoming, self._store.largest, self._room.full)
        handlers = [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_RELEASED, self._released),
            (evt.EVT_ABORTED, self._aborted),
            (evt.EVT_C_ECHO, lambda event: SUCCESS),
            (evt.EVT_C_STORE, self._store_one),
            (evt.EVT_N_ACTION, self._commit),
        ]
        self._server = server.serve(self._site, handlers, limits)
        self.port = int(self._server.server_address[1])
        for name, work in (("listener", self._serve), ("listener's record", self._keep_record)):
            self._threads.append(threading.Thread(target=work, name=name, daemon=True))
            self._threads[-1].start()

    def stop(self, *, grace_s: float = 0.0) -> None:
        """Take no more associations, let those that are there end for a while, and close the port."""
        if self._ended.is_set():
            return
        self._draining = True
        end = time.monotonic() + grace_s
        while self._visitors() and time.monotonic() < end:
            time.sleep(TICK_S / 5)
        self._server.shutdown()
        for visit in list(self._server.visits):
            if visit.association and visit.association.is_alive():
                visit.outcome = "ended: medseg stops"
                visit.association.abort()
                visit.association.join(timeout=self._site.listen.idle_s)
        self._ended.set()
        for thread in self._threads:
            thread.join(timeout=MEASURE_S)
        self._conclude()

    def busy(self) -> Collection[str]:
        """Studies of which an object is coming in at this moment."""
        return {visit.study for visit in list(self._server.visits) if visit.receiving or visit.working}

    # who comes, and who goes

    def _serve(self) -> None:
        self._server.serve_forever(poll_interval=TICK_S / 5)

    def _keep_record(self) -> None:
        measured = time.monotonic()
        while not self._ended.wait(TICK_S):
            try:
                self._conclude()
                if time.monotonic() - measured > MEASURE_S:
                    self._room.measure()
                    measured = time.monotonic()
            except (OSError, DBAPIError) as error:  # tried again: else who has gone would count as here for ever
                log.error("associations cannot be put on record", extra={"facts": {"error": place(error)}})

    def _visitors(self) -> list[Visit]:
        """Associations that have not ended, whether or not it is on record how others did."""
        here = [visit for visit in list(self._server.visits) if visit.accepted]
        return [visit for visit in here if visit.outcome == LOST and not visit.gone]

    def _requested(self, event: Any) -> None:
        """Let an association in, or say why not."""
        association = event.assoc
        visit, primitive = association.dimse.visit, association.requestor.primitive
        if never_began(association):
            return
        visit.asked = True
        visit.calling = str(primitive.calling_ae_title).strip()
        with self._lock:
            reply, why = self._verdict(visit, str(primitive.called_ae_title).strip())
            visit.accepted = reply is None
        if reply:
            visit.outcome = f"refused: {why}"
            association.acse.send_reject(*reply)
            association.kill()
        else:
            visit.ended(LOST)
            association.acceptor.supported_contexts = server.offered(primitive)

    def _verdict(self, visit: Visit, called: str) -> tuple[Reply | None, str]:
        listen, here = self._site.listen, self._visitors()
        if called != listen.ae_title:
            return CALLED, f"it calls {called}"
        if listen.allow and visit.calling not in listen.allow:
            return CALLING, "not allowed"
        if self._draining:
            return CONGESTED, "medseg stops"
        if why := self._room.full():
            return CONGESTED, why
        kept = 0 if any(one.address == visit.address for one in here) else BESIDE  # for who has none yet
        if len(here) >= listen.associations + kept:
            return TOO_MANY, f"{len(here)} associations already"
        return None, ""

    def _released(self, event: Any) -> None:
        event.assoc.dimse.visit.ended("done")

    def _aborted(self, event: Any) -> None:
        event.assoc.dimse.visit.ended("aborted")

    def _conclude(self) -> None:
        """Write down how those connections ended that have. Of those that asked for no association, and of more refused
        ones of an address than a few, the log alone tells: anybody can make as many as there is time for."""
        for visit in [one for one in list(self._server.visits) if one.gone]:
            if visit.association:
                visit.association.dimse.discard()
            counts = f"{visit.taken} objects" + (f", {visit.refused} refused" if visit.refused else "")
            outcome = f"{visit.outcome}, {counts}" if visit.accepted else visit.outcome
            if visit.asked and (visit.accepted or not self._refused.too_often(visit.address)):
                self._journal.audit.add(f"{visit.calling or 'unknown'} at {visit.address}", "association", "", outcome)
            self._server.visits.discard(visit)
            facts = {"calling": visit.calling, "address": visit.address, "outcome": outcome}
            log.info("association ended", extra={"facts": facts})

    # what they want

    def _store_one(self, event: Any) -> Dataset:
        visit = event.assoc.dimse.visit
        visit.working = True
        try:
            path = event.request.DataSet.whole()
            size = path.stat().st_size
            kept = self._store.keep(path, visit.calling, sop_uid=str(event.request.AffectedSOPInstanceUID))
            self._room.took(size)
            visit.taken, visit.study = visit.taken + 1, kept.study_uid
            return _answer(SUCCESS)
        except Refusal as refusal:
            return self._refuse(visit, STATUS.get(refusal.code, NOT_UNDERSTOOD), refusal.code)
        except OSError as error:
            full = error.errno in (*DISK_FULL, errno.ENOMEM)
            return self._refuse(visit, NO_ROOM if full else ERROR, error.strerror or type(error).__name__)
        except Exception as error:
            log.error("an object could not be kept", extra={"facts": {"error": place(error)}})
            return self._refuse(visit, ERROR, type(error).__name__)
        finally:
            event.request.DataSet.discard()
            visit.working = False
            visit.progressed()

    def _refuse(self, visit: Visit, status: int, why: str) -> Dataset:
        visit.refused += 1
        facts = {"calling": visit.calling, "why": why, "status": f"{status:04X}"}
        log.warning("object refused", extra={"facts": facts})
        return _answer(status, why)

    def _commit(self, event: Any) -> tuple[int, None]:
        return commitment.take(event, self._site, self._journal)


def _answer(status: int, why: str = "") -> Dataset:
    found = Dataset()
    found.Status = status
    if why:
        found.ErrorComment = why[:LONGEST_COMMENT]
    return found
