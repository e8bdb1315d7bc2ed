"""The page for people: it holds no data itself, and asks the API for them."""

from __future__ import annotations

from functools import cache
from pathlib import Path as FilePath

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response

from medseg.service.web import shown
from medseg.service.web.access import COOKIE, Reader, address, known, refuse_foreign
from medseg.service.web.api import JobId
from medseg.service.web.api import known as known_job
from medseg.service.web.problem import Problem
from medseg.service.web.room import of
from medseg.service.web.views import Views
from medseg.settings import Settings

router = APIRouter()

FOLDER = FilePath(__file__).parent / "page"
KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
OWN = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
}
ALONE = {
    "content-security-policy": "sandbox allow-scripts; default-src 'none'; img-src data: blob:; "
    "connect-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; "
    "frame-ancestors 'none'"
}
"""For a page that holds its own scripts: it has no origin, so that it can reach nothing of this service."""


class Credentials(Settings):
    """What a person logs in with."""

    token: str


@router.get("/", response_class=Response)
def worklist(request: Request) -> Response:
    """All jobs."""
    return _page(request, "worklist.html")


@router.get("/jobs/{job}", response_class=Response)
def job_page(request: Request, job: JobId) -> Response:
    """One job."""
    return _page(request, "job.html")


@router.get("/login", response_class=Response)
def login_page() -> Response:
    """For who is not known yet."""
    return Response(_text("login.html"), media_type="text/html", headers=OWN)


@router.post("/login")
def log_in(request: Request, given: Credentials) -> JSONResponse:
    """A session for who has a token."""
    refuse_foreign(request)
    session, token = request.app.state.door.log_in(given.token.strip(), address(request))
    request.state.who = f"token {token.name}"
    answer = JSONResponse({"name": token.name, "role": token.role})
    serve = of(request).site.serve
    answer.set_cookie(COOKIE, session, httponly=True, samesite="strict", secure=bool(serve.tls) or serve.plain)
    return answer


@router.post("/logout")
def log_out(request: Request) -> JSONResponse:
    """End the session."""
    refuse_foreign(request)
    request.state.who = f"token {known(request).name}"
    request.app.state.door.log_out(request.cookies.get(COOKIE, ""))
    answer = JSONResponse({})
    answer.delete_cookie(COOKIE)
    return answer


@router.get("/page/{name}", response_class=Response)
def asset(name: str) -> Response:
    """Scripts and styles."""
    if name not in _assets():
        raise Problem(404, "page", found="no such file", needed="one of the page's", remedy="go to /")
    return Response(_text(name), media_type=KINDS[FilePath(name).suffix], headers=OWN)


@router.get("/jobs/{job}/viewer", response_class=FileResponse)
def viewer(request: Request, token: Reader, job: JobId) -> FileResponse:
    """The scan with the labels that were found in it."""
    room = of(request)
    found = known_job(room, job)
    views: Views = request.app.state.views
    return FileResponse(views.page(found, shown.folder(found, room.site)), media_type="text/html", headers=ALONE)


def _page(request: Request, name: str) -> Response:
    """To the login for who has no session."""
    try:
        known(request)
    except Problem:
        return RedirectResponse("/login", 303)
    return Response(_text(name), media_type="text/html", headers=OWN)


@cache
def _assets() -> frozenset[str]:
    return frozenset(path.name for path in FOLDER.iterdir() if path.suffix in KINDS)


@cache
def _text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
