"""A sender, and archives in place of a hospital's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import yaml
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

from medseg.service.delivery import sender
from medseg.service.delivery.way import digest
from medseg.service.journal import Journal
from medseg.service.journal.job import Job
from medseg.service.settings import site as sites
from medseg.service.settings.site import Site
from tests.judges import Archive, free_port, needs
from tests.service.test_journal import ASKED

ORTHANC = needs("Orthanc")


WAIT_S = 60


def site_of(folder: Path, *, listen: Any = None, routes: Any = (), **receivers: dict[str, Any]) -> Site:
    values = {"receivers": receivers, "listen": listen or {}, "routes": list(routes)}
    (folder / "site.yaml").write_text(yaml.safe_dump(values))
    return sites.load(folder / "site.yaml")


def share(folder: Path) -> dict[str, Any]:
    (folder / "share").mkdir(exist_ok=True)
    return {"kind": "folder", "folder": "share"}


def proven(journal: Journal, made: Path, *receivers: str, digest_: str = "d", **more: Any) -> Job:
    """A job whose results were read back."""
    verdict = more.pop("verdict", "pass")
    asked = replace(ASKED, receivers=receivers, out=str(made), digest=digest_, **more)
    job, _ = journal.jobs.submit(asked, who="test")
    journal.jobs.take("queued", "worker", becomes="running")
    files = {path.name: digest(path) for path in sorted(made.iterdir())}
    journal.jobs.move(job.id, "worker", "written", keep=True, files=files)
    journal.jobs.move(job.id, "worker", "proven", verdict=verdict)
    return job


@contextmanager
def sending(site: Site, journal: Journal) -> Iterator[sender.Sender]:
    one = sender.Sender(site, journal, "sender")
    try:
        yield one
    finally:
        one.close()


def send(site: Site, journal: Journal, *, steps: int = 20) -> None:
    """Let a sender work until there is nothing to do."""
    with sending(site, journal) as one:
        for _ in range(steps):
            if not one.step():
                return
    raise AssertionError("the sender finds no end")


def told(journal: Journal, job: Job) -> dict[str, str]:
    return {one.receiver: one.state for one in journal.deliveries.of(job.id)}


def problems(journal: Journal, job: Job) -> str:
    return "; ".join(one.problem for one in journal.deliveries.of(job.id))


def states(journal: Journal, job: Job) -> list[str]:
    return list(dict.fromkeys(event.state for _, event in journal.jobs.events(job.id)))


@contextmanager
def scp(answer: Callable[[Any], int] = lambda event: 0, *, contexts: Any = None, **more: Any) -> Iterator[int]:
    """An archive on loopback that answers each object with a status; its port."""
    entity, handlers = AE("ARCHIVE"), [(evt.EVT_C_STORE, answer), *more.pop("handlers", ())]
    entity.supported_contexts = AllStoragePresentationContexts if contexts is None else contexts
    entity.add_supported_context(Verification)
    entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    for name, value in more.items():
        setattr(entity, name, value)
    port = free_port()
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    try:
        yield port
    finally:
        server.shutdown()


def at(port: int, **more: Any) -> dict[str, Any]:
    return {"kind": "dicom", "host": "127.0.0.1", "port": port, "ae_title": "ARCHIVE", **more}


def objects(archive: Archive, folder: Path) -> list[pydicom.Dataset]:
    found = json.loads(archive.get("/instances"))
    return [pydicom.dcmread(archive.fetch(one, folder / f"{one}.dcm")) for one in found]


def of_orthanc(kind: str, archive: Archive, **more: Any) -> dict[str, Any]:
    if kind == "dicom":
        return {**at(archive.dicom), "ae_title": "ORTHANC", **more}
    return {"kind": "dicomweb", "url": f"http://127.0.0.1:{archive.http}/dicom-web", **more}
