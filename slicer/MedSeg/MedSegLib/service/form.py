"""What is sent for a job: a form with the question and the files, read from the disk as it goes out."""

from __future__ import annotations

import json
import os
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from MedSegLib.service.trouble import Trouble
from MedSegLib.words import Failure

BLOCK = 256 * 1024
"""Bytes that are read, and sent, at once; see `call.BLOCK`."""
SUFFIXES = (".dcm", ".dicom", ".ima")
EPOCH = (1980, 1, 1, 0, 0, 0)
"""Of every file in a zip, so that the same files make the same zip and with it the same job."""


@dataclass(frozen=True)
class Form:
    """A body in parts (multipart/form-data). Files go under numbers: their own names may say whose they are.

    Attributes:
        ask: the question.
        files: name of the part -> file.
    """

    ask: Mapping[str, Any]
    files: Sequence[tuple[str, Path]]
    boundary: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def kind(self) -> str:
        return f"multipart/form-data; boundary={self.boundary}"

    @property
    def size(self) -> int:
        """Bytes of all of it.

        Raises:
            Trouble: a file is gone.
        """
        try:
            inside = sum(path.stat().st_size for _, path in self.files)
        except OSError as error:
            raise _unread(error) from error
        return inside + sum(len(head) + 2 for head, _ in self._parts()) + len(self._end)

    def blocks(self) -> Iterator[bytes]:
        """
        Raises:
            Trouble: a file cannot be read, or has changed since its size was told.
        """
        for head, path in self._parts():
            yield head
            if path:
                yield from _read(path)
            yield b"\r\n"
        yield self._end

    @property
    def _end(self) -> bytes:
        return f"--{self.boundary}--\r\n".encode()

    def _parts(self) -> Iterator[tuple[bytes, Path | None]]:
        yield self._head("ask", "") + json.dumps(dict(self.ask)).encode(), None
        for number, (name, path) in enumerate(self.files):
            yield self._head(name, f'; filename="{number}"'), path

    def _head(self, name: str, more: str) -> bytes:
        quoted = name.replace("\\", "\\\\").replace('"', '\\"').replace("\r", " ").replace("\n", " ")
        return f'--{self.boundary}\r\nContent-Disposition: form-data; name="{quoted}"{more}\r\n\r\n'.encode()


def zipped(folder: Path, into: Path, check: Callable[[int, int], None]) -> None:
    """Put the DICOM files of a folder and below it into a zip, unpacked, under numbers; nothing else that lies there.

    Args:
        check: called before each file with how many are done, and of how many.

    Raises:
        Trouble: no DICOM file, or none that can be read.
    """
    try:
        found = sorted(Path(place) / name for place, _, names in os.walk(folder) for name in names)
        chosen = [path for path in found if _is_dicom(path)]
        if not chosen:
            what = "There is no DICOM file in the folder of the study."
            raise Trouble(Failure(what, "Choose the folder that holds its files.", "dicom"))
        with zipfile.ZipFile(into, "x", zipfile.ZIP_STORED) as packed:
            for number, path in enumerate(chosen):
                check(number, len(chosen))
                told = zipfile.ZipInfo(f"{number:06}.dcm", EPOCH)
                told.file_size = path.stat().st_size  # so that zipfile knows which need 64 bits
                with path.open("rb") as file, packed.open(told, "w") as entry:
                    while block := file.read(BLOCK):
                        entry.write(block)
    except OSError as error:
        raise _unread(error) from error


def _is_dicom(path: Path) -> bool:
    if not path.is_file():
        return False
    if path.suffix.lower() in SUFFIXES:
        return True
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _read(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            left = os.fstat(file.fileno()).st_size
            while left and (block := file.read(min(BLOCK, left))):
                left -= len(block)
                yield block
    except OSError as error:
        raise _unread(error) from error
    if left:
        raise Trouble(Failure("A file became shorter while it was sent.", "Run it again.", "lost-input"))


def _unread(error: OSError) -> Trouble:
    what = f"What is to be sent cannot be read or written: {error.strerror or error}."
    return Trouble(Failure(what, "Look at the disk and its rights, then run it again.", "disk", str(error)))
