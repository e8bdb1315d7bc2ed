"""The headers of very many files, in parallel. Imports little, because every worker process imports it anew."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from medseg.cores import in_order
from medseg.dicom import headers
from medseg.dicom.headers import Header
from medseg.refusal import Refusal

CHUNK = 64
"""Files that a worker is given at a time."""
WORTH_A_PROCESS = 300
"""Files for which starting one more process pays: it takes as long as reading about as many headers."""
Outcome = Header | Refusal


def look(files: Sequence[Path], *, workers: int, done: Callable[[], None] = lambda: None) -> list[Outcome]:
    """The header of each file, or why there is none, in the order of files.

    Args:
        files: to read.
        workers: processes at most, see `cores.in_order`; few files are read in this one.
        done: called once for each file.

    Raises:
        Refusal: a worker process died.
    """
    chunks = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
    workers = min(workers, len(files) // WORTH_A_PROCESS)
    found: list[Outcome] = []
    for outcomes in in_order(_look, chunks, workers=workers):
        found += outcomes
        for _ in outcomes:
            done()
    return found


def _look(files: Sequence[Path]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # what it says of single elements is no verdict, and would fill the screen
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for file in files:
            try:
                outcomes.append(headers.read(file))
            except Refusal as refusal:
                outcomes.append(refusal)
            except OSError as error:
                outcomes.append(
                    Refusal(
                        file,
                        found=f"{error.strerror}",
                        needed="a file that may be read",
                        remedy="check permissions",
                        code="unreadable",
                    )
                )
    logger.setLevel(level)
    return outcomes
