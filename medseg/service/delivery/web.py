"""Results to an archive by STOW-RS; that it has them is seen by WADO-RS (DICOM PS3.18)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset

from medseg.service.delivery.way import AGAIN, NEVER, Again, File, Gone, Never, meaning, objects, said
from medseg.service.journal.job import Job
from medseg.service.settings.receivers import WebReceiver
from medseg.service.settings.site import Site, filled

TIMES_S = (10.0, 120.0)
"""Longest wait for a connection, and for the next byte of an answer."""
NOT_OF_THE_OBJECT = (401, 403, 404, 407, 408, 425, 429)
"""Statuses below 500 that say nothing of what was sent, but of who sends, where, and when."""
NOT_THERE = (404, 410)


class WebWay:
    """Speaks to one archive."""

    def __init__(self, site: Site, receiver: WebReceiver):
        session = requests.Session()
        session.trust_env = False  # no proxy, no password of the environment: what counts is in the site's file
        session.verify = str(site.at(Path(receiver.authority))) if receiver.authority else True
        if receiver.token:
            session.headers["Authorization"] = f"Bearer {filled(receiver.token)}"
        self._client = DICOMwebClient(receiver.url, session=session, timeout=TIMES_S)
        self._client.set_http_retry_params(retry=False)  # the sender waits, and serves others meanwhile
        self._session, self._url = session, receiver.url

    def send(self, job: Job, files: Sequence[File]) -> str:
        found, left_out = objects(files)
        remarks = []
        for path, _ in found:  # one at a time: only one is in memory, and each has an answer of its own
            with self._asking(path.name):
                answer = self._client.store_instances([pydicom.dcmread(path)])
            remarks.append(self._judged(answer, path.name))
        return said(*remarks, left_out)

    def confirm(self, job: Job, files: Sequence[File]) -> None:
        for path, one in objects(files)[0]:
            try:
                with self._asking(path.name):
                    told = self._client.retrieve_instance_metadata(one.study_uid, one.series_uid, one.sop_uid)
                    found = told["00080018"]["Value"][0]
            except Again as error:
                if isinstance(error.__cause__, requests.HTTPError) and _status(error.__cause__) in NOT_THERE:
                    raise Gone(f"{self._url} does not have {path.name}") from error
                raise
            if found != one.sop_uid:
                raise Gone(f"{self._url} has something else in place of {path.name}")

    def close(self) -> None:
        """End the connections."""
        self._session.close()

    def _judged(self, answer: Dataset, name: str) -> str:
        """What a store response says (PS3.18 I.2)."""
        for item in answer.get("FailedSOPSequence") or ():
            reason = int(item.get("FailureReason", 0x0110))
            words = f"{self._url} answers {reason:04X}H to {name}"
            if meaning(reason) == NEVER:
                raise Never(words)
            if meaning(reason) == AGAIN:
                raise Again(words)
        warnings = [item.get("WarningReason") for item in answer.get("ReferencedSOPSequence") or ()]
        return said(*(f"{name}: taken with {reason:04X}H" for reason in warnings if reason))

    @contextmanager
    def _asking(self, name: str) -> Iterator[None]:
        """Around a call of the client: what goes wrong is `Again`, or `Never` where it is due to the object."""
        try:
            yield
        except requests.HTTPError as error:
            status, told = _status(error), _failures(error.response)
            words = f"{self._url} answers {status} to {name}"
            if status >= 500 or status in NOT_OF_THE_OBJECT:
                raise Again(words) from error
            if told is not None:
                self._judged(told, name)
            raise Never(words) from error
        except requests.JSONDecodeError as error:  # a RequestException, too
            raise Again(f"{self._url} answers {name} with something that cannot be read") from error
        except requests.RequestException as error:
            raise Again(f"{self._url}: {type(error).__name__}, nobody answers there, or not as expected") from error
        except (ValueError, LookupError) as error:
            raise Again(f"{self._url} answers {name} with something that is no DICOM in JSON") from error


def _status(error: requests.HTTPError) -> int:
    return 0 if error.response is None else error.response.status_code


def _failures(response: Any) -> Dataset | None:
    """The store response that came with a refusal, if there is one."""
    try:
        return Dataset.from_json(response.json())
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
