"""Whether two files are one object in two transfer syntaxes: it is what a scanner and an archive send of one study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.datadict import tag_for_keyword
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.tag import BaseTag

from medseg.dicom import parse, pixels

CODING = frozenset((tag_for_keyword("DerivationDescription"),))
"""What tools write when they compress without loss (dcmtk does), besides the pixels."""


def alike(former: Path, later: Path) -> bool:
    """Whether two DICOM files of an image say the same, however they are written: every attribute, and every pixel
    after decoding. What cannot be told, as of pixels in colour, is no.

    Raises:
        Exception: what parsers and decoders raise.
    """
    one, other = parse.whole(former), parse.whole(later)
    if not _same_attributes(one, other):
        return False
    frames = int(one.get("NumberOfFrames") or 1)
    first, second = pixels.opened(former), pixels.opened(later)
    return all(np.array_equal(first(number), second(number)) for number in range(frames))


def _same_attributes(one: Any, other: Any) -> bool:
    tags = _told(one)
    return tags == _told(other) and all(_same(one[tag], other[tag]) for tag in tags)


def _same(one: Any, other: Any) -> bool:
    if one.VR == other.VR == "SQ":
        return len(one.value) == len(other.value) and all(map(_same_attributes, one.value, other.value))
    return one == other or _code(one) == _code(other)


def _told(dataset: Any) -> list[BaseTag]:
    """All but pixels, their coding, and lengths of groups."""
    return [tag for tag in dataset.keys() if tag.element and tag not in parse.PIXELS | CODING]  # noqa: SIM118


def _code(element: Any) -> bytes:
    """As implicit little endian has it, without its type: who does not know a private attribute does not know that."""
    buffer = DicomBytesIO()
    buffer.is_little_endian = buffer.is_implicit_VR = True
    write_data_element(buffer, element)
    return buffer.getvalue()
