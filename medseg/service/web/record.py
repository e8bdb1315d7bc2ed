"""What is on record of each request: a line in the log without patient data, and who changed what in the audit log."""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Callable
from typing import Any

from anyio import to_thread

from medseg.service.journal import Journal
from medseg.service.strangers import Counted
from medseg.service.web.access import SAFE
from medseg.service.web.guard import Application, Message, Receive, Scope, Send
from medseg.service.web.problem import plain

log = logging.getLogger(__name__)

CONTENT = {"content-type": "application/json"}
FRAMES = 4
"""Innermost places of an error that are told."""


class Record:
    """An ASGI application around another.

    Args:
        count: is told the route, the method and the status of each request.
    """

    def __init__(self, app: Application, journal: Journal, count: Callable[[str, str, int], None]):
        self.app, self._journal, self._count = app, journal, count
        self._strangers = Counted(time.monotonic)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, state = time.monotonic(), scope.setdefault("state", {})
        told: dict[str, Any] = {"status": 0, "bytes": 0}

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                told["status"] = message["status"]
            told["bytes"] += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, tell)
        except Exception as error:
            _say(error)
            if not told["status"]:
                await _answer(tell)
        finally:
            route = _route(scope)
            self._count(route, scope["method"], told["status"])
            log.info("request", extra={"facts": _facts(scope, state, route, told, time.monotonic() - begun)})
        if scope["method"] not in SAFE:
            await to_thread.run_sync(self._audit, scope, state, told["status"])

    def _audit(self, scope: Scope, state: dict[str, Any], status: int) -> None:
        """Of strangers' requests, only so many of one address: anybody can make as many as there is time for, and all
        are in the log."""
        address = scope["client"][0] if scope.get("client") else ""
        if status == 429 or ("who" not in state and self._strangers.too_often(address)):
            return
        what = getattr(scope.get("endpoint"), "__name__", "unknown")
        job = scope.get("path_params", {}).get("job")
        about = state.get("about") or (f"job {job}" if job else "")
        outcome = "done" if 200 <= status < 300 else f"{status} {state.get('why', '')}".strip()
        self._journal.audit.add(_who(scope, state), what, about, outcome)


def _facts(scope: Scope, state: dict[str, Any], route: str, told: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Neither path nor query are told: they may name a study. The route says which kind of address it was."""
    job = scope.get("path_params", {}).get("job")
    return {
        "who": _who(scope, state),
        "method": scope["method"],
        "route": route,
        **({"job": job} if isinstance(job, int) else {}),
        "status": told["status"],
        "bytes": told["bytes"],
        "seconds": round(seconds, 3),
    }


def _who(scope: Scope, state: dict[str, Any]) -> str:
    client = scope.get("client")
    return f"{state.get('who', 'a stranger')} at {client[0] if client else 'an unknown address'}"


def _route(scope: Scope) -> str:
    return str(getattr(scope.get("route"), "path", "none"))


def _say(error: Exception) -> None:
    """Where it happened. What an error says may hold what a study is known by, and does not go into the log."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    places = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
    log.error("an error while answering", extra={"facts": {"kind": type(error).__name__, "places": places}})


async def _answer(send: Send) -> None:
    headers = [(key.encode(), value.encode()) for key, value in CONTENT.items()]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(plain(500)).encode()})
