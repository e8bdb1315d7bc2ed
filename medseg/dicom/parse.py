"""The one way into pydicom's parser for files that nobody has looked at yet."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from pydicom.datadict import tag_for_keyword
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag, Tag

from medseg.dicom.signature import START_BYTES, refuse_bomb

PIXELS = frozenset(Tag(tag) for tag in (0x7FE00008, 0x7FE00009, 0x7FE00010))
"""Float, double float and integer pixel data."""


def tags(names: Iterable[str | int]) -> list[BaseTag | int]:
    """Keywords or numbers as `header` takes them; the character set, which texts need, is added."""
    return [Tag(tag_for_keyword(name) or 0) if isinstance(name, str) else Tag(name) for name in names] + [
        Tag(0x00080005)
    ]


def header(path: Path, handle: BinaryIO, wanted: list[BaseTag | int] | None) -> Any:
    """Some attributes of an open file, or all, up to its pixels, where `handle` then stands.

    Raises:
        Refusal: a deflated file that unpacks to far too much.
        Exception: what pydicom raises.
    """
    handle.seek(0)
    refuse_bomb(path, handle.read(START_BYTES))
    handle.seek(0)
    return read_partial(handle, _at_pixels, specific_tags=wanted)


def whole(path: Path) -> Any:
    """All attributes of a file, its pixels too; see `header`."""
    with path.open("rb") as handle:
        refuse_bomb(path, handle.read(START_BYTES))
        handle.seek(0)
        return read_partial(handle, _at_zeros)


def _at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag in PIXELS or tag == 0


def _at_zeros(tag: BaseTag, vr: str | None, length: int) -> bool:
    """Where a file was filled up with zeros, each eight would be an attribute: hours of them, in a large one."""
    return tag == 0
