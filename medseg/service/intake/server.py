"""The port of the listener: who connects gets a thread of its own at once, so that nobody waits for anybody else."""

from __future__ import annotations

import logging
import sys
from typing import Any

from pydicom.uid import AllTransferSyntaxes, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AllStoragePresentationContexts, _config, build_context
from pynetdicom.ae import ApplicationEntity
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from medseg.refusal import Refusal
from medseg.service import logs
from medseg.service.intake.spool import Limits
from medseg.service.intake.transfer import Machine, Provider, Socket, Visit
from medseg.service.settings import contexts
from medseg.service.settings.site import Site

log = logging.getLogger(__name__)

PDU_BYTES = 2**17
"""Longest data PDU that is asked for; large ones cost less time a byte."""
HANDSHAKE_S = 10.0
BESIDE = 20
"""Connections more than there may be associations, to be told that they are too many; more are closed at once."""
SERVICES = [
    build_context(one, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    for one in (Verification, StorageCommitmentPushModel)
]
STORABLE = frozenset(str(one.abstract_syntax) for one in AllStoragePresentationContexts)
SYNTAXES = frozenset(map(str, AllTransferSyntaxes))

_config.LOG_HANDLER_LEVEL = "none"  # what pynetdicom would log of each message holds what is in it


class Server(ThreadedAssociationServer):
    """
    Attributes:
        visits: connections that have not been written down yet, each from its first byte on.
        limits: of what may come in.
    """

    daemon_threads = True
    request_queue_size = 128
    idle_s: float
    most: int
    limits: Limits
    visits: set[Visit]

    def get_request(self) -> tuple[Any, Any]:
        """The connection as it is; for a TLS handshake, which a stranger could draw out, nobody else waits."""
        assert self.socket is not None  # it is listened at
        return self.socket.accept()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return len(self.visits) < self.most

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        facts = {"address": str(client_address[0]), "error": logs.place(error) if error else ""}
        log.error("a connection could not be served", extra={"facts": facts})


class Handler(RequestHandler):
    """Starts an association that is watched, in a thread of its own."""

    server: Server
    request: Any

    def handle(self) -> None:
        visit = Visit(str(self.client_address[0]), self.server.idle_s)
        self.server.visits.add(visit)
        try:
            if self.server.ssl_context:
                self.request.settimeout(min(HANDSHAKE_S, visit.idle_s))
                self.request = self.server.ssl_context.wrap_socket(self.request, server_side=True)
        except OSError as error:  # ssl.SSLError is one
            visit.outcome, visit.over = f"no TLS ({getattr(error, 'reason', None) or type(error).__name__})", True
            self.server.shutdown_request(self.request)
            return
        association = self._create_association()
        association.dul.socket = None  # in its place, and with the event that it has told of, comes one with limits
        association.dul.event_queue.queue.clear()
        association.set_socket(Socket(association, self.request, visit))
        association.dul.state_machine = Machine(association.dul)
        association.dimse = Provider(association, self.server.limits, visit)
        visit.association = association
        association.start()


def serve(site: Site, handlers: list[Any], limits: Limits) -> Server:
    """A server that is bound to its port; `serve_forever` makes it answer.

    Raises:
        Refusal: the port cannot be had, or certificates are not what they should be.
    """
    listen = site.listen
    entity = ApplicationEntity(listen.ae_title)
    entity.maximum_pdu_size = PDU_BYTES
    entity.maximum_associations = 10 * listen.associations  # the listener counts, with reasons for its record
    entity.network_timeout = listen.idle_s
    entity.acse_timeout = min(30.0, listen.idle_s)
    try:
        server = entity.make_server(
            (listen.host, listen.port),
            contexts=SERVICES,
            ssl_context=contexts.server(site, listen.tls) if listen.tls else None,
            evt_handlers=handlers,
            server_class=Server,
            request_handler=Handler,
        )
    except OSError as error:
        raise Refusal(
            f"{listen.host}:{listen.port}",
            found=f"an address that cannot be listened at ({error.strerror or error})",
            needed="a free port at an address of this machine",
            remedy="see what listens there, or change listen.host and listen.port",
        ) from error
    server.limits, server.visits = limits, set()
    server.idle_s, server.most = listen.idle_s, listen.associations + BESIDE
    entity._servers.append(server)
    return server


def offered(primitive: Any) -> list[Any]:
    """Presentation contexts to support, of those that are asked for: any known storage class in any known transfer
    syntax. What is unknown, or a vendor's own, nobody here could read."""
    wanted: dict[str, list[str]] = {}
    for context in primitive.presentation_context_definition_list:
        name = str(context.abstract_syntax)
        if name in STORABLE:
            wanted.setdefault(name, []).extend(one for one in map(str, context.transfer_syntax) if one in SYNTAXES)
    return [*SERVICES, *(build_context(name, list(dict.fromkeys(some))) for name, some in wanted.items() if some)]
