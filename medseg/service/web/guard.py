"""In front of everything: hosts, sizes, slow senders, and the headers that every answer has."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from medseg.service.settings.site import Site
from medseg.service.web.problem import Problem, shown

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

SMALL_BYTES = 64 * 1024
"""Of what is sent to anything but the two places that take uploads."""
HEADERS_BYTES = 16 * 1024
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
IDLE_S = 30.0
"""Longest wait for the next bytes of an upload."""
SLOWEST_BYTES_A_SECOND = 8 * 1024
"""An upload that is slower on average, once `IDLE_S` have passed, is ended: each holds a place."""
PLAIN = {
    "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
"""Headers of every answer that does not say otherwise: nothing may be run, framed, guessed or kept."""
TRANSPORT = {"strict-transport-security": "max-age=31536000"}


class Guard:
    """An ASGI application around another.

    Args:
        clock: seconds that never jump.
    """

    def __init__(self, app: Application, site: Site, *, clock: Callable[[], float] = time.monotonic):
        self.app, self._clock = app, clock
        serve = site.serve
        self._largest = int(serve.largest_mib * 2**20)
        own = (serve.host, socket.gethostname(), "localhost", *serve.names)
        self._hosts = frozenset(name.lower() for name in own)
        self._headers = PLAIN | (TRANSPORT if serve.tls else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no web sockets
            await send({"type": "websocket.close", "code": 1000})
            return
        body = _Body(receive, self._most(scope), self._clock)
        answer = _Answer(send, self._headers, body)
        try:
            self._check(scope, body)
        except Problem as problem:
            await answer.refuse(problem)
            return
        await self.app(scope, body.receive, answer.send)

    def _most(self, scope: Scope) -> int:
        """Bytes of a body."""
        path, post = str(scope["path"]).rstrip("/"), scope["method"] == "POST"
        upload = post and (path == "/api/v1/jobs" or path.startswith("/dicom-web/studies"))
        return self._largest if upload else SMALL_BYTES

    def _check(self, scope: Scope, body: _Body) -> None:
        headers = {key.lower(): value.decode("latin-1") for key, value in scope["headers"]}
        if not self._is_ours(headers.get(b"host", "")):
            raise Problem(
                421,
                "Host",
                found="a name that this service is not reached by",
                needed="its own",
                remedy="add the name to serve.names in site.yaml, if it is one of this service's",
            )
        if sum(len(key) + len(value) for key, value in scope["headers"]) > HEADERS_BYTES:
            raise Problem(
                431,
                "headers",
                found=f"more than {HEADERS_BYTES} bytes",
                needed="at most so many",
                remedy="send fewer, or clear the cookies of this address",
                headers={"connection": "close"},
            )
        declared = headers.get(b"content-length", "0")
        if int(declared) > body.most if declared.isdecimal() and len(declared) < 20 else True:
            raise _too_large(body.most)

    def _is_ours(self, host: str) -> bool:
        """Addresses in numbers are fine: a foreign page comes under a name."""
        parts = HOST.fullmatch(host)
        if not parts:
            return False
        name = parts[1].strip("[]")
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name.lower() in self._hosts
        return True


class _Body:
    """What is sent to us, counted and timed as it comes.

    Attributes:
        problem: why no more of it is taken; the answer, whatever the application makes of it.
    """

    def __init__(self, receive: Receive, most: int, clock: Callable[[], float]):
        self.most, self.problem = most, None
        self._receive, self._clock, self._begun = receive, clock, clock()
        self._bytes, self._whole = 0, False

    problem: Problem | None

    async def receive(self) -> Message:
        if self._whole:  # what comes now is only that the other side is gone
            return await self._receive()
        left = self._begun + IDLE_S + self._bytes / SLOWEST_BYTES_A_SECOND - self._clock()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, min(IDLE_S, left)))
        except TimeoutError:
            self.problem = Problem(
                408,
                "upload",
                found=f"{self._bytes} bytes in {self._clock() - self._begun:.0f} s",
                needed=f"some every {IDLE_S:.0f} s, and {SLOWEST_BYTES_A_SECOND // 1024} KiB a second in the mean",
                remedy="send it again over a faster connection",
                headers={"connection": "close"},
            )
            raise self.problem from None
        self._bytes += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._bytes > self.most:
            self.problem = _too_large(self.most)
            raise self.problem
        return message


class _Answer:
    """What is sent back: with our headers, and with the body's problem if it has one."""

    def __init__(self, send: Send, headers: dict[str, str], body: _Body):
        self._send, self._headers, self._body = send, headers, body
        self._begun = self._replaced = False

    async def send(self, message: Message) -> None:
        if self._body.problem and not self._begun:
            self._replaced = True
            await self.refuse(self._body.problem)
        if self._replaced:
            return
        if message["type"] == "http.response.start":
            self._begun = True
            given = {key.lower() for key, _ in message["headers"]}
            more = [(key.encode(), value.encode()) for key, value in self._headers.items()]
            message["headers"] = [*message["headers"], *(pair for pair in more if pair[0] not in given)]
        await self._send(message)

    async def refuse(self, problem: Problem) -> None:
        self._begun = True
        text = json.dumps(shown(problem)).encode()
        headers = self._headers | {"content-type": "application/json", "content-length": str(len(text))}
        pairs = [(key.encode(), value.encode()) for key, value in (headers | problem.headers).items()]
        await self._send({"type": "http.response.start", "status": problem.status, "headers": pairs})
        await self._send({"type": "http.response.body", "body": text})


def _too_large(most: int) -> Problem:
    return Problem(
        413,
        "request",
        found=f"more than {most} bytes, or a length that is no number",
        needed="at most so many here",
        remedy="send less at once, or raise serve.largest_mib in site.yaml",
        headers={"connection": "close"},
    )
