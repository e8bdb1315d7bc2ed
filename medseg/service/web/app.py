"""The application: rooms put together, with what stands in front of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

import medseg
from medseg.refusal import Refusal
from medseg.service.intake.room import Room as Free
from medseg.service.intake.store import Store
from medseg.service.journal import Journal
from medseg.service.settings.folders import private
from medseg.service.settings.site import Site
from medseg.service.web import api, health, pages, problem, ways_in
from medseg.service.web.access import Door
from medseg.service.web.feed import Feed
from medseg.service.web.guard import Guard
from medseg.service.web.metrics import Metrics
from medseg.service.web.record import Record
from medseg.service.web.room import Room
from medseg.service.web.submit import Desk
from medseg.service.web.tokens import Known
from medseg.service.web.views import Views

MEASURED_EVERY_S = 60.0


def app(site: Site, journal: Journal, store: Store) -> FastAPI:
    """
    Args:
        store: takes DICOM objects in.
    """
    private(site.at(site.data))
    feed = Feed(journal)

    @contextlib.asynccontextmanager
    async def living(made: FastAPI) -> AsyncIterator[None]:
        running = [asyncio.create_task(work) for work in (feed.run(), _measuring(made.state.room.desk.room))]
        yield
        feed.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        made.state.views.close()

    made = FastAPI(
        title="medseg", version=medseg.__version__, docs_url=None, redoc_url=None, openapi_url=None, lifespan=living
    )
    made.state.room = Room(site, journal, store, Desk(site, journal, store.incoming, Free(site)), feed)
    made.state.door, made.state.metrics = Door(Known(site.at(site.serve.tokens))), Metrics(site, journal)
    made.state.views = Views(store.incoming / "views")
    for router in (health.router, api.router, ways_in.router, pages.router):
        made.include_router(router)
    made.add_exception_handler(Refusal, _refused)
    made.add_exception_handler(RequestValidationError, _invalid)
    made.add_exception_handler(HTTPException, _plain)
    made.add_middleware(Guard, site=site)
    made.add_middleware(Record, journal=journal, count=made.state.metrics.count)
    return made


async def _measuring(room: Free) -> None:
    """Add the data folder up now and then, where it has a quota."""
    while True:
        await asyncio.sleep(MEASURED_EVERY_S)
        await to_thread.run_sync(room.measure)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal)  # it is registered for these alone
    request.state.why = error.code
    headers = error.headers if isinstance(error, problem.Problem) else {}
    return JSONResponse(problem.shown(error), problem.status(error), headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Without what was sent: it goes back to whom sent it, and into nobody's log."""
    assert isinstance(error, RequestValidationError)  # it is registered for these alone
    told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
    refusal = problem.Problem(422, "request", found=told, needed="what docs/service-api.md describes", remedy="mend it")
    return await _refused(request, refusal)


async def _plain(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # it is registered for these alone
    return JSONResponse(problem.plain(error.status_code), error.status_code, error.headers)
