"""Storage commitment (DICOM PS3.4 annex J): whoever asks is told which of the objects that it sent are kept here."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import build_role
from pynetdicom.ae import ApplicationEntity
from pynetdicom.sop_class import StorageCommitmentPushModel

from medseg.service import logs
from medseg.service.intake import head
from medseg.service.journal import Journal
from medseg.service.settings import contexts
from medseg.service.settings.receivers import StoreReceiver
from medseg.service.settings.site import Site
from medseg.service.settings.sources import DicomSource

log = logging.getLogger(__name__)

SUCCESS, INVALID_ARGUMENT, NO_SUCH_ACTION = 0x0000, 0x0115, 0x0123
REQUEST, ALL_KEPT, SOME_NOT = 1, 1, 2
"""Action type of a request (J.3.2), event types of its answer (J.3.3)."""
NOT_HERE, OTHER_CLASS = 0x0112, 0x0119
"""Failure reasons (PS3.3 C.14): no such object instance; class / instance conflict."""
INSTANCE = "1.2.840.10008.1.20.1.1"
"""The well-known instance of the Storage Commitment Push Model."""
WAIT_S = 10.0


def take(event: Any, site: Site, journal: Journal) -> tuple[int, None]:
    """Handle an N-ACTION: its status now; the answer follows as an N-EVENT-REPORT, on an association of its own to
    whom the site knows by its AE title, else on the same association."""
    if event.action_type != REQUEST:
        return NO_SUCH_ACTION, None
    try:
        asked = event.action_information
        transaction = str(asked.TransactionUID)
        wanted = [(str(one.ReferencedSOPClassUID), str(one.ReferencedSOPInstanceUID)) for one in asked[0x00081199]]
    except Exception:  # whatever a parser makes of what a stranger sends
        return INVALID_ARGUMENT, None
    if not head.is_uid(transaction) or not wanted:
        return INVALID_ARGUMENT, None
    calling = event.assoc.dimse.visit.calling
    threading.Thread(
        target=_report, args=(event.assoc, calling, transaction, wanted, site, journal), name="commitment", daemon=True
    ).start()
    return SUCCESS, None


def answer(transaction: str, wanted: Iterable[tuple[str, str]], site: Site, journal: Journal) -> Dataset:
    """What is said of objects (SOP class, SOP instance): those are kept that are on record and lie on the disk."""
    wanted = list(wanted)
    known, kept, lacking = journal.arrivals.holds(uid for _, uid in wanted), [], []
    for sop_class, uid in wanted:
        found = [one for one in known.get(uid, []) if (site.at(site.data) / one.path).is_file()]
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
        if any(one.sop_class == sop_class for one in found):
            kept.append(item)
        else:
            item.FailureReason = OTHER_CLASS if found else NOT_HERE
            lacking.append(item)
    said = Dataset()
    said.TransactionUID = transaction
    if kept:
        said.ReferencedSOPSequence = kept
    if lacking:
        said.FailedSOPSequence = lacking
    return said


def _report(
    association: Any, calling: str, transaction: str, wanted: list[tuple[str, str]], site: Site, journal: Journal
) -> None:
    said = answer(transaction, wanted, site, journal)
    kind = SOME_NOT if "FailedSOPSequence" in said else ALL_KEPT
    facts = {"calling": calling, "transaction": logs.pseudonym(transaction), "objects": len(wanted)}
    try:
        asker = _known(site, calling)
        told = _told_anew(site, asker, said, kind) if asker else _told_here(association, said, kind)
    except Exception as error:
        log.error("commitment could not be told", extra={"facts": {**facts, "error": logs.place(error)}})
        return
    lacking = len(said.get("FailedSOPSequence") or ())
    log.info("commitment told" if told else "commitment not taken", extra={"facts": {**facts, "lacking": lacking}})


def _known(site: Site, calling: str) -> DicomSource | StoreReceiver | None:
    """Where an AE title can be reached."""
    for one in (*site.sources.values(), *site.receivers.values()):
        if isinstance(one, DicomSource | StoreReceiver) and one.ae_title == calling:
            return one
    return None


def _told_here(association: Any, said: Dataset, kind: int) -> bool:
    """After the answer to the request, which this thread may outrun."""
    association.dimse_timeout = WAIT_S
    status, _ = association.send_n_event_report(said, kind, StorageCommitmentPushModel, INSTANCE)
    return bool(status) and status.Status == SUCCESS


def _told_anew(site: Site, asker: DicomSource | StoreReceiver, said: Dataset, kind: int) -> bool:
    """As the one that serves, which calls: roles are negotiated (J.3.3)."""
    entity = ApplicationEntity(site.listen.ae_title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = WAIT_S
    entity.add_requested_context(StorageCommitmentPushModel)
    security = {"tls_args": (contexts.client(site, asker.tls), asker.host)} if asker.tls else {}
    association = entity.associate(
        asker.host,
        asker.port,
        ae_title=asker.ae_title,
        ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)],
        **security,
    )
    if not association.is_established:
        return False
    try:
        status, _ = association.send_n_event_report(said, kind, StorageCommitmentPushModel, INSTANCE)
        return bool(status) and status.Status == SUCCESS
    finally:
        association.release()
