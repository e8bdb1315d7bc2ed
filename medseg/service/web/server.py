"""uvicorn, with what a hospital's network asks of it: TLS, short patience, and an end in good order."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from medseg.refusal import Refusal
from medseg.service.settings.site import Site
from medseg.service.web.guard import HEADERS_BYTES

log = logging.getLogger(__name__)

HEADERS_S = 15.0
"""Longest time from the first byte of a request, or the beginning of a connection, to the end of its headers."""
UNREAD_S = 60.0
"""Longest wait for the other side to read some of an answer, or the rest of the last one."""
CONNECTIONS = 200
"""More are answered with 503. Each page that is open holds one."""
GRACE_S = 10
"""For requests that are being answered when the service is asked to end."""


class Patient(H11Protocol):
    """uvicorn's, but not patient without end: who does not say what is wanted, sends what nobody takes any more, or
    does not read the answer is let go. Each of them would hold a place."""

    _waiting: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        self._was_read()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._is_to_read()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._was_read()
        self._watch()

    def _watch(self) -> None:
        if self.transport.is_closing():  # which waits for the rest of the answer to be read
            self._unwatch()
            self._is_to_read()
        elif not self._is_due():
            self._unwatch()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(HEADERS_S, self._leave)

    def _is_due(self) -> bool:
        """A request has begun, or could, and its headers are not all there; or the rest of one that has its answer."""
        theirs = self.conn.their_state
        return theirs is h11.IDLE or (theirs is h11.SEND_BODY and self.conn.our_state is h11.DONE)

    def _unwatch(self) -> None:
        if self._waiting:
            self._waiting.cancel()
            self._waiting = None

    def _leave(self) -> None:
        self._waiting = None
        if self._is_due():
            self.transport.close()
            self._watch()

    def _is_to_read(self) -> None:
        if self._unread is None:
            self._unread = self.loop.call_later(UNREAD_S, self.transport.abort)

    def _was_read(self) -> None:
        if self._unread:
            self._unread.cancel()
            self._unread = None


class Server(uvicorn.Server):
    """Lets those who listen to changes go first: they would stay for ever."""

    def __init__(self, config: uvicorn.Config, release: Callable[[], None]):
        super().__init__(config)
        self._release = release

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._release()
        await super().shutdown(sockets)


def refuse_open(site: Site) -> None:
    """Tokens and patients' names do not travel in the clear.

    Raises:
        Refusal: it would listen for other machines without TLS.
    """
    serve = site.serve
    if not (serve.tls or serve.plain or is_loopback(serve.host)):
        raise Refusal(
            f"serve.host {serve.host}",
            found="an address that other machines reach, and no TLS",
            needed="serve.tls with a certificate and its key, or 127.0.0.1",
            remedy="add serve.tls in site.yaml; or say serve.plain: true, if something in front of it does TLS",
        )


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listening(site: Site) -> socket.socket:
    """
    Raises:
        Refusal: the address is not this machine's, or is taken.
    """
    serve = site.serve
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            serve.host, serve.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(place)
            made.listen()  # who was told the address may come before the first is let in
        except OSError:
            made.close()
            raise
    except OSError as error:
        raise Refusal(
            f"{serve.host}:{serve.port}",
            found=error.strerror or str(error),
            needed="an address of this machine and a port that nobody has",
            remedy="choose others under serve in site.yaml; port 0 takes any that is free",
        ) from error
    return made


def address(site: Site, bound: socket.socket) -> str:
    """What to type into a browser."""
    host = f"[{site.serve.host}]" if ":" in site.serve.host else site.serve.host
    return f"http{'s' if site.serve.tls else ''}://{host}:{bound.getsockname()[1]}/"


def server(made: FastAPI, site: Site) -> Server:
    """
    Raises:
        Refusal: a certificate or a key that cannot be used.
    """
    config = uvicorn.Config(
        made,
        http=Patient,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=GRACE_S,
        h11_max_incomplete_event_size=HEADERS_BYTES,
        **_tls(site),
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        tls = site.serve.tls
        raise Refusal(
            f"serve.tls {tls and site.at(tls.certificate)}",
            found=str(error),
            needed="a certificate in PEM and its key, without a password",
            remedy="check the files that serve.tls names",
        ) from error
    return Server(config, made.state.room.feed.close)


def _tls(site: Site) -> dict[str, Any]:
    tls = site.serve.tls
    if not tls:
        return {}
    asked: dict[str, Any] = {"ssl_certfile": site.at(tls.certificate), "ssl_keyfile": site.at(tls.key)}
    if tls.authority:
        asked |= {"ssl_ca_certs": site.at(tls.authority), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return asked
