"""Studies of an archive by QIDO-RS, and by WADO-RS (DICOM PS3.18)."""

from __future__ import annotations

import math
import os
import re
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medseg import optional
from medseg.progress import counting
from medseg.refusal import Refusal
from medseg.service.intake import asking, head
from medseg.service.intake.asking import ANSWERED, Found
from medseg.service.intake.multipart import Pieces
from medseg.service.intake.store import PART, Store
from medseg.service.journal import Journal
from medseg.service.settings.site import Site, filled
from medseg.service.settings.sources import WebSource

TOKEN = "MEDSEG_DICOMWEB_TOKEN"
"""Environment variable: the token for an address that is given on the command line."""
CONNECT_S, READ_S = 10.0, 60.0
"""Until there is a connection, and between two parts of an answer."""
TRIES = 3
AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
"""In the transfer syntax in which the archive has it."""
BLOCK_BYTES = 2**20
AGAIN = "fetch the study again"
PAGE = 500
"""Answers that are asked for at once; an archive may give fewer."""


class WebArchive:
    """A source that speaks DICOMweb."""

    def __init__(self, name: str, url: str, *, token: str = "", authority: Path | None = None):
        """
        Raises:
            Refusal: no address, or dicomweb-client is not installed.
        """
        client = optional.need("dicomweb_client", extra="service", purpose="ask an archive by DICOMweb")
        address = urllib.parse.urlsplit(url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise Refusal(name, found=f"'{url}'", needed="https://host/path", remedy="check the address")
        self._name = f"{name} ({address.scheme}://{address.hostname}{address.path})"
        headers = {"Authorization": f"Bearer {token}"} if token else None
        self._client = client.DICOMwebClient(url.rstrip("/"), headers=headers, timeout=(CONNECT_S, READ_S))
        self._client.set_http_retry_params(max_attempts=TRIES)
        self._client._session.auth = _plainly
        if authority:
            self._client._session.verify = str(authority)

    def find(self, keys: Mapping[str, str]) -> list[Found]:
        """
        Raises:
            Refusal: the archive cannot be reached, refuses, or gives no sensible answer.
        """

        def page(offset: int) -> list[Any]:
            more = {"search_filters": dict(keys), "fields": list(ANSWERED), "limit": PAGE, "offset": offset}
            return list(self._client.search_for_studies(**more))

        answers = self._pages(page, "StudyInstanceUID")
        return asking.studies([{name: _value(one, name) for name in ANSWERED} for one in answers], keys)

    def fetch(self, study_uid: str, store: Store, journal: Journal) -> int:
        """Bring all objects of a study here; how many it has.

        Raises:
            Refusal: see `find`; no such study (code not-found); no room (no-room); or not all came, or could be kept
                (incomplete).
        """
        troubles: list[Refusal] = []
        part = store.incoming / f"{uuid.uuid4().hex}{PART}"

        def whole() -> None:
            try:
                store.keep(part, f"{self._name} by WADO-RS", name="an object of it")
            except Refusal as refusal:
                if refusal.code == asking.NO_ROOM:
                    raise
                troubles.append(refusal)

        listed = self._listed(study_uid)
        journal.arrivals.expect(study_uid, listed, self._name)
        self._objects(study_uid, part, store.largest, whole)
        lacking = listed - set(journal.arrivals.holds(listed))
        if lacking:
            raise asking.incomplete(self._name, len(lacking), len(listed), AGAIN, troubles)
        return len(listed)

    def download(self, study_uid: str, folder: Path) -> None:
        """Write all objects of a study into a folder, in folders of series.

        Raises:
            Refusal: as `fetch`.
        """
        listed, here = self._listed(study_uid), set[str]()
        part = folder / f".{uuid.uuid4().hex}{PART}"
        folder.mkdir(parents=True, exist_ok=True)

        def whole() -> None:
            found = head.read(part, "an object of it")
            place = folder / found.series_uid / f"{found.sop_uid}.dcm"
            place.parent.mkdir(exist_ok=True)
            part.replace(place)
            here.add(found.sop_uid)

        self._objects(study_uid, part, math.inf, whole)
        if listed - here:
            raise asking.incomplete(self._name, len(listed - here), len(listed), AGAIN)

    def _listed(self, study_uid: str) -> set[str]:
        """The SOP instances of a study."""

        def page(offset: int) -> list[Any]:
            return list(self._client.search_for_instances(study_uid, limit=PAGE, offset=offset))

        found = {_value(one, "SOPInstanceUID") for one in self._pages(page, "SOPInstanceUID")}
        if not found:
            raise Refusal(
                self._name, found="no objects of this study", needed="some", remedy="check the UID", code="not-found"
            )
        return found

    def _pages(self, page: Callable[[int], list[Any]], uid: str) -> list[Any]:
        """All answers, each once; an archive may say the same for ever, or end early, whatever it was asked."""
        found: dict[str, Any] = {}
        while True:
            with self._answering():
                new = {_value(one, uid): one for one in page(len(found))}
            new = {name: one for name, one in new.items() if name and name not in found}
            if not new:
                return list(found.values())
            found |= new

    def _objects(self, study_uid: str, part: Path, most: float, whole: Callable[[], None]) -> None:
        """Have each object of a study written to `part`, see `multipart.Pieces`."""
        with self._answering():
            address = f"{self._client.base_url}/studies/{study_uid}"
            answer = self._client._http_get(address, headers={"Accept": AS_STORED}, stream=True)
        with answer:
            try:
                pieces = Pieces(answer.headers.get("content-type", ""), part, most, whole)
            except ValueError as error:
                raise self._no_web(error) from error
            blocks = answer.iter_content(BLOCK_BYTES)
            try:
                while True:
                    with self._answering():
                        block = next(blocks, None)
                    if block is None:
                        return pieces.end()
                    try:
                        pieces.take(block)
                    except ValueError as error:
                        raise self._no_web(error) from error
            finally:
                pieces.close()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Turn what goes wrong on the way into a sentence."""
        import requests

        try:
            yield
        except requests.HTTPError as error:
            code = error.response.status_code if error.response is not None else 0
            remedy = "check the token" if code in (401, 403) else "check the address, and see the archive's log"
            raise self._refused(f"HTTP status {code}", remedy) from error
        except requests.Timeout as error:
            raise self._refused(f"no answer within {READ_S:g} s", "see whether it is busy, and try again") from error
        except requests.ConnectionError as error:
            words = "no valid certificate" if isinstance(error, requests.exceptions.SSLError) else type(error).__name__
            raise self._refused(f"no connection ({words})", "check the address, TLS and whether it runs") from error
        except Exception as error:  # whatever a parser makes of an answer
            raise self._no_web(error) from error

    def _no_web(self, error: Exception) -> Refusal:
        found = f"an answer that is no DICOMweb ({type(error).__name__})"
        return self._refused(found, "check the address: it ends before /studies")

    def _refused(self, found: str, remedy: str) -> Refusal:
        return Refusal(self._name, found=found, needed="an archive that answers", remedy=remedy, code="source")


def of_source(site: Site, name: str, source: WebSource) -> WebArchive:
    """The archive behind a site's source."""
    authority = site.at(Path(source.authority)) if source.authority else None
    return WebArchive(name, source.url, token=filled(source.token), authority=authority)


def download(address: str, folder: Path) -> list[Path]:
    """Bring the studies here that a QIDO-RS address tells of, such as https://host/dicom-web/studies?PatientID=P1.

    `MEDSEG_DICOMWEB_TOKEN` is sent as a Bearer token, if it is set.

    Returns:
        The folder of each study, in `folder`, by its UID.

    Raises:
        Refusal: no such address, keys that cannot be asked by, no studies, or as `WebArchive.download`.
    """
    parts = urllib.parse.urlsplit(address)
    base = re.fullmatch(r"(.*)/studies/?(?P<study>[0-9.]*)", parts.path)
    if not base:
        raise Refusal(
            address,
            found="no /studies in it",
            needed="an address of QIDO-RS",
            remedy="https://host/.../studies?KEY=VALUE",
        )
    asked = [f"{name}={value}" for name, value in urllib.parse.parse_qsl(parts.query)]
    wanted = asking.keys([*asked, *([f"StudyInstanceUID={base['study']}"] if base["study"] else [])])
    url = urllib.parse.urlunsplit((parts.scheme, parts.netloc, base[1], "", ""))
    archive = WebArchive("archive", url, token=os.environ.get(TOKEN, ""))
    studies = archive.find(wanted)
    if not studies:
        raise Refusal(address, found="no study", needed="at least one", remedy="ask by other keys", code="not-found")
    with counting("studies fetched", total=len(studies)) as done:
        for one in studies:
            archive.download(one.study_uid, folder / one.study_uid)
            done()
    return [folder / one.study_uid for one in studies]


def _plainly(request: Any) -> Any:
    """Stars as every archive reads them: some, Orthanc's among them, look for %2A itself."""
    request.url = request.url.replace("%2A", "*")
    return request


def _value(answer: Mapping[str, Any], keyword: str) -> str:
    """Of an attribute in DICOM's JSON (PS3.18 annex F)."""
    from pydicom.datadict import tag_for_keyword

    values = answer.get(f"{tag_for_keyword(keyword):08X}", {}).get("Value") or []
    return "\\".join(str(value) for value in values)
