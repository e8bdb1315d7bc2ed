"""Uploads in parts (multipart), written to the disk as they come, under names of our own.

The parser is python-multipart's, which reads `multipart/form-data` and `multipart/related` (DICOM PS3.18, 10.5) alike.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from anyio import to_thread
from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from medseg.service.web.problem import Problem

AT_ONCE = 2**20
"""Bytes that are collected before a thread writes them."""
MOST_PARTS = 20_000


@dataclass
class Part:
    """A part that lies on the disk.

    Attributes:
        headers: in lower case -> text.
        name, filename: of a form's field; whatever the sender wrote, and never used as a path.
    """

    path: Path
    headers: dict[str, str] = field(default_factory=dict)
    sha256: str = ""
    bytes: int = 0

    @property
    def name(self) -> str:
        return self._disposition("name")

    @property
    def filename(self) -> str:
        return self._disposition("filename")

    def _disposition(self, key: str) -> str:
        _, options = parse_options_header(self.headers.get("content-disposition", "").encode())
        return options.get(key.encode(), b"").decode("utf-8", "replace")


async def received(request: Request, folder: Path, *, free_bytes: int) -> list[Part]:
    """Write the parts of a request into a folder.

    Args:
        free_bytes: that must be left on the disk.

    Raises:
        Problem: 415, no parts; 400, damaged ones; 413, too many; 507, no room.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if not kind.startswith(b"multipart/") or not boundary:
        raise Problem(
            415,
            "Content-Type",
            found="no multipart, or one without a boundary",
            needed="multipart/form-data, or multipart/related for DICOM",
            remedy="see docs/service-api.md",
        )
    writer = _Writer(boundary, folder, free_bytes)
    try:
        async for block in _blocks(request):
            await to_thread.run_sync(writer.take, block)
        return await to_thread.run_sync(writer.end)
    finally:
        writer.close()


async def _blocks(request: Request) -> AsyncIterator[bytes]:
    waiting = bytearray()
    async for chunk in request.stream():
        waiting += chunk
        if len(waiting) >= AT_ONCE:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting)


class _Writer:
    """Hears of parts from the parser, and writes them."""

    def __init__(self, boundary: bytes, folder: Path, free_bytes: int):
        self._folder, self._free, self._parts = folder, free_bytes, list[Part]()
        self._file: BinaryIO | None = None
        self._sha256, self._ended = hashlib.sha256(), False
        self._key, self._value = bytearray(), bytearray()
        names = ("part_begin", "part_data", "part_end", "header_field", "header_value", "header_end", "end")
        callbacks: Any = {f"on_{name}": getattr(self, f"_{name}") for name in names}
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError as error:
            raise _damaged(error) from error

    def take(self, block: bytes) -> None:
        if shutil.disk_usage(self._folder).free - len(block) < self._free:
            raise no_room()
        try:
            self._parser.write(block)
        except FormParserError as error:
            raise _damaged(error) from error

    def end(self) -> list[Part]:
        if not self._ended:
            raise _damaged("it ends before its last boundary")
        return self._parts

    def close(self) -> None:
        if self._file:
            self._file.close()

    def _part_begin(self) -> None:
        if len(self._parts) >= MOST_PARTS:
            raise Problem(
                413,
                "upload",
                found=f"more than {MOST_PARTS} parts",
                needed="fewer",
                remedy="send the study in several requests",
            )
        self._parts.append(Part(self._folder / f"{len(self._parts):06}"))
        self._file, self._sha256 = self._parts[-1].path.open("xb"), hashlib.sha256()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        assert self._file  # opened when the part began
        block = memoryview(data)[start:end]
        self._file.write(block)
        self._sha256.update(block)
        self._parts[-1].bytes += end - start

    def _part_end(self) -> None:
        assert self._file  # opened when the part began
        self._file.close()
        self._parts[-1].sha256 = self._sha256.hexdigest()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._key += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        key, value = (bytes(one).decode("utf-8", "replace") for one in (self._key, self._value))
        self._parts[-1].headers[key.strip().lower()] = value.strip()
        self._key.clear()
        self._value.clear()

    def _end(self) -> None:
        self._ended = True


def no_room() -> Problem:
    return Problem(
        507,
        "disk",
        found="too little room for this upload",
        needed="what site.yaml says is to be left free (keep.free_gib)",
        remedy="try again later, or ask who runs this service",
        headers={"retry-after": "600"},
    )


def _damaged(words: object) -> Problem:
    return Problem(
        400, "upload", found=f"damaged parts ({words})", needed="multipart as RFC 2046 has it", remedy="send it again"
    )
