"""Studies of an archive by C-FIND, and by C-GET, or C-MOVE to the own listener (DICOM PS3.4 annex C)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import AllTransferSyntaxes, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context, build_role, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from medseg.refusal import Refusal
from medseg.service.association import Rejected, Unanswered, associated
from medseg.service.intake import asking, server
from medseg.service.intake.asking import ANSWERED, Found
from medseg.service.intake.room import Room
from medseg.service.intake.spool import Limits, Spool
from medseg.service.intake.store import Store
from medseg.service.journal import Journal
from medseg.service.settings import contexts as certificates
from medseg.service.settings.site import Site
from medseg.service.settings.sources import DicomSource
from medseg.service.wire import Provider, Visit

FIND, GET, MOVE = (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)
WAIT_S = 60.0
"""Without a word from the archive."""
CONTEXTS = 120
"""Of the 128 that an association may have (PS3.8 9.3.2.2: odd numbers up to 255)."""
AGAIN = "fetch the study again; what came is kept, and the rest is added to it"
BY_MOVE = "see that `medseg listen` runs, and that the archive knows its AE title and address"
PENDING, SUCCESS = (0xFF00, 0xFF01), 0x0000
PLAIN = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
SYNTAXES = (*PLAIN, *(str(one) for one in AllTransferSyntaxes if str(one) not in PLAIN))


class Archive:
    """A source that speaks DIMSE."""

    def __init__(self, site: Site, name: str, source: DicomSource):
        self._site, self._source = site, source
        self._way = AGAIN if source.by == "get" else f"{BY_MOVE}; {AGAIN}"
        self._name = f"{name} ({source.ae_title} at {source.host}:{source.port})"

    def find(self, keys: Mapping[str, str]) -> list[Found]:
        """
        Raises:
            Refusal: the archive cannot be reached, refuses, or gives no sensible answer.
        """
        with self._association([build_context(FIND)]) as association:
            values = {**dict.fromkeys(ANSWERED, ""), **keys}
            return asking.studies(self._ask(association, "STUDY", values), keys)

    def fetch(self, study_uid: str, store: Store, journal: Journal) -> int:
        """Bring all objects of a study here; how many it has.

        Raises:
            Refusal: see `find`; no such study (code not-found); or not all came, or could be kept (incomplete, or
                no-room).
        """
        listed = self._objects(study_uid)
        if not listed:
            raise Refusal(
                self._name, found="no objects of this study", needed="some", remedy="check the UID", code="not-found"
            )
        journal.arrivals.expect(study_uid, listed, self._name)
        if self._source.by == "get":
            troubles = self._get(study_uid, sorted(set(listed.values())), store)
        else:
            troubles = self._move(study_uid)
        lacking = set(listed) - set(journal.arrivals.holds(listed))
        if lacking:
            raise asking.incomplete(self._name, len(lacking), len(listed), self._way, troubles)
        return len(listed)

    def _objects(self, study_uid: str) -> dict[str, str]:
        """Of each SOP instance of a study: its class."""
        found: dict[str, str] = {}
        with self._association([build_context(FIND)]) as association:
            wanted = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": ""}
            for series in list(self._ask(association, "SERIES", wanted)):
                one = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series.get("SeriesInstanceUID", "")}
                if not one["SeriesInstanceUID"]:
                    continue
                for values in self._ask(association, "IMAGE", {**one, "SOPInstanceUID": "", "SOPClassUID": ""}):
                    if uid := values.get("SOPInstanceUID"):
                        found[uid] = values.get("SOPClassUID", "")
        return found

    def _get(self, study_uid: str, classes: list[str], store: Store) -> list[Refusal]:
        """Every class in every transfer syntax that there is room for, so that nothing has to be repacked.

        Returns:
            What was wrong on the way.
        """
        storable = [one for one in classes if one in server.STORABLE] or sorted(server.STORABLE)[: CONTEXTS // 2]
        each = max(1, CONTEXTS // len(storable))
        contexts = [build_context(one, [syntax]) for one in storable for syntax in SYNTAXES[:each]]
        roles = [build_role(one, scp_role=True) for one in storable[:CONTEXTS]]
        visit = Visit(self._source.host, WAIT_S, calling=self._source.ae_title, accepted=True)
        room = Room(self._site)
        limits = Limits(store.incoming, store.largest, room.full)
        troubles: list[Refusal] = []

        def keep(event: Any) -> int:
            try:
                store.keep(event.request.DataSet.whole(), f"{self._source.ae_title} by C-GET")
                return SUCCESS
            except Refusal as refusal:
                troubles.append(refusal)
                return 0xA700 if refusal.code == asking.NO_ROOM else 0xC000
            finally:
                event.request.DataSet.discard()

        handlers = [(evt.EVT_C_STORE, keep)]
        with self._association([build_context(GET), *contexts[:CONTEXTS]], roles, handlers) as association:
            association.dimse = Provider(association, visit, partial(Spool, limits=limits))
            wanted = _identifier("STUDY", {"StudyInstanceUID": study_uid})
            troubles += self._retrieve(association.send_c_get(wanted, GET))
            association.dimse.discard()
        return troubles

    def _move(self, study_uid: str) -> list[Refusal]:
        """To the listener, which has to run; it answers when it has what comes."""
        with self._association([build_context(MOVE)]) as association:
            wanted = _identifier("STUDY", {"StudyInstanceUID": study_uid})
            return self._retrieve(association.send_c_move(wanted, self._site.listen.ae_title, MOVE))

    def _retrieve(self, answers: Any) -> list[Refusal]:
        """Hear the answers out, and whether it says that it cannot; what did not come is found by what is here in the
        end."""
        status = None
        for said, _ in answers:
            status = said.get("Status")
            if status is None:
                raise self._silent()
        if status is not None and status not in PENDING and 0xA000 <= status < 0xB000:
            return [self._refused(f"status {status:04X}: it cannot send", remedy=self._way)]
        return []

    def _ask(self, association: Any, level: str, values: Mapping[str, str]) -> Iterator[dict[str, str]]:
        for said, answer in association.send_c_find(_identifier(level, values), FIND):
            status = said.get("Status")
            if status is None:
                raise self._silent()
            if status in PENDING and answer is not None:
                yield {one: _text(answer.get(one)) for one in values}
            elif status != SUCCESS and status not in PENDING:
                raise self._refused(f"status {status:04X} to a query", remedy="ask by other keys, or see its log")

    @contextmanager
    def _association(
        self, contexts: list[Any], roles: list[Any] | None = None, handlers: list[Any] | None = None
    ) -> Iterator[Any]:
        entity = ApplicationEntity(self._site.listen.ae_title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = WAIT_S
        entity.maximum_pdu_size = server.PDU_BYTES
        source = self._source
        security = {"tls_args": (certificates.client(self._site, source.tls), source.host)} if source.tls else {}
        try:
            association = associated(
                entity,
                source.host,
                source.port,
                contexts=contexts,
                ae_title=source.ae_title,
                ext_neg=roles,
                handlers=handlers,
                **security,
            )
        except Rejected as error:
            remedy = "check both AE titles, and who it lets in"
            raise self._refused(f"no association: {error}", remedy=remedy) from None
        except Unanswered:
            remedy = "check host, port, TLS, both AE titles and whether it runs"
            raise self._refused("nobody who answers as expected", remedy=remedy) from None
        try:
            if not association.accepted_contexts:
                raise self._refused("none of what was asked for", remedy="see what it can do (conformance statement)")
            yield association
        finally:
            if association.is_established:
                association.release()

    def _silent(self) -> Refusal:
        found = f"that it ends the association, or gives no answer within {WAIT_S:g} s"
        remedy = f"see whether it knows {self._site.listen.ae_title} as one that may ask and fetch, or is busy"
        return self._refused(found, remedy=remedy)

    def _refused(self, found: str, *, remedy: str) -> Refusal:
        return Refusal(self._name, found=found, needed="an archive that answers", remedy=remedy, code="source")


def _identifier(level: str, values: Mapping[str, str]) -> Dataset:
    made = Dataset()
    made.QueryRetrieveLevel = level
    for name, value in values.items():
        setattr(made, name, value.replace(",", "\\") if name in ("ModalitiesInStudy", "StudyInstanceUID") else value)
    return made


def _text(value: Any) -> str:
    if value is None:
        return ""
    several = not isinstance(value, str) and hasattr(value, "__iter__")
    return "\\".join(map(str, value)) if several else str(value)
