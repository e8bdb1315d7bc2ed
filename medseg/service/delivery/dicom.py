"""Results to an archive by C-STORE, and its word that it keeps them by storage commitment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
import pynetdicom
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import _config, build_context
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

from medseg.service.association import Rejected, Unanswered, associated
from medseg.service.delivery.commitment import Commitments
from medseg.service.delivery.way import (
    AGAIN,
    NEVER,
    Again,
    File,
    Gone,
    Instance,
    Never,
    Pending,
    meaning,
    objects,
    said,
)
from medseg.service.journal.job import Job
from medseg.service.settings import contexts
from medseg.service.settings.receivers import StoreReceiver
from medseg.service.settings.site import Site

CONNECT_S, ANSWER_S = 10.0, 60.0
"""Longest wait for a connection, and for the answer to one message."""
REPORT_S = 5.0
"""Longest wait for the answer to a question of storage commitment; it may come later."""
PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
"""Between these an object can be rewritten without loss; every archive takes the latter (PS3.5 10.1)."""
NO_SUCH_OBJECT = 0x0112

_config.LOG_HANDLER_LEVEL = "none"  # what pynetdicom would log of each message holds what is in it
_config.STORE_SEND_CHUNKED_DATASET = True  # a file is sent as it lies on the disk


class StoreWay:
    """Speaks to one archive."""

    def __init__(self, site: Site, receiver: StoreReceiver):
        self._to = receiver
        self._tls = (contexts.client(site, receiver.tls), receiver.host) if receiver.tls else None
        self._entity = pynetdicom.AE(receiver.calling or site.listen.ae_title)
        self._entity.connection_timeout = self._entity.acse_timeout = CONNECT_S
        self._entity.dimse_timeout = self._entity.network_timeout = ANSWER_S
        self._entity.require_calling_aet = [receiver.ae_title]  # at the port for confirmations
        served = contexts.server(site, receiver.tls) if receiver.tls and receiver.reports else None
        self._commitments = Commitments(self._entity, (site.listen.host, receiver.reports), served)

    def close(self) -> None:
        """Stop listening for answers."""
        self._commitments.close()

    def send(self, job: Job, files: Sequence[File]) -> str:
        found, left_out = objects(files)
        with self._association([instance for _, instance in found]) as association:
            remarks = [self._store(association, path, instance) for path, instance in found]
        return said(*remarks, left_out)

    def confirm(self, job: Job, files: Sequence[File]) -> None:
        instances = {instance.sop_uid: instance.sop_class for _, instance in objects(files)[0]}
        if not self._to.commitment:
            return
        if self._commitments.due(instances):
            with self._association([]) as association:
                self._commitments.ask(association, instances)
                answer = self._commitments.answer(instances, REPORT_S)
        else:
            answer = self._commitments.answer(instances, REPORT_S)
        if answer is None:
            raise Pending("it has not said yet that it keeps what it took")
        for sop_uid, reason in answer.items():
            if reason != NO_SUCH_OBJECT and meaning(reason) == AGAIN:
                raise Again(f"it could not say whether it keeps an object (reason {reason:04X}H)")
            raise Gone(f"it does not keep {sop_uid} (reason {reason:04X}H)")

    @contextmanager
    def _association(self, instances: Sequence[Instance]) -> Iterator[Any]:
        """An association for these objects, or for storage commitment."""
        wanted: dict[str, list[str]] = {} if instances else {StorageCommitmentPushModel: list(PLAIN)}
        for instance in instances:
            syntaxes = [instance.syntax, *(PLAIN if instance.syntax in PLAIN else ())]
            wanted.setdefault(instance.sop_class, []).extend(syntaxes)
        offered = [build_context(name, [one]) for name, some in wanted.items() for one in dict.fromkeys(some)]
        offered.append(build_context(Verification, list(PLAIN)))  # else nobody could tell that all others were refused
        try:
            association = associated(
                self._entity,
                self._to.host,
                self._to.port,
                contexts=offered,
                ae_title=self._to.ae_title,
                tls_args=self._tls,
                handlers=self._commitments.handlers,
            )
        except Rejected as error:
            raise Again(f"{self._named} rejects the association: {error}") from None
        except Unanswered:
            why = "nobody answers there as expected; check host, port, TLS and both AE titles"
            raise Again(f"no association with {self._named}: {why}") from None
        try:
            yield association
        finally:
            association.release()

    def _store(self, association: Any, path: Path, instance: Instance) -> str:
        """Send one object; what is worth saying of it."""
        accepted = {
            str(context.transfer_syntax[0])
            for context in association.accepted_contexts
            if context.abstract_syntax == instance.sop_class
        }
        if not accepted:
            raise Never(f"{self._named} takes no {pydicom.uid.UID(instance.sop_class).name} ({path.name})")
        whole = path if instance.syntax in accepted else pydicom.dcmread(path)
        try:
            status = association.send_c_store(whole).get("Status")
        except (RuntimeError, OSError) as error:
            raise Again(f"the association with {self._named} has ended") from error
        if status is None:
            raise Again(f"{self._named} gave no answer to {path.name} within {ANSWER_S:g} s, or broke off")
        if meaning(status) == AGAIN:
            raise Again(f"{self._named} answers {status:04X}H to {path.name}")
        if meaning(status) == NEVER:
            raise Never(f"{self._named} answers {status:04X}H to {path.name}")
        return f"{path.name}: taken with {status:04X}H" if status else ""

    @property
    def _named(self) -> str:
        return f"{self._to.ae_title} at {self._to.host}:{self._to.port}"
