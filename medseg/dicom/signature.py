"""Telling DICOM files from others without importing pydicom."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from medseg.boundary import parsing, refuse_absurd

SUFFIXES = (".dcm", ".dicom", ".ima")


def is_dicom(path: Path) -> bool:
    """Whether the file has DICOM's signature."""
    with path.open("rb") as handle:
        return starts_dicom(handle.read(132))


def starts_dicom(start: bytes) -> bool:
    """Whether the first 132 bytes of a file are DICOM's."""
    return start[128:132] == b"DICM"


DEFLATED_SYNTAX = b"UI\x16\x001.2.840.10008.1.2.1.99"
START_BYTES = 1024
"""Of a file, enough to tell what it is."""
META_BYTES = 144
"""Preamble, signature and the length of the file meta information, which stands last among them."""
TIMES, SMALL_BYTES = 100, 2**26
"""No image is packed better than a hundred times, but for small empty ones."""
CHUNK_BYTES = 2**20


def refuse_bomb(path: Path, start: bytes) -> None:
    """Refuse a deflated file that would fill the memory, before a parser inflates all of it.

    Args:
        start: its first START_BYTES.

    Raises:
        Refusal: it is one, or cannot be inflated.
    """
    if DEFLATED_SYNTAX not in start:
        return
    with path.open("rb") as handle:
        handle.seek(META_BYTES + int.from_bytes(start[META_BYTES - 4 : META_BYTES], "little"))
        size, found = path.stat().st_size, 1
        inflating = zlib.decompressobj(-zlib.MAX_WBITS)
        with parsing(path, needed="a deflated DICOM file", remedy="copy or export the file again, uncompressed"):
            piece = handle.read(CHUNK_BYTES)
            while piece and not inflating.eof:
                found += len(inflating.decompress(piece, CHUNK_BYTES))
                refuse_absurd(path, found, size, "attributes", times=TIMES, unquestioned=SMALL_BYTES)
                piece = inflating.unconsumed_tail or handle.read(CHUNK_BYTES)


def claims_dicom(path: Path) -> bool:
    """Whether the file has DICOM's suffix or signature."""
    return path.suffix.lower() in SUFFIXES or is_dicom(path)


def files(folder: Path) -> Iterator[Path]:
    """DICOM files in a folder and below it, by name. A file that claims to be DICOM by its suffix but is not counts
    too, so that a damaged slice is refused by name and not passed over; and so does what may not be looked at, a file
    or a whole folder, for the same reason. See `archive.files` for more than folders."""
    shut: list[Path] = []

    def unlisted(error: OSError) -> None:
        if not isinstance(error, PermissionError):
            raise error
        shut.append(Path(error.filename))

    inside = [Path(place) / name for place, _, names in os.walk(folder, onerror=unlisted) for name in names]
    yield from sorted([*filter(_counts, inside), *shut])


def _counts(path: Path) -> bool:
    try:
        return not path.name.startswith(".") and path.is_file() and claims_dicom(path)
    except PermissionError:
        return True
