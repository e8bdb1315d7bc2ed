"""A zip that is sent while it is made: neither a copy on the disk nor in memory."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

BLOCK = 2**20


class _Sink:
    """Where the zip goes: a stream that cannot be sought in."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []

    def write(self, block: bytes) -> int:
        self._blocks.append(bytes(block))
        return len(block)

    def flush(self) -> None:
        """Nothing waits."""

    def taken(self) -> bytes:
        found, self._blocks = b"".join(self._blocks), []
        return found


def zipped(paths: Sequence[Path]) -> Iterator[bytes]:
    """Blocks of a zip with these files, as they are: most are packed already."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]  # it only writes
        for path in paths:
            entry = zipfile.ZipInfo(path.name)  # a fixed date, so that the same result gives the same bytes
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                while block := source.read(BLOCK):
                    target.write(block)
                    yield sink.taken()
    yield sink.taken()
