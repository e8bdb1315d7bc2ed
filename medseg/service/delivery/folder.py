"""Results as files in a folder, on this machine or mounted."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from medseg.atomic import replacing
from medseg.service.delivery.way import Again, File, Gone, digest
from medseg.service.journal.job import Job


class FolderWay:
    """Copies into `<folder>/<case>-<job>/`; a file is there when it is complete.

    The folder itself is never made: where a share is not mounted, results would lie on the wrong disk.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def send(self, job: Job, files: Sequence[File]) -> str:
        self._require()
        try:
            for file in files:
                to = self._place(job, file)
                if not _same(to, file):
                    with replacing(to) as partial:
                        shutil.copyfile(file.path, partial)
        except OSError as error:
            raise Again(f"{self._folder}: {error.strerror or error}") from error
        return ""

    def confirm(self, job: Job, files: Sequence[File]) -> None:
        self._require()
        try:
            other = [file.path.name for file in files if not _same(self._place(job, file), file)]
        except OSError as error:
            raise Again(f"{self._folder}: {error.strerror or error}") from error
        if other:
            raise Gone(f"not in {self._folder} as they were sent: {', '.join(other)}")

    def close(self) -> None:
        """Nothing is open."""

    def _require(self) -> None:
        if not self._folder.is_dir():
            raise Again(f"{self._folder} is not there; is it mounted?")

    def _place(self, job: Job, file: File) -> Path:
        return self._folder / f"{job.case}-{job.id}" / file.path.name


def _same(path: Path, file: File) -> bool:
    return path.is_file() and digest(path) == file.sha256
