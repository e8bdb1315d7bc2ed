"""Storage commitment, as who asks for it (DICOM PS3.4 J): answers come on the association on which was asked, or on one
that the archive opens to a port of ours, and may come much later."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import pynetdicom
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from medseg.service import wire
from medseg.service.delivery.way import Again

INSTANCE = "1.2.840.10008.1.20.1.1"
"""Well-known instance of the Storage Commitment Push Model."""
ASK = 1
"""Action type: request storage commitment."""
ASK_AGAIN_S = 600.0
"""An answer that has not come for so long is asked for anew."""
AT_ONCE, IDLE_S = 10, 60.0
"""Most associations with answers, and the longest that one may be silent."""

Answer = Mapping[str, int]
"""SOP Instance UID that is not kept -> failure reason (PS3.3 C.14.1.1); empty: all are."""


class Port(wire.Server):
    """At which answers come. Nobody keeps a record of who came."""

    def verify_request(self, request: Any, client_address: Any) -> bool:
        self.visits.difference_update([visit for visit in list(self.visits) if visit.gone])
        return super().verify_request(request, client_address)


class Commitments:
    """What was asked of one archive, and what it has answered. Only what was asked is remembered; after a restart it is
    asked for anew, which does no harm.

    Args:
        entity: with which the port for answers is served, for those alone whom it requires to call.
        port: of it; 0: answers come on the association on which was asked.
    """

    def __init__(self, entity: pynetdicom.AE, address: tuple[str, int], context: Any = None):
        self._asked: dict[frozenset[str], tuple[str, float]] = {}
        self._answers: dict[str, dict[str, int]] = {}
        self._changed = threading.Condition()
        self._server: Any = None
        self.handlers = [(evt.EVT_N_EVENT_REPORT, self._heard)]
        if address[1]:
            entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
            handlers = [*self.handlers, (evt.EVT_REQUESTED, _requested), (evt.EVT_ACCEPTED, _accepted)]
            limited: dict[str, Any] = {"idle_s": IDLE_S, "associations": AT_ONCE, "parts": wire.Parts}
            try:
                self._server = wire.listening(entity, address, handlers, context, Port, **limited)
            except OSError as error:
                raise Again(f"port {address[1]} for confirmations: {error.strerror or error}") from error
            threading.Thread(target=self._server.serve_forever, name="confirmations", daemon=True).start()

    def close(self) -> None:
        if self._server:
            self._server.shutdown()

    def due(self, instances: Mapping[str, str]) -> bool:
        """Whether these have to be asked for, anew or for the first time."""
        transaction, since = self._asked.get(frozenset(instances), ("", 0.0))
        return not transaction or (transaction not in self._answers and time.monotonic() > since + ASK_AGAIN_S)

    def ask(self, association: Any, instances: Mapping[str, str]) -> None:
        """
        Args:
            instances: SOP Instance UID -> SOP Class UID.

        Raises:
            Again: the archive does not let itself be asked.
        """
        transaction = generate_uid()
        with self._changed:
            self._forget(instances)
            self._asked[frozenset(instances)] = (transaction, time.monotonic())
        wanted = Dataset()
        wanted.TransactionUID, wanted.ReferencedSOPSequence = transaction, []
        for sop_uid, sop_class in instances.items():
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_uid
            wanted.ReferencedSOPSequence.append(item)
        try:
            status, _ = association.send_n_action(wanted, ASK, StorageCommitmentPushModel, INSTANCE)
        except ValueError as error:
            self.forget(instances)
            raise Again("it offers no storage commitment; set commitment: false for it in site.yaml") from error
        if status.get("Status") != 0:
            self.forget(instances)
            raise Again(f"it would not say whether it keeps them (status {status.get('Status', 'none')})")

    def answer(self, instances: Mapping[str, str], wait_s: float) -> Answer | None:
        """What the archive has said, which is then forgotten; None if it has not within the time."""
        with self._changed:
            transaction = self._asked.get(frozenset(instances), ("", 0.0))[0]
            if not self._changed.wait_for(lambda: transaction in self._answers, wait_s):
                return None
            found = self._answers[transaction]
            self._forget(instances)
            return found

    def forget(self, instances: Mapping[str, str]) -> None:
        """So that they are asked for anew."""
        with self._changed:
            self._forget(instances)

    def _forget(self, instances: Mapping[str, str]) -> None:
        transaction, _ = self._asked.pop(frozenset(instances), ("", 0.0))
        self._answers.pop(transaction, None)

    def _heard(self, event: Any) -> tuple[int, None]:
        """An N-EVENT-REPORT; one about what nobody asked is taken, and is of no consequence."""
        told = event.event_information
        failed = {
            str(item.get("ReferencedSOPInstanceUID", "")): int(item.get("FailureReason", 0x0110))
            for item in told.get("FailedSOPSequence") or ()
        }
        kept = {str(item.get("ReferencedSOPInstanceUID", "")) for item in told.get("ReferencedSOPSequence") or ()}
        with self._changed:
            for instances, (transaction, _) in self._asked.items():
                if transaction == str(told.get("TransactionUID", "")):
                    unsaid = dict.fromkeys(instances - kept - set(failed), 0x0112)
                    self._answers[transaction] = unsaid | failed
                    self._changed.notify_all()
        return 0x0000, None


def _requested(event: Any) -> None:
    wire.never_began(event.assoc)


def _accepted(event: Any) -> None:
    event.assoc.dimse.visit.accepted = True
