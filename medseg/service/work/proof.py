"""Whether a result can be read back as it was written, before anybody is sent it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from medseg import plugins
from medseg.config import Chosen
from medseg.dicom import parse
from medseg.dicom.signature import SUFFIXES

CHUNK = 2**20


class Unproven(Exception):
    """A file is not what was written."""


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def prove(folder: Path, case: str, outputs: Sequence[Chosen], files: dict[str, str]) -> None:
    """Read each file of a case's result by the reader that knows its kind, all voxels; other DICOM objects are parsed,
    and what nothing reads back must at least be the bytes that were written.

    Args:
        files: name -> sha256 at the time of writing.

    Raises:
        Unproven: one is damaged, and how.
    """
    for chosen in outputs:
        module = chosen.module()
        path = folder / f"{case}{module.SUFFIX}"
        try:
            if sha256(path) != files[path.name]:
                raise Unproven(f"{path.name} has other bytes than were written")
            if module.READ_BACK_BY:
                reader = plugins.find("readers", module.READ_BACK_BY)
                reader.read(path, reader.Options()).array.max()
            elif path.suffix in SUFFIXES:
                parse.whole(path)
        except Unproven:
            raise
        except Exception as error:  # whatever a reader says of a file that we have just written
            raise Unproven(f"{path.name} cannot be read back: {error}") from error
