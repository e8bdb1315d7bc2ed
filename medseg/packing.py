"""Files that are compressed by gzip as they are written."""

from __future__ import annotations

from typing import BinaryIO

from isal import igzip

LEVEL = 2
"""Of isal's 0 to 3; what 3 gains is small, and it takes three times as long."""


def packed(raw: BinaryIO) -> igzip.IGzipFile:
    """What is written to it goes into `raw` as gzip, without name and date: the same content makes the same bytes."""
    return igzip.IGzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=LEVEL)
