"""Results to send, archives that are running, and seconds that pass when a test says so."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from medseg import plugins, readers
from medseg.labels import LabelTable
from medseg.prediction import Prediction
from medseg.service.delivery import backoff, sender
from medseg.service.journal import Journal
from tests import dicom_series as ds
from tests.judges import Archive, orthanc
from tests.service.delivery.rig import WAIT_S


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A segmentation, measurements as DICOM and as a table, under names and with attributes that are odd."""
    folder = tmp_path_factory.mktemp("made")
    odd = {"PatientName": "<script>alert(1)</script>^Ümläüt", "SpecificCharacterSet": "ISO_IR 192"}
    scan = readers.read(ds.series(folder / "scan", ds.places(5), **odd))
    target = np.zeros((1, *scan.shape), np.uint8)
    target[0, 2:6, 3:8, 1:4] = 1
    prediction = Prediction(
        "case", LabelTable.of({"liver": 1}), scan.with_array(target), {"model": "unit test"}, scan=scan
    )
    for name in ("dicom_seg", "dicom_sr", "statistics_csv"):
        output = plugins.find("outputs", name)
        output.write(prediction, folder / "out" / f"case{output.SUFFIX}", output.Options())
    return folder / "out"


@pytest.fixture
def journal(tmp_path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "journal.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """Seconds that pass when a test says so, for the back-off and for the journal's waits alike."""
    now = [1e9]
    made = backoff.BackOff
    monkeypatch.setattr(sender, "BackOff", lambda: made(lambda: now[0]))
    monkeypatch.setattr("medseg.service.journal.jobs.time.time", lambda: now[0])
    return now


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Iterator[Archive]:
    with orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.fixture
def empty(archive) -> Archive:
    for patient in json.loads(archive.get("/patients")):
        asked = urllib.request.Request(f"http://127.0.0.1:{archive.http}/patients/{patient}", method="DELETE")
        urllib.request.urlopen(asked, timeout=WAIT_S).close()
    return archive
