"""The one way into pydicom's parser for files that nobody has looked at yet.

It is put together from pydicom's parts, because `dcmread` inflates a file to whatever it becomes, and takes zeros, with
which cut downloads and bad discs are filled up, for attributes: one for every eight bytes.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import uid
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.filereader import read_dataset, read_preamble
from pydicom.tag import BaseTag, Tag

from medseg.boundary import refuse_absurd

PIXELS = frozenset(Tag(tag) for tag in (0x7FE00008, 0x7FE00009, 0x7FE00010))
"""Float, double float and integer pixel data."""
CHARACTER_SET = Tag(0x00080005)
TIMES, SMALL_BYTES = 100, 2**26
"""No image is deflated to less than a hundredth, but for small empty ones."""
CHUNK_BYTES = 2**20
UNDEFINED = 0xFFFFFFFF
"""Length of a value that says itself where it ends."""

Stop = Callable[[BaseTag, str | None, int], bool]


def tags(names: Iterable[str | int]) -> list[BaseTag | int]:
    """Keywords or numbers as `header` takes them; the character set, which texts need, is added."""
    numbers = (tag_for_keyword(name) or 0 if isinstance(name, str) else name for name in names)
    return [*map(Tag, numbers), CHARACTER_SET]


def header(path: Path, handle: BinaryIO, wanted: list[BaseTag | int] | None) -> Any:
    """Some attributes of an open file, or all, up to its pixels, where `handle` then stands if it is not deflated.

    Raises:
        Refusal: a deflated file that unpacks to far too much.
        Exception: what pydicom raises.
    """
    return _parse(path, handle, _at_pixels, wanted)


def all_but_pixels(path: Path) -> Any:
    """All attributes of a file before its pixels; see `header`.

    Raises:
        EOFError: the file ends within one of them.
    """
    with path.open("rb") as handle:
        return _complete(header(path, handle, None))


def whole(path: Path) -> Any:
    """All attributes of a file, its pixels too; see `all_but_pixels`."""
    with path.open("rb") as handle:
        return _complete(_parse(path, handle, _at_zeros, None))


def beginning(start: bytes, wanted: list[BaseTag | int], last: str) -> tuple[Any, str, int]:
    """Some attributes up to and with `last`, from the first bytes of a file, whatever the rest of it is.

    Returns:
        The attributes, the transfer syntax (empty if the file does not say), and the byte at which the data set begins.

    Raises:
        Exception: what pydicom raises.
    """
    handle = io.BytesIO(start)
    read_preamble(handle, False)
    meta = FileMetaDataset(read_dataset(handle, False, True, stop_when=_behind_meta))
    begins, syntax, end = handle.tell(), meta.get("TransferSyntaxUID") or "", Tag(last)
    if syntax == uid.DeflatedExplicitVRLittleEndian:
        handle = io.BytesIO(zlib.decompressobj(-zlib.MAX_WBITS).decompress(start[begins:], len(start)))
    found = read_dataset(
        handle, *_encoding(syntax, handle), stop_when=lambda tag, vr, length: tag > end, specific_tags=wanted
    )
    return found, str(syntax), begins


def _parse(path: Path, handle: BinaryIO, stop: Stop, wanted: list[BaseTag | int] | None) -> FileDataset:
    handle.seek(0)
    preamble = read_preamble(handle, False)
    meta = FileMetaDataset(read_dataset(handle, False, True, stop_when=_behind_meta))
    syntax = meta.get("TransferSyntaxUID")
    source = _inflated(path, handle) if syntax == uid.DeflatedExplicitVRLittleEndian else handle
    implicit, little = _encoding(syntax, source)
    dataset = read_dataset(source, implicit, little, stop_when=stop, specific_tags=wanted)
    found = FileDataset(str(path), dataset, preamble, meta, implicit, little)
    found.set_original_encoding(implicit, little, dataset._character_set)
    return found


def _complete(dataset: FileDataset) -> FileDataset:
    """The data set, unless the file ends within a value: pydicom takes what is there, so that a list of files or of
    contours would be a shorter one."""
    elements = [dataset.get_item(tag) for tag in dataset.keys()]  # noqa: SIM118 - a data set yields elements, decoded
    for one in elements:
        if one.is_raw and one.length != UNDEFINED and one.length > len(one.value or b""):
            raise EOFError(f"an end within {one.tag}")
    return dataset


def _encoding(syntax: str | None, source: BinaryIO) -> tuple[bool, bool]:
    """Whether the types of attributes are left out, and whether the lowest byte comes first."""
    implicit = syntax == uid.ImplicitVRLittleEndian or (not syntax and not _states_types(source))
    return implicit, syntax != uid.ExplicitVRBigEndian


def _inflated(path: Path, handle: BinaryIO) -> BinaryIO:
    inflating, pieces, found = zlib.decompressobj(-zlib.MAX_WBITS), [], 1
    size = path.stat().st_size
    packed = handle.read(CHUNK_BYTES)
    while not inflating.eof:
        pieces.append(inflating.decompress(packed, CHUNK_BYTES))
        if not packed and not pieces[-1]:  # what is taken in may come out later
            raise EOFError("a deflated file that is cut")
        found += len(pieces[-1])
        refuse_absurd(path, found, size, "attributes", times=TIMES, unquestioned=SMALL_BYTES)
        packed = inflating.unconsumed_tail or handle.read(CHUNK_BYTES)
    return io.BytesIO(b"".join(pieces))


def _states_types(source: BinaryIO) -> bool:
    """Whether the first attribute has letters where its type would be, in a file that does not say."""
    start = source.read(6)
    source.seek(-len(start), io.SEEK_CUR)
    return start[4:].isalpha() and start[4:].isupper()


def _behind_meta(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag.group != 2


def _at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag in PIXELS or tag == 0


def _at_zeros(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag == 0
