"""Ports of this site, and whether its receivers and sources answer."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medseg.optional import need
from medseg.service.operations.checks.finding import Finding, trying
from medseg.service.settings import contexts
from medseg.service.settings.receivers import FolderReceiver, StoreReceiver
from medseg.service.settings.site import Site, filled
from medseg.service.settings.sources import DicomSource
from medseg.service.settings.tls import Tls

WAIT_S = 5.0
"""Longest wait for an answer."""
VERIFICATION = "1.2.840.10008.1.1"
DENIED = (401, 403)


def ports(site: Site) -> Iterator[Finding]:
    """Of the listener and the page: free, or answered by somebody, which may be medseg itself."""
    for what, host, port in (
        ("port of the listener", site.listen.host, site.listen.port),
        ("port of the page", site.serve.host, site.serve.port),
    ):
        if not port:
            yield Finding(what, "ok", "any that is free")
            continue
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                yield Finding(what, "ok", f"{host}:{port} is free")
            except OSError as error:
                yield _taken(what, host, port, error)


def _taken(what: str, host: str, port: int, error: OSError) -> Finding:
    where = f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return Finding(what, "look", f"{where} is in use", "nothing, if that is medseg; else choose another port")
    if error.errno == errno.EACCES:
        return Finding(what, "bad", f"{where} may not be listened at", "choose one from 1024 on, or allow it")
    return Finding(what, "bad", f"{where}: {error.strerror or error}", "name an address of this machine")


def others(site: Site) -> Iterator[Finding]:
    """Each receiver and source: by C-ECHO, by a question over HTTP, or whether its folder can be written to."""
    for kind, found in (("receiver", site.receivers), ("source", site.sources)):
        for name, one in found.items():
            what = f"{kind} {name}"
            yield from trying(what, lambda what=what, one=one: iter([_ask(site, what, one)]))  # type: ignore[misc]


def _ask(site: Site, what: str, one: Any) -> Finding:
    if isinstance(one, FolderReceiver):
        return _folder(what, site.at(one.folder))
    if isinstance(one, StoreReceiver | DicomSource):
        calling = getattr(one, "calling", "") or site.listen.ae_title
        return _echo(site, what, (one.host, one.port), calling, one.ae_title, one.tls)
    authority = str(site.at(Path(one.authority))) if one.authority else True
    return _http(what, one.url, filled(one.token) if one.token else "", authority)


def _folder(what: str, folder: Path) -> Finding:
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
        return Finding(what, "ok", f"{folder} can be written to")
    found = "cannot be written to" if folder.is_dir() else "is not there"
    return Finding(what, "bad", f"{folder} {found}", "make it, mount it, or allow it")


def _echo(site: Site, what: str, where: tuple[str, int], calling: str, called: str, tls: Tls | None) -> Finding:
    """Verification (DICOM PS3.4 Annex A)."""
    pynetdicom = need("pynetdicom", extra="service", purpose="ask archives whether they answer")
    from medseg.service.association import Rejected, Unanswered, associated

    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # what it has to say is in the finding
    entity = pynetdicom.AE(calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = WAIT_S
    entity.add_requested_context(VERIFICATION)
    secured = (contexts.client(site, tls), where[0]) if tls else None
    named = f"{called} at {where[0]}:{where[1]}"
    try:
        association = associated(entity, *where, ae_title=called, tls_args=secured)
    except Rejected as error:
        return Finding(what, "bad", f"{named} rejects {calling}: {error}", "let it know this AE title")
    except Unanswered:
        remedy = f"see whether it runs, and knows {calling}; a firewall?"
        return Finding(what, "bad", f"{named} does not answer as expected", remedy)
    try:
        status = association.send_c_echo().get("Status")
    finally:
        association.release()
    if status == 0:
        return Finding(what, "ok", f"{named} answers C-ECHO")
    return Finding(what, "bad", f"{named} answers C-ECHO with {status}", "see its log")


def _http(what: str, url: str, token: str, authority: str | bool) -> Finding:
    """A search for one study (QIDO-RS, DICOM PS3.18 10.6); an archive that only takes may answer that it has no such
    thing, and answers then."""
    requests: Any = need("requests", extra="service", purpose="ask archives whether they answer")
    headers = {"Accept": "application/dicom+json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    with requests.Session() as session:
        session.trust_env = False
        try:
            asked = f"{url.rstrip('/')}/studies?limit=1"
            answer = session.get(asked, headers=headers, timeout=WAIT_S, verify=authority, stream=True)
            status = answer.status_code
            answer.close()
        except requests.RequestException as error:
            why = type(error).__name__
            return Finding(what, "bad", f"{url} does not answer ({why})", "see whether it runs, and its certificate")
    if status in DENIED:
        return Finding(what, "bad", f"{url} answers {status}", "give it a token that it knows")
    if status >= 500:
        return Finding(what, "bad", f"{url} answers {status}", "see its log")
    return Finding(what, "ok", f"{url} answers {status}")
