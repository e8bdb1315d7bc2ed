"""Results to look at: the viewer's page of a scan with its labels, made by a process of its own.

To read a scan takes memory and trusts a parser with what strangers have sent. So `medseg view` does it, one at a time,
and this process sends what it has made.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from medseg.service.journal.job import Job
from medseg.service.web.problem import Problem

LABEL_MAPS = (".seg.nrrd", ".seg.dcm", ".nii.gz", ".nrrd")
"""Suffixes of files that hold labels, the best to look at first."""
NO_LABELS = (".probabilities.nii.gz", ".entropy.nii.gz", ".disagreement.nii.gz")
LIMIT_S = 300
AGAIN_S = 15
"""After which who finds another view being made may ask again."""
KEPT = 4
"""Pages that are kept, for who looks again."""
WORDS = 300


class Views:
    """Pages of results. Safe to use from several threads.

    Args:
        folder: of this process alone, made on first use. A page holds a patient's voxels, so it is where what a killed
            process leaves behind is cleared away.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pages, self._one = OrderedDict[tuple[object, ...], Path](), threading.Lock()

    def page(self, job: Job, folder: Path) -> Path:
        """
        Args:
            folder: of the job's results.

        Raises:
            Problem: 404, no labels to look at, or no scan any more; 503, others are being made; 400, it cannot be read.
        """
        labels, scan = label_map(job, folder), _scan(job)
        key = (job.id, labels.name, job.files[labels.name])
        if not self._one.acquire(blocking=False):  # who waits here would keep a thread from all others
            raise Problem(
                503,
                "viewer",
                found="another view being made",
                needed="a turn",
                remedy="try again in a minute",
                headers={"retry-after": str(AGAIN_S)},
            )
        try:
            if key not in self._pages:
                self._folder.mkdir(mode=0o700, exist_ok=True)
                page = self._folder / f"{job.id}-{len(self._pages)}-{job.files[labels.name][:12]}.html"
                _make(job, scan, labels, page)
                self._pages[key] = page
            self._pages.move_to_end(key)
            while len(self._pages) > KEPT:
                self._pages.popitem(last=False)[1].unlink(missing_ok=True)
            return self._pages[key]
        finally:
            self._one.release()

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def label_map(job: Job, folder: Path) -> Path:
    """
    Raises:
        Problem: 404, there is none.
    """
    names = [name for name in sorted(job.files) if not name.endswith(NO_LABELS)]
    found = next((folder / name for ending in LABEL_MAPS for name in names if name.endswith(ending)), None)
    if found is None or not found.is_file():
        raise _nothing("no file with labels", "a result as NIfTI, NRRD or DICOM SEG that was not cleared away")
    return found


def _scan(job: Job) -> Path:
    """The input; of several channels, the first."""
    scan = Path(next(iter(job.source.values()), ""))
    if not job.source or not scan.exists():
        raise _nothing("no scan any more", "the input of the job, which was cleared away")
    return scan


def _make(job: Job, scan: Path, labels: Path, page: Path) -> None:
    series = job.parameters.get("series") or ""
    chosen = next(iter(series.values()), "") if isinstance(series, dict) else series
    command: Sequence[str] = [
        *(sys.executable, "-m", "medseg", "view", str(scan), str(labels), "--out", str(page), "--no-open"),
        *(("--labels", job.model) if (Path(job.model) / "labels.json").is_file() else ()),
        *(("--series", chosen) if chosen else ()),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        raise _failed(f"no view within {LIMIT_S} s") from None
    if done.returncode:
        raise _failed(done.stderr.strip().removeprefix("error: ")[-WORDS:] or f"exit code {done.returncode}")


def _nothing(found: str, needed: str) -> Problem:
    return Problem(404, "viewer", found=found, needed=needed, remedy="download the files")


def _failed(found: str) -> Problem:
    return Problem(400, "viewer", found=found, needed="a scan and labels that go together", remedy="download the files")
