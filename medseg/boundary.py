"""Where files of unknown quality meet the libraries that parse them: what those raise becomes a `Refusal`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from medseg.refusal import Refusal


@contextlib.contextmanager
def parsing(path: Path, *, needed: str, remedy: str) -> Iterator[None]:
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
            path, found="a size that does not fit into memory", needed=needed, remedy="check the file's header"
        ) from error
    except Exception as error:
        words = " ".join(str(error).split())[:300].rstrip(".") or "no further words"
        raise Refusal(path, found=f"{type(error).__name__} ({words})", needed=needed, remedy=remedy) from error


def refuse_not_finite(array: np.ndarray, path: Path) -> None:
    """Refuse NaN and infinite voxels in (C, I, J, K), with their number and the first one's index."""
    if not np.issubdtype(array.dtype, np.floating):
        return
    count, first = 0, None
    for channel, volume in enumerate(array):  # channel by channel: the mask then stays small
        bad = ~np.isfinite(volume)
        here = int(np.count_nonzero(bad))
        if here and first is None:
            first = (channel, *(int(index) for index in np.argwhere(bad)[0]))
        count += here
    if first is not None:
        raise Refusal(
            path,
            found=f"{count} voxels that are NaN or infinite, the first at (channel, i, j, k) = {first}",
            needed="a finite number in every voxel",
            remedy="replace them with a value that means something for this modality, such as -1024 in CT",
        )
