"""A scan and its labels, read and put onto a page to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medseg import viewer
from medseg.engine import scans
from medseg.engine.load import load_target
from medseg.labels import LabelTable
from medseg.readers import read


def view(
    scan: Path, labels: Sequence[Path], out: Path, *, table: LabelTable | None = None, series: str | None = None
) -> None:
    """Write a page that shows a scan with its label maps.

    Args:
        table: what the numbers of the label maps mean.
        series: which one of a DICOM folder.

    Raises:
        Refusal: what cannot be read, labels on another grid than the scan's, a scan too large for a browser.
    """
    image = read(scan, series=series)
    maps = [viewer.LabelMap(name, load_target(path, image, read), table) for name, path in _named(labels).items()]
    viewer.write(out, image, maps, title=scans.stem(scan))


def _named(labels: Sequence[Path]) -> dict[str, Path]:
    """Each by its file's name, or, where two are called the same, by its path."""
    stems = [scans.stem(path) for path in labels]
    return {stem if stems.count(stem) == 1 else str(path): path for stem, path in zip(stems, labels, strict=True)}
