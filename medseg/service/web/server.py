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
CONNECTIONS = 200
"""More are answered with 503. Each page that is open holds one."""
GRACE_S = 10
"""For requests that are being answered when the service is asked to end."""


class Patient(H11Protocol):
    """uvicorn's, but not patient without end: who does not say what is wanted is let go."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def _watch(self) -> None:
        """Time runs while a request has begun and its headers are not all there."""
        if self.conn.their_state is not h11.IDLE:
            self._unwatch()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(HEADERS_S, self._leave)

    def _unwatch(self) -> None:
        if self._waiting:
            self._waiting.cancel()
            self._waiting = None

    def _leave(self) -> None:
        self._waiting = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()


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
