"""Where files and studies come in over HTTP: requests for jobs, and STOW-RS."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path as FilePath
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from medseg.service.web import asks, shown, stow, unzip, volumes
from medseg.service.web.access import Submitter
from medseg.service.web.parts import Part, received
from medseg.service.web.problem import Problem
from medseg.service.web.room import Room, of
from medseg.service.web.shapes import Ask, Submitted
from medseg.service.web.tokens import Token

router = APIRouter()

ASK_BYTES = 2**16
StudyUid = Annotated[str, Path(pattern=r"^[0-9.]{1,64}$")]


@router.post("/api/v1/jobs")
async def submit_job(request: Request, token: Submitter) -> Submitted:
    """Ask for a job: `multipart/form-data` with a part `ask` and files, or `application/json` for a study that is here
    already."""
    room, who = of(request), f"token {token.name}"
    if request.headers.get("content-type", "").partition(";")[0].strip() == "application/json":
        ask = _ask(await request.body())
        return _told(request, await to_thread.run_sync(_of_study, room, ask, who))
    with room.desk.coming_in(_declared(request)) as folder:
        parts = await received(request, folder, free_bytes=room.desk.free_bytes)
        room.desk.room.took(sum(part.bytes for part in parts))
        return _told(request, await to_thread.run_sync(_of_parts, room, parts, folder, who))


@router.post("/dicom-web/studies")
async def store_instances(request: Request, token: Submitter) -> JSONResponse:
    """STOW-RS: `multipart/related; type="application/dicom"`."""
    return await _store(request, token, "")


@router.post("/dicom-web/studies/{study}")
async def store_instances_of_study(request: Request, token: Submitter, study: StudyUid) -> JSONResponse:
    """The same, of one study alone."""
    return await _store(request, token, study)


async def _store(request: Request, token: Token, study: str) -> JSONResponse:
    room = of(request)
    if not request.headers.get("content-type", "").lower().startswith("multipart/related"):
        raise _unfit(415, "Content-Type", "another one", 'multipart/related; type="application/dicom"')
    with room.desk.coming_in(_declared(request)) as folder:
        parts = await received(request, folder, free_bytes=room.desk.free_bytes)
        room.desk.room.took(sum(part.bytes for part in parts))
        files = [part.path for part in parts]
        stored = await to_thread.run_sync(_handed_in, room, files, token, study)
    request.state.about = f"{len(stored.kept)} objects stored, {len(stored.failed)} not"
    return JSONResponse(stored.to_json(), status_code=stored.status, media_type=stow.JSON_TYPE)


def _told(request: Request, submitted: Submitted) -> Submitted:
    """For the audit log."""
    request.state.about = f"job {submitted.job.id}" if submitted.job else f"{len(submitted.studies)} studies"
    return submitted


def _handed_in(room: Room, files: Sequence[FilePath], token: Token, study: str = "") -> stow.Stored:
    return stow.store(room.store, files, f"token {token.name}", study=study)


def _of_study(room: Room, ask: Ask, who: str) -> Submitted:
    if not ask.study or asks.checked(ask, room.site) is None:
        raise _unfit(400, "ask", "no study, or no model", "both, where no file is sent")
    job, new = room.desk.of_study(ask, who)
    return Submitted(job=shown.row(job, room.site), new=new, studies=())


def _of_parts(room: Room, parts: Sequence[Part], folder: FilePath, who: str) -> Submitted:
    asked = next((part for part in parts if part.name == asks.ASK), None)
    if asked and asked.bytes > ASK_BYTES:
        raise _unfit(413, asks.ASK, f"{asked.bytes} bytes", f"at most {ASK_BYTES}")
    ask = _ask(asked.path.read_bytes() if asked else b"{}")
    model = asks.checked(ask, room.site)
    files = asks.files(parts)
    if model is None:
        return _by_routes(room, files, folder, who)
    job, new = room.desk.of_files(ask, model, files, folder, who)
    return Submitted(job=shown.row(job, room.site), new=new, studies=())


def _by_routes(room: Room, files: dict[str, Part], folder: FilePath, who: str) -> Submitted:
    inside = folder / "objects"
    inside.mkdir()
    found: list[FilePath] = []
    for part in files.values():
        kind = volumes.suffix(part.path)
        if kind == ".dcm":
            found.append(part.path)
        elif kind == ".zip":
            place = inside / part.path.name
            place.mkdir()
            limits = {"most_bytes": room.desk.most_bytes, "free_bytes": room.desk.free_bytes}
            found += unzip.dicom_files(part.path, place, **limits)
        else:
            raise _unfit(400, "upload", "a volume without a model", "a model; routes choose among DICOM series")
    stored = stow.store(room.store, found, who)
    if stored.failed and not stored.kept:
        raise stored.failed[0].refusal
    for study in stored.studies:
        room.journal.arrivals.expect(study, (), who)  # it is whole: nobody need wait whether more comes
    return Submitted(job=None, new=any(one.state != "duplicate" for one in stored.kept), studies=stored.studies)


def _ask(text: bytes) -> Ask:
    try:
        values: Any = json.loads(text)
        return Ask.model_validate(values)
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise _unfit(400, asks.ASK, told, "what docs/service-api.md describes") from error
    except (ValueError, RecursionError) as error:
        raise _unfit(400, asks.ASK, "no JSON", "a JSON object") from error


def _declared(request: Request) -> int:
    """Bytes, as the guard has checked them; 0: it does not say."""
    return int(request.headers.get("content-length", "0"))


def _unfit(status: int, where: str, found: str, needed: str) -> Problem:
    return Problem(status, where, found=found, needed=needed, remedy="see docs/service-api.md")
