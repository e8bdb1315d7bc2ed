"""From the archive and back: every study that was sent is accounted for, each result is there once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.judges import needs, program
from tests.service import studies
from tests.service.hospital import Hospital, hospital, until
from tests.tiny import ENVIRONMENT

pytestmark = needs("Orthanc", "storescu")

REASONS = {
    "a gap of 27 mm": "missing-slices",
    "slices of two sizes": "size",
    "two volumes in one": "repeated",
    "no place": "no-geometry",
    "skewed": "orientation",
    "cut pixel data": "truncated",
    "no codestream": "pixels",
    "no pixel data": "truncated",
    "MR": "no-route",
    "localiser": "no-route",
    "screen captures": "no-route",
    "two series that fit": "several-series",
}


def storescu(at: Hospital, folder: Path, sender: str) -> None:
    """Send a folder by dcmtk, as a scanner would."""
    command = [
        program("storescu"),
        "-R",
        "+sd",
        "-aet",
        sender,
        "-aec",
        "MEDSEG",
        "127.0.0.1",
        str(at.port),
        str(folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def summary(at: Hospital) -> dict:
    command = [sys.executable, "-m", "medseg", "jobs", "summary", str(at.site), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run(folder: Path, good: int, twice: int, at_once: int) -> None:
    what = studies.write(folder / "made", good)
    with hospital(folder / "hospital") as at:
        at.prepare()
        at.start()
        known = {}
        for number in what:
            [known[number]] = {at.keep(file) for file in sorted((folder / "made" / str(number)).iterdir())}
        at.introduce()
        until(lambda: at.send(known[1]), "the listener takes a study")
        sends = 1 + sum(at.send(known[number]) for number in what if number > 1 + at_once)
        with ThreadPoolExecutor(2 * at_once) as threads:
            both = range(2, 2 + at_once)
            by_scanner = [threads.submit(storescu, at, folder / "made" / str(number), "CT1") for number in both]
            by_archive = [threads.submit(at.send, known[number]) for number in both]
            sends += sum(future.result() for future in by_archive)
            sends += sum(future.result() is None for future in by_scanner)
        sends += sum(at.send(known[number]) for number in range(2 + at_once, 2 + at_once + twice))
        assert sends == len(what) + twice + at_once
        until(at.ended(len(what)), "every study has come to an end")

        numbers = {studies.study_uid(number): number for number in what}
        ends = {numbers[job.identity.study_uid]: job for job in at.jobs()}
        assert len(ends) == len(at.jobs()) == len(what)
        for number, name in what.items():
            expected = ("done", "") if name == "good" else (None, REASONS[name])
            job = ends[number]
            assert job.reason_code == expected[1], (name, job.state, job.reason)
            assert (job.state == "done") == (name == "good"), (name, job.state, job.reason)
        stored = {numbers[uid]: kinds for uid, kinds in at.results().items()}
        assert stored == {number: ["SEG", "SR"] for number, name in what.items() if name == "good"}

        table = summary(at)
        by_state: Counter[str] = Counter()
        for row in table["jobs"]:
            by_state[row["became"]] += row["count"]
        assert by_state == Counter(job.state for job in at.jobs())
        assert by_state["done"] == good and sum(by_state.values()) == len(what)
        objects = {number: len(list((folder / "made" / str(number)).iterdir())) for number in what}
        again = [*range(2, 2 + at_once), *range(2 + at_once, 2 + at_once + twice)]
        came = table["received"]
        doubled = sum(objects[number] for number in again)
        results = came["received"] - sum(objects.values()) - doubled  # the archive sends those of a study, too
        assert came["duplicates"] == doubled and results in range(2 * len(again) + 1)
        assert came["studies"] == len(what)


def test_what_is_sent_is_done_once_or_told_why_not(tmp_path):
    run(tmp_path, good=8, twice=2, at_once=2)


@pytest.mark.slow
def test_a_hundred_studies(tmp_path):
    run(tmp_path, good=88, twice=5, at_once=3)
