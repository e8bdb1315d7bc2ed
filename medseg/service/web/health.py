"""For those who watch over the service: whether it is up, whether it can work, and its numbers."""

from __future__ import annotations

import logging
import uuid

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from medseg.service.web.access import Reader
from medseg.service.web.room import Room, of

log = logging.getLogger(__name__)
router = APIRouter()


@router.get("/healthz")
async def healthy() -> JSONResponse:
    """The process is up, though all its threads be busy."""
    return JSONResponse({"up": True})


@router.get("/readyz")
def ready(request: Request) -> JSONResponse:
    """The journal answers, and the data folder can be written and has room. Strangers are told no more than that; the
    log says what is wrong."""
    trouble = _trouble(of(request))
    if trouble:
        log.warning("not ready", extra={"facts": {"trouble": trouble}})
    return JSONResponse({"ready": not trouble}, status_code=503 if trouble else 200)


@router.get("/metrics")
def metrics(request: Request, token: Reader) -> Response:
    """For Prometheus."""
    return Response(request.app.state.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _trouble(room: Room) -> str:
    """What is wrong; empty: nothing."""
    data = room.site.at(room.site.data)
    try:
        room.journal.jobs.last_event()
    except Exception as error:  # whatever a database's driver raises
        return f"the journal does not answer ({type(error).__name__})"
    probe = data / f".probe-{uuid.uuid4().hex}"
    try:
        probe.write_bytes(b"medseg")
        probe.unlink()
    except OSError as error:
        return f"the data folder cannot be written ({error.strerror})"
    return room.desk.room.full()
