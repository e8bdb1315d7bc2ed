"""The JSON API, /api/v1; `docs/service-api.md` explains it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse

import medseg
from medseg.refusal import Refusal
from medseg.service.journal.job import Job
from medseg.service.journal.states import ENDS, STATES, State
from medseg.service.web import offered, packed, shapes, shown
from medseg.service.web.access import Admin, Door, Reader, Submitter
from medseg.service.web.problem import Problem
from medseg.service.web.room import Room, of
from medseg.service.web.tokens import Token

router = APIRouter(prefix="/api/v1")

LARGEST_ID = 2**31 - 1
"""That every database can hold."""
JobId = Annotated[int, Path(ge=1, le=LARGEST_ID)]
Text = Annotated[str, Query(max_length=shapes.LONGEST, pattern=r"^[^\x00]*$")]
WAITING_FOR_PEOPLE: tuple[State, ...] = ("held", "failed", "quarantined", "unmatched")
STOPPED: tuple[State, ...] = ("cancelled", "superseded")


@router.get("/me")
def me(token: Reader) -> shapes.Me:
    """Whose token it is."""
    return shapes.Me(name=token.name, role=token.role)


@router.get("/models")
def models(request: Request, token: Reader) -> list[shapes.Model]:
    """What jobs can ask for."""
    return offered.offered(of(request).site)


@router.get("/summary")
def summary(request: Request, token: Reader) -> shapes.Summary:
    """How many jobs are where; it adds up."""
    room = of(request)
    counts, arrived = room.journal.jobs.counts(), room.journal.arrivals.counts()
    people, stopped = (sum(counts[state] for state in states) for states in (WAITING_FOR_PEOPLE, STOPPED))
    total = sum(counts.values())
    return shapes.Summary(
        jobs=counts,
        total=total,
        done=counts["done"],
        under_way=total - counts["done"] - people - stopped,
        waiting_for_people=people,
        stopped=stopped,
        coming_in=arrived.open,
        objects=arrived.received,
        duplicates=arrived.duplicates,
        deliveries=room.journal.deliveries.counts(),
        name=room.site.name,
        version=medseg.__version__,
    )


@router.get("/jobs")
def jobs(
    request: Request,
    token: Reader,
    state: Annotated[list[State], Query(max_length=len(STATES))] = [],  # noqa: B006 - FastAPI copies it
    text: Text = "",
    route: Text = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    before: Annotated[int, Query(ge=0, le=LARGEST_ID)] = 0,
) -> shapes.Page:
    """The newest first."""
    room = of(request)
    found = room.journal.jobs.find(states=state, text=text, route=route, limit=limit + 1, before=before)
    more = found[limit - 1].id if len(found) > limit else None
    return shapes.Page(jobs=tuple(shown.row(job, room.site) for job in found[:limit]), next=more)


@router.get("/jobs/{job}")
def job(request: Request, token: Reader, job: JobId) -> shapes.Whole:
    """All that is known of it."""
    room = of(request)
    return shown.whole(known(room, job), room.site, room.journal, token)


@router.get("/jobs/{job}/files/{name}")
def file(request: Request, token: Reader, job: JobId, name: str) -> FileResponse:
    """A file of its result."""
    room = of(request)
    found = known(room, job)
    if name not in found.files:
        raise _nothing("a file", "one of those that the job names")
    path = shown.folder(found, room.site) / name
    if not path.is_file():
        raise _nothing("the file any more", "a result that was not cleared away")
    return FileResponse(
        path, media_type="application/octet-stream", filename=name, headers={"etag": f'"{found.files[name]}"'}
    )


@router.get("/jobs/{job}/result")
def result(request: Request, token: Reader, job: JobId) -> StreamingResponse:
    """All files of its result, in a zip."""
    room = of(request)
    found = known(room, job)
    folder = shown.folder(found, room.site)
    paths = [folder / name for name in sorted(found.files)]
    if not paths or not all(path.is_file() for path in paths):
        raise _nothing("a whole result", "a job whose result is written, and was not cleared away")
    name = f'attachment; filename="job-{job}.zip"'
    return StreamingResponse(packed.zipped(paths), media_type="application/zip", headers={"content-disposition": name})


@router.post("/jobs/{job}/cancel")
def cancel(request: Request, token: Submitter, job: JobId) -> shapes.Whole:
    """End it; what runs stops within seconds."""
    return _changed(request, token, job, "cancel")


@router.post("/jobs/{job}/retry")
def retry(request: Request, token: Submitter, job: JobId) -> shapes.Whole:
    """Try it again; it has ended badly."""
    return _changed(request, token, job, "retry")


@router.post("/jobs/{job}/release")
def release(request: Request, token: Admin, job: JobId) -> shapes.Whole:
    """Send a result that was held back."""
    return _changed(request, token, job, "release")


@router.get("/jobs/{job}/events", response_class=StreamingResponse)
def job_events(request: Request, token: Reader, job: JobId, last_event_id: Annotated[str, Header()] = "") -> Response:
    """Its changes and its percentage as they come, from its first change on and until it has ended."""
    after, room = _after(last_event_id) or 0, of(request)
    if known(room, job).state in ENDS and after and not room.journal.jobs.events(job, after=after, limit=1):
        return Response(status_code=204)  # which tells a client of events (HTML, 9.2) to come back no more
    return _stream(request, token, job, after)


@router.get("/events", response_class=StreamingResponse)
def events(request: Request, token: Reader, last_event_id: Annotated[str, Header()] = "") -> StreamingResponse:
    """Changes and percentages of all jobs as they come."""
    return _stream(request, token, 0, _after(last_event_id))


@router.get("/audit")
def audit(
    request: Request,
    token: Admin,
    after: Annotated[int, Query(ge=0, le=LARGEST_ID)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
) -> list[shapes.Entry]:
    """Who did what, and who was refused; the oldest first."""
    entries = of(request).journal.audit.entries(after=after, limit=limit)
    return [shapes.Entry(id=number, **vars(entry)) for number, entry in entries]


@router.get("/openapi.json")
def openapi(request: Request, token: Reader) -> JSONResponse:
    """This API, for programs."""
    return JSONResponse(request.app.openapi())


def known(room: Room, job: int) -> Job:
    """
    Raises:
        Problem: 404, no such job.
    """
    try:
        return room.journal.jobs.get(job)
    except Refusal as refusal:
        raise _nothing("a job of this number", "one of the worklist") from refusal


def _changed(request: Request, token: Any, number: int, what: str) -> shapes.Whole:
    room = of(request)
    job = known(room, number)
    shown.refuse_not_permitted(token, what, job, room.journal)
    try:
        getattr(room.journal.jobs, what)(number, f"token {token.name}")
    except Refusal as refusal:
        words = {key: getattr(refusal, key) for key in ("found", "needed", "remedy")}
        raise Problem(409, refusal.where, **words) from refusal
    return shown.whole(known(room, number), room.site, room.journal, token)


def _stream(request: Request, token: Token, job: int, after: int | None) -> StreamingResponse:
    door: Door = request.app.state.door
    lines = of(request).feed.listen(job, after, allowed=lambda: door.still(token))
    headers = {"x-accel-buffering": "no"}  # a proxy in front is not to collect them
    return StreamingResponse(lines, media_type="text/event-stream", headers=headers)


def _after(text: str) -> int | None:
    """Of a header that says nothing sensible: none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 11 and int(text) <= LARGEST_ID else None


def _nothing(what: str, needed: str) -> Problem:
    return Problem(404, "request", found=f"not {what}", needed=needed, remedy="look at the job again")
