"""The service as its clients meet it: a site, tokens of each role, and an intake that keeps what it gets."""

from __future__ import annotations

import atexit
import hashlib
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from fastapi.testclient import TestClient

from medseg.service.intake.store import Store
from medseg.service.journal import Journal
from medseg.service.journal.job import Asked, Identity, Job
from medseg.service.settings.routes import Route
from medseg.service.settings.site import Site
from medseg.service.web import tokens
from medseg.service.web.app import app
from tests.tiny import AFFINE, nifti, phantom, untrained_run

EVERYBODY = ("read", "submit", "admin")
MARKED = Identity(
    study_uid="1.2.826.0.1.77777",
    series_uid="1.2.826.0.1.88888",
    patient_id="MARK-PATIENT-4711",
    accession="MARK-ACCESSION",
    study_date="20261124",
    description="<script>document.title='marked'</script><b>Abdomen</b>",
    modality="CT",
)
"""What must not get into a log, nor be taken for HTML."""


@dataclass
class Service:
    """A site with an application that a client asks within this process."""

    site: Site
    journal: Journal
    store: Store
    client: TestClient
    secrets: Mapping[str, str]

    def ask(self, method: str, path: str, who: str = "admin", **more: Any) -> Any:
        headers = {"authorization": f"Bearer {self.secrets[who]}"} if who else {}
        return self.client.request(method, path, headers=headers | more.pop("headers", {}), **more)

    def get(self, path: str, who: str = "read", **more: Any) -> Any:
        return self.ask("GET", path, who, **more)

    def post(self, path: str, who: str = "admin", **more: Any) -> Any:
        return self.ask("POST", path, who, **more)

    def audit(self) -> list[tuple[str, str, str, str]]:
        return [(one.who, one.what, one.about, one.outcome) for _, one in self.journal.audit.entries()]


@cache
def liver() -> Path:
    """An untrained run, made once."""
    folder = Path(tempfile.mkdtemp(prefix="medseg-liver-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return untrained_run(folder / "liver").folder


def site_in(folder: Path, **changes: Any) -> Site:
    """With an untrained model as the route `liver`, and tokens."""
    if not (folder / "liver").is_dir():
        shutil.copytree(liver(), folder / "liver")
    return Site(folder=folder, routes=(Route(name="abdomen", model="liver"),), **changes)


@cache
def keys() -> tuple[Path, dict[str, str]]:
    """A file of tokens, one of each role, and the tokens; made once, for hashing is slow on purpose."""
    folder = Path(tempfile.mkdtemp(prefix="medseg-tokens-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "tokens.yaml"
    return path, {role: tokens.add(path, role, role) for role in EVERYBODY}  # type: ignore[arg-type]


@contextmanager
def serving(site: Site) -> Iterator[Service]:
    journal = Journal(site.journal_at)
    store = Store(site, journal)
    made, known = keys()
    shutil.copy(made, site.at(site.serve.tokens))
    with TestClient(app(site, journal, store), base_url="http://127.0.0.1") as client:
        yield Service(site, journal, store, client, known)
    store.close()
    journal.close()


def asked(number: int, **more: Any) -> Asked:
    """A job that differs from others in its number."""
    return Asked(source={"all": f"/in/{number}"}, digest=f"{number:064x}", case=f"case-{number}", **more)


def finished(service: Service, number: int = 1, *, name: str = "case.nii.gz", **more: Any) -> Job:
    """A job whose result lies where it says."""
    out = service.site.at(service.site.data) / "results" / f"{number}"
    out.mkdir(parents=True)
    nifti(out / name, phantom(0)[1])
    sums = {name: hashlib.sha256((out / name).read_bytes()).hexdigest()}
    jobs = service.journal.jobs
    job, _ = jobs.submit(asked(number, model="/models/liver", out=str(out), **more), who="route")
    assert jobs.take("queued", "w", becomes="running")
    jobs.move(job.id, "w", "written", keep=True, files=sums, facts={"volume_ml": {"liver": 1500.25}}, verdict="pass")
    jobs.move(job.id, "w", "proven")
    return jobs.get(job.id)


def nrrd(array: np.ndarray, *, more: str = "") -> bytes:
    """A file as 3D Slicer writes volumes, with its voxels in it."""
    space = AFFINE * np.array([[-1], [-1], [1], [1]])
    directions = " ".join(f"({','.join(f'{value:g}' for value in space[:3, axis])})" for axis in range(3))
    header = (
        f"NRRD0005\ntype: short\ndimension: 3\nspace: left-posterior-superior\n"
        f"sizes: {' '.join(map(str, array.shape))}\nspace directions: {directions}\nkinds: domain domain domain\n"
        f"endian: little\nencoding: raw\nspace origin: ({','.join(f'{v:g}' for v in space[:3, 3])})\n{more}\n"
    )
    return header.encode() + array.astype("<i2").tobytes(order="F")


def form(ask: Mapping[str, Any] | None, files: Mapping[str, tuple[str, bytes]]) -> dict[str, Any]:
    """Words for a client that sends a request for a job."""
    data = {} if ask is None else {"data": {"ask": json.dumps(ask)}}
    return {**data, "files": dict(files)}


def zipped(files: Mapping[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", how) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def related(objects: Sequence[bytes], boundary: str = "part") -> tuple[bytes, dict[str, str]]:
    """Body and headers of a STOW-RS request."""
    start = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    body = b"".join(start + one + b"\r\n" for one in objects) + f"--{boundary}--\r\n".encode()
    return body, {"content-type": f'multipart/related; type="application/dicom"; boundary={boundary}'}
