"""A hospital on this machine: an archive (Orthanc), and medseg's programs as its administrator starts them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from medseg.service.journal import Journal
from medseg.service.journal.job import Job
from medseg.service.journal.states import ENDS
from tests.judges import Archive, free_port
from tests.tiny import ENVIRONMENT, untrained_run

MODEL = ("dicom.select={must: {modality: CT}}",)
PROGRAMS = ("listen", "work", "serve")
WAIT_S = 300
"""Longest wait for anything; only a failure waits so long."""


@dataclass
class Hospital:
    """An installation in `folder`.

    Attributes:
        archive: sends studies, and takes results by C-STORE (route thorax) and STOW-RS (route abdomen).
        environment: of the programs.
    """

    folder: Path
    archive: Archive
    port: int = field(default_factory=free_port)
    web: int = field(default_factory=free_port)
    environment: Mapping[str, str] = field(default_factory=lambda: ENVIRONMENT)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def site(self) -> Path:
        return self.folder / "site.yaml"

    def prepare(self, *, pacs: int = 0, stow: int = 0, quiet_s: float = 1.0) -> None:
        """Write the site's file and an untrained model.

        Args:
            pacs, stow: ports of what stands before the archive; 0: the archive's own.
            quiet_s: after which a study is complete.
        """
        untrained_run(self.folder / "liver", changes=MODEL)
        route = {"model": "liver", "outputs": ["dicom_seg", "dicom_sr"]}
        fits = {"must": {"modality": "CT"}}
        settings: dict[str, Any] = {
            "data": "data",
            "listen": {"ae_title": "MEDSEG", "port": self.port, "allow": ["ORTHANC", "CT1", "CT2"], "quiet_s": quiet_s},
            "receivers": {
                "pacs": {
                    "kind": "dicom",
                    "host": "127.0.0.1",
                    "port": pacs or self.archive.dicom,
                    "ae_title": "ORTHANC",
                },
                "web": {"kind": "dicomweb", "url": f"http://127.0.0.1:{stow or self.archive.http}/dicom-web"},
            },
            "routes": [
                {"name": "abdomen", "series": with_study(fits, "Abdomen"), "send_to": ["web"], **route},
                {"name": "thorax", "series": with_study(fits, "Thorax"), "send_to": ["pacs"], **route},
            ],
            "work": {"workers": 1, "device": "cpu", "threads": 1},
            "serve": {"port": self.web},
            "keep": {"free_gib": 0},
        }
        self.site.write_text(yaml.safe_dump(settings), encoding="utf-8")

    def start(self, *programs: str) -> None:
        """Start programs, each in a process group of its own, and with its log in `<program>.log`."""
        for program in programs or PROGRAMS:
            with (self.folder / f"{program}.log").open("ab") as log:
                self.running[program] = subprocess.Popen(
                    [sys.executable, "-m", "medseg", program, str(self.site)],
                    stdout=log,
                    stderr=log,
                    env=dict(self.environment),
                    cwd=self.folder,
                    start_new_session=True,
                )

    def kill(self, program: str) -> None:
        """As a power cut would: the process alone, without warning; its children must notice."""
        process = self.running.pop(program)
        process.kill()
        process.wait(timeout=WAIT_S)

    def stop(self) -> None:
        """As a service manager would."""
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(timeout=60)
        self.running.clear()

    def log(self, program: str) -> str:
        return (self.folder / f"{program}.log").read_text(encoding="utf-8", errors="replace")

    @contextmanager
    def journal(self) -> Iterator[Journal]:
        opened = Journal(self.folder / "data" / "journal.sqlite")
        try:
            yield opened
        finally:
            opened.close()

    def jobs(self) -> list[Job]:
        with self.journal() as journal:
            return journal.jobs.find()

    def ended(self, studies: int) -> Callable[[], bool]:
        """Whether as many studies have come to an end."""
        return lambda: sum(job.state in ENDS for job in self.jobs()) >= studies

    def introduce(self, name: str = "MEDSEG") -> None:
        """Make the listener known to the archive."""
        self.put(f"/modalities/{name}", {"AET": "MEDSEG", "Host": "127.0.0.1", "Port": self.port})

    def put(self, path: str, body: Any, method: str = "PUT") -> Any:
        data = json.dumps(body).encode()
        asked = urllib.request.Request(f"http://127.0.0.1:{self.archive.http}{path}", data=data, method=method)
        with urllib.request.urlopen(asked, timeout=120) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def keep(self, file: Path) -> str:
        """Put a file into the archive by its own REST, which takes what `storescu` would not send; the study's id."""
        asked = urllib.request.Request(f"http://127.0.0.1:{self.archive.http}/instances", data=file.read_bytes())
        with urllib.request.urlopen(asked, timeout=120) as answer:
            return str(json.loads(answer.read())["ParentStudy"])

    def look(self, path: str) -> Any:
        return json.loads(self.archive.get(path))

    def send(self, study: str) -> bool:
        """Let the archive send a study to the listener by C-STORE; says whether all of it was taken."""
        try:
            answer = self.put("/modalities/MEDSEG/store", {"Resources": [study], "Synchronous": True}, "POST")
        except urllib.error.HTTPError:
            return False
        return answer["FailedInstancesCount"] == 0

    def results(self) -> dict[str, list[str]]:
        """Of each study with results in the archive: the modalities of its result objects."""
        found: dict[str, list[str]] = {}
        for series in self.look("/series?expand"):
            modality = series["MainDicomTags"].get("Modality", "")
            if modality in ("SEG", "SR"):
                parent = self.look(f"/series/{series['ID']}/study")
                uid = parent["MainDicomTags"]["StudyInstanceUID"]
                found.setdefault(uid, []).extend([modality] * len(series["Instances"]))
        return {uid: sorted(kinds) for uid, kinds in found.items()}


def with_study(rules: dict[str, Any], words: str) -> dict[str, Any]:
    return {"must": {**rules["must"], "study": words}}


def until(holds: Callable[[], bool], what: str, *, within_s: float = WAIT_S, every_s: float = 0.2) -> None:
    """Wait until something holds; a failure names it."""
    end = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"not within {within_s:g} s: {what}")
        time.sleep(every_s)


@contextmanager
def hospital(folder: Path, **options: Any) -> Iterator[Hospital]:
    """A hospital with an archive that is running; its programs are started by the test, and end with the block."""
    from tests.judges import orthanc

    with ExitStack() as stack:
        (folder / "archive").mkdir(parents=True)
        archive = stack.enter_context(orthanc(folder / "archive"))
        made = Hospital(folder, archive, **options)
        stack.callback(made.stop)
        yield made
