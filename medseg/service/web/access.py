"""Who asks, and what they may: a token in a header, or a session of the page."""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request

from medseg.refusal import Refusal
from medseg.service.strangers import Counted
from medseg.service.web.problem import Problem
from medseg.service.web.tokens import NOBODY, Known, Role, Token, matches

log = logging.getLogger(__name__)

COOKIE = "medseg"
SESSION_S = 8 * 3600.0
"""A session that was not used for so long ends."""
KEPT = 10_000
"""Most sessions and proven tokens that are remembered; the oldest go first."""
COMPARED_AT_ONCE = 2
"""Each comparison takes 16 MiB and a core."""
SAFE = ("GET", "HEAD", "OPTIONS")


@dataclass
class _Session:
    token: Token
    used: float


class Door:
    """Knows tokens and sessions. Safe to use from several threads.

    Args:
        clock: seconds that never jump.
    """

    def __init__(self, known: Known, *, clock: Callable[[], float] = time.monotonic):
        self._known, self._clock = known, clock
        self.failures = Counted(clock)
        self._proven, self._sessions = OrderedDict[bytes, Token](), OrderedDict[bytes, _Session]()
        self._lock, self._comparing = threading.Lock(), threading.Semaphore(COMPARED_AT_ONCE)

    def by_token(self, text: str, address: str) -> Token:
        """
        Raises:
            Problem: 401, nobody's; 429, too many wrong ones came from this address. One that was right before is let
                in all the same, so that nobody shuts out others behind the same address.
        """
        name, _, secret = text.partition(".")
        token = self._named(name)
        digest = _digest(text)
        with self._lock:
            if token and self._proven.get(digest) == token:
                return token
        wait = self.failures.wait_s(address)
        if wait:
            raise _stranger(429, headers={"retry-after": str(int(wait) + 1)})
        with self._comparing:
            right = matches(token or NOBODY, secret)
        if token is None or not right:
            self.failures.add(address)
            raise _stranger(401)
        with self._lock:
            self._proven[digest] = token
            _forget(self._proven)
        return token

    def log_in(self, text: str, address: str) -> tuple[str, Token]:
        """A new session for who has a token: what its cookie holds, and the token.

        Raises:
            Problem: as `by_token`.
        """
        token, session = self.by_token(text, address), secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[_digest(session)] = _Session(token, self._clock())
            _forget(self._sessions)
        return session, token

    def by_session(self, session: str) -> Token:
        """
        Raises:
            Problem: 401, there is none, it has ended, or its token was removed.
        """
        with self._lock:
            found = self._sessions.get(_digest(session))
            now = self._clock()
            if not found or now - found.used > SESSION_S or self._named(found.token.name) != found.token:
                self._sessions.pop(_digest(session), None)
                raise _stranger(401)
            found.used = now
            return found.token

    def still(self, token: Token) -> bool:
        """Whether a token that was let in is one."""
        try:
            return self._named(token.name) == token
        except Problem:
            return False

    def _named(self, name: str) -> Token | None:
        """
        Raises:
            Problem: 503, the file of tokens cannot be used; the log says why.
        """
        try:
            return self._known.named(name)
        except Refusal as refusal:
            log.error("nobody is let in", extra={"facts": {"found": refusal.found, "remedy": refusal.remedy}})
            raise Problem(
                503, "request", found="no list of tokens", needed="one", remedy="ask who runs this service"
            ) from refusal

    def log_out(self, session: str) -> None:
        with self._lock:
            self._sessions.pop(_digest(session), None)


class Needs:
    """What an endpoint asks of who calls it; its value is their token."""

    def __init__(self, role: Role):
        self.role = role

    def __call__(self, request: Request) -> Token:
        """
        Raises:
            Problem: 401, a stranger; 403, another role is needed, or a browser was sent by a foreign page.
        """
        token = known(request)
        request.state.who = f"token {token.name}"
        if not token.may(self.role):
            raise _not_allowed(f"the role {token.role}", f"the role {self.role}", "ask who runs this service")
        return token


def known(request: Request) -> Token:
    """Whose request it is.

    Raises:
        Problem: as `Needs`.
    """
    door: Door = request.app.state.door
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return door.by_token(text.strip(), address(request))
    session = request.cookies.get(COOKIE)
    if not session:
        raise _stranger(401)
    token = door.by_session(session)
    if request.method not in SAFE:
        refuse_foreign(request)
    return token


def refuse_foreign(request: Request) -> None:
    """Browsers send cookies with whatever any page makes them ask; they say by which page it was.

    Raises:
        Problem: 403, it was not one of ours, or it is not said.
    """
    if urlsplit(request.headers.get("origin", "")).netloc.lower() != request.headers.get("host", "").lower():
        raise _not_allowed("a request that another page has made", "one of this service's page", "log in there")


def address(request: Request) -> str:
    return request.client.host if request.client else ""


Reader = Annotated[Token, Depends(Needs("read"))]
Submitter = Annotated[Token, Depends(Needs("submit"))]
Admin = Annotated[Token, Depends(Needs("admin"))]


def _stranger(status: int, headers: dict[str, str] | None = None) -> Problem:
    """The same words whatever was wrong."""
    return Problem(
        status,
        "request",
        found="no token that is known" if status == 401 else "too many wrong tokens",
        needed="a token of this service" if status == 401 else "a pause",
        remedy="send it as 'Authorization: Bearer TOKEN', or log in on the page",
        headers={"www-authenticate": "Bearer", **(headers or {})},
    )


def _not_allowed(found: str, needed: str, remedy: str) -> Problem:
    return Problem(403, "request", found=found, needed=needed, remedy=remedy)


def _digest(text: str) -> bytes:
    """Secrets are not kept as they are, and are found without comparing them letter by letter."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _forget(kept: OrderedDict[bytes, Token] | OrderedDict[bytes, _Session]) -> None:
    while len(kept) > KEPT:
        kept.popitem(last=False)
