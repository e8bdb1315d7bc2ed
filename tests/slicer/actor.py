"""What plays a service with one job, so that it can say what the real one never would."""

from __future__ import annotations

import hashlib
from typing import Any

from MedSegLib.remote import Remote
from MedSegLib.service.call import Limits
from tests.slicer.heard import TOKEN
from tests.slicer.rude import Reply

RESULT = b"a result"
NAME = "case.seg.nrrd"
SHORT = Limits(connect=2, silence=1, patience=1, pause=0.1)


def job(state: str = "done", **more: Any) -> dict[str, Any]:
    """As the service says it."""
    ended = state not in ("queued", "running", "held")
    told = {"id": 7, "state": state, "ended": ended, "good": state == "done", "percent": 0, "stage": "", "code": ""}
    told |= {"reason": "", "meaning": "", "remedy": "", "may": [], "facts": {"volume_ml": {"liver": 1.5}}, "events": []}
    file = {"name": NAME, "sha256": hashlib.sha256(RESULT).hexdigest(), "bytes": len(RESULT)}
    return told | {"files": [file] if state == "done" else []} | more


def actor(told: Any, *, file: bytes = RESULT, events: Any = (404, {}), role: str = "submit", **others: Any) -> Reply:
    """What plays a service whose only job is `told`."""

    def reply(method: str, path: str) -> Any:
        ways = {
            "me": (200, {"name": "x", "role": role}),
            "jobs": (200, {"job": {"id": 7}, "new": True, "studies": []}),
            "jobs/7": (200, told),
            "jobs/7/events": events,
            f"jobs/7/files/{NAME}": (200, file),
        }
        return {**ways, **others}.get(path.removeprefix("/api/v1/"), (404, {"error": {"code": "not-found"}}))

    return reply


def json_error(status: int, **words: str) -> tuple[int, Any]:
    return status, {"error": {"code": "x", "where": "x", "found": "", "needed": "", "remedy": "", "text": "x", **words}}


def html(status: int, more: str = "") -> bytes:
    return f"HTTP/1.1 {status} Said\r\n{more}Content-Type: text/html\r\n\r\n<html>Welcome</html>".encode()


def remote(address: str, **more: Any) -> Remote:
    return Remote(address, TOKEN, limits=SHORT, **more)
