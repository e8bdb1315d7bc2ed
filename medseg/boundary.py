"""Where files of unknown quality meet the libraries that parse them: what those raise becomes a `Refusal`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from medseg.refusal import Refusal


@contextlib.contextmanager
def parsing(path: Path, *, needed: str, remedy: str, code: str = "unreadable") -> Iterator[None]:
    """Translate every failure of a third-party parser on the content of `path`.

    A damaged file makes parsers raise nearly anything (struct.error, KeyError, UnicodeDecodeError, RecursionError,
    MemoryError for an absurd size, ...), so the body must hold nothing but the parser's call: an error of ours would be
    blamed on the file. The parser's own words go into the message and the chained exception.
    """
    try:
        yield
    except Refusal:
        raise
    except MemoryError as error:
        raise Refusal(
            path,
            found="a size that does not fit into memory",
            needed=needed,
            remedy="check the file's header",
            code="absurd-size",
        ) from error
    except Exception as error:
        words = " ".join(str(error).split())[:300].rstrip(".") or "no further words"
        found = f"{type(error).__name__} ({words})"
        raise Refusal(path, found=found, needed=needed, remedy=remedy, code=code) from error


UNQUESTIONED = 2**29
"""Bytes that a file may claim to hold without being asked."""
DEFLATED = 1100
"""Deflate, which gzip and zip use, makes nothing more than 1032 times smaller."""


def refuse_absurd(
    path: Path, claimed: int, stored: int, what: str, *, times: int = DEFLATED, unquestioned: int = UNQUESTIONED
) -> None:
    """Refuse, before memory is taken, a claim that cannot be true, or that this machine could not hold.

    Args:
        claimed: bytes of `what`, unpacked, by the file's header.
        stored: size of the file.
        times: how many times smaller than that it may be, if `claimed` is more than `unquestioned`.
    """
    if claimed <= 0:
        found = f"a header that claims {claimed} bytes of {what}"
    elif claimed > unquestioned and claimed > times * stored:
        found = f"a header that claims {claimed / 2**30:.4g} GiB of {what} in a file of {stored} bytes"
    elif claimed > memory_bytes():
        found = f"a header that claims {claimed / 2**30:.4g} GiB of {what}, where this machine has less memory"
    else:
        return
    raise Refusal(
        path,
        found=found,
        needed="a size that can be true",
        remedy="check the file's header, or copy the file again",
        code="absurd-size",
    )


def memory_bytes() -> int:
    """Of the machine, or no limit where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not every system has these
        return 2**63


def refuse_not_finite(array: np.ndarray, path: Path) -> None:
    """Refuse NaN and infinite voxels in (C, I, J, K), with their number and the index of the first in memory."""
    if not np.issubdtype(array.dtype, np.floating):
        return
    outermost = int(np.argmax(np.abs(array.strides[1:])))
    count, first = 0, None
    for channel, volume in enumerate(array):
        for index, plane in enumerate(np.moveaxis(volume, outermost, 0)):  # the mask of a plane stays small
            bad = ~np.isfinite(plane)
            here = int(np.count_nonzero(bad))
            if here and first is None:
                place = [int(found) for found in np.argwhere(bad)[0]]
                place.insert(outermost, index)
                first = (channel, *place)
            count += here
    if first is not None:
        raise Refusal(
            path,
            found=f"{count} voxels that are NaN or infinite, the first at (channel, i, j, k) = {first}",
            needed="a finite number in every voxel",
            remedy="replace them with a value that means something for this modality, such as -1024 in CT",
            code="not-finite",
        )
