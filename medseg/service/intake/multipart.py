"""The objects of a WADO-RS answer (DICOM PS3.18, 10.4), one after another, on the disk as they come: dicomweb-client
keeps each in memory, several times over, however large it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from medseg import optional

ALONE = b"application/dicom"
"""Kind of an answer that is one object, without parts, as some archives give it."""


class Pieces:
    """Writes each part of an answer to the same file, and says when one is whole."""

    def __init__(self, kind: str, path: Path, most: float, whole: Callable[[], None]):
        """
        Args:
            kind: Content-Type of the answer.
            path: of the file, which is written anew for each part.
            most: bytes after which no more of a part is written.
            whole: called when a part is on the disk, all of it or, if it is too large, a little more than `most`.

        Raises:
            Refusal: python-multipart is not installed.
            ValueError: it is an answer of another kind.
        """
        self._path, self._most, self._whole = path, most, whole
        self._file: BinaryIO | None = None
        multipart = optional.need("python_multipart.multipart", extra="service", purpose="read an answer in parts")
        found, options = multipart.parse_options_header(kind)
        self._parser: Any = None
        if found == ALONE:
            self._begin()
        elif found == b"multipart/related" and options.get(b"boundary"):
            callbacks: Any = {"on_part_begin": self._begin, "on_part_data": self._data, "on_part_end": self._end}
            self._parser = multipart.MultipartParser(options[b"boundary"], callbacks)
        else:
            raise ValueError("no objects")

    def take(self, block: bytes) -> None:
        """
        Raises:
            ValueError: damaged parts.
            OSError: it cannot be written.
            Exception: what `whole` raises.
        """
        if self._parser:
            self._parser.write(block)
        else:
            self._data(block, 0, len(block))

    def end(self) -> None:
        """The answer has ended, well or not."""
        if not self._parser:
            self._end()

    def close(self) -> None:
        """Let go of what there is."""
        if self._file:
            self._file.close()
        self._path.unlink(missing_ok=True)

    def _begin(self) -> None:
        self._file = self._path.open("wb")

    def _data(self, block: bytes, start: int, stop: int) -> None:
        assert self._file  # opened when the part began
        if self._file.tell() <= self._most:
            self._file.write(memoryview(block)[start:stop])

    def _end(self) -> None:
        assert self._file  # opened when the part began
        self._file.close()
        self._whole()
