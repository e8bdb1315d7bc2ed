"""A port of DICOM: who connects gets a thread of its own at once, so that nobody waits for anybody else."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from medseg.service import wire
from medseg.service.logs import place
from medseg.service.wire import Machine, Parts, Provider, Socket, Visit

log = logging.getLogger(__name__)

HANDSHAKE_S = 10.0
"""For TLS."""
BESIDE = 20
"""Associations more than there may be, each the only one of its address; and so many connections more again, to be told
that they are too many. What comes beyond is closed at once."""


class Server(ThreadedAssociationServer):
    """Connections of one address that were not let in never take more places than they leave free, so that each
    address finds some.

    Attributes:
        visits: connections that have not been concluded yet, each from its first byte on.
        idle_s: see `Visit`.
        associations: how many there may be at once.
        parts: see `Provider`.
    """

    daemon_threads = True
    request_queue_size = 128
    visits: set[Visit]
    idle_s: float
    associations: int
    parts: Callable[[Any, Any], Parts]

    def get_request(self) -> tuple[Any, Any]:
        """The connection as it is; for a TLS handshake, which a stranger could draw out, nobody else waits."""
        assert self.socket is not None  # it is listened at
        return self.socket.accept()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        here = list(self.visits)
        waiting = sum(not visit.accepted and visit.address == str(client_address[0]) for visit in here)
        return waiting < 2 * (self.associations + BESIDE) - len(here)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        assert error  # it is called where one is handled
        facts = {"address": str(client_address[0]), "error": place(error)}
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
        association.dimse = Provider(association, visit, self.server.parts)
        visit.association = association
        association.start()


def listening(
    entity: Any,
    address: tuple[str, int],
    handlers: list[Any],
    certificate: Any,
    kind: type[Server] = Server,
    **limits: Any,
) -> Server:
    """A server that is bound to its port; `serve_forever` makes it answer.

    Args:
        entity: of pynetdicom; what it supports is what is offered.
        certificate: for TLS; None: in the clear.
        limits: `idle_s`, `associations` and `parts` of the server.

    Raises:
        OSError: the port cannot be had.
    """
    entity.maximum_associations = 10 * (limits["associations"] + BESIDE)  # others count, and can say why
    entity.network_timeout = limits["idle_s"]
    entity.acse_timeout = min(wire.ASK_S, limits["idle_s"])
    made: Server = entity.make_server(
        address, ssl_context=certificate, evt_handlers=handlers, server_class=kind, request_handler=Handler
    )
    made.visits = set()
    made.idle_s, made.associations, made.parts = limits["idle_s"], limits["associations"], limits["parts"]
    entity._servers.append(made)
    return made
