"""How large each label of a prediction is, and what the scan measures inside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from medseg import scratch
from medseg.labels import Label
from medseg.prediction import Prediction
from medseg.volume import Volume

MODALITIES = "modalities"
"""Key in `Source.notes`: the modality of each channel, where several images were put together."""
VALUES = "values of channels"
"""Key in `Source.notes`: what each of them holds, as `Source.notes["values"]` of its own file said."""
UPTAKE = {"SUVbw": "g/ml", "SUVlbm": "g/ml", "SUVbsa": "cm2/ml", "BQML": "Bq/ml"}
"""Units of PET by what its reader says that the values are."""
DIGITS = 6
"""Significant digits of a measured number wherever it is written, so that all outputs of a result agree."""
PART = 2**19
"""Values whose deviations are in memory at once."""


class Values(NamedTuple):
    """Of one channel of the scan over the voxels of one label. `sd` divides by the number of voxels, not by one less:
    they are all voxels of the label, not a sample of them."""

    mean: float
    sd: float
    min: float
    max: float
    median: float


@dataclass(frozen=True)
class Channel:
    """One channel of the scan.

    Attributes:
        name: of the channel, or empty.
        modality: as DICOM names it, or empty.
        quantity: what is measured: HU, SUVbw, ...; empty where values mean something in their own scan only.
        unit: of the quantity; empty where there is none.
    """

    name: str
    modality: str
    quantity: str
    unit: str


@dataclass(frozen=True)
class Row:
    """One label.

    Attributes:
        volume_ml: None for images without a physical size.
        values: one for each channel; empty for a label without voxels.
    """

    label: Label
    voxels: int
    volume_ml: float | None
    values: tuple[Values, ...]


@dataclass(frozen=True)
class Table:
    """Measurements of one result: a row for every label of its table, found or not."""

    channels: tuple[Channel, ...]
    rows: tuple[Row, ...]


def measure(prediction: Prediction) -> Table:
    """Measure every label on the grid of the prediction; of a repaired series that is the repaired grid. Volumes alone
    where the scan was not kept. Labels may overlap.

    A volume is the number of voxels times the size of one. No voxel is looked at more than a few times, however many
    labels there are.
    """
    sizes, scan = voxels(prediction), prediction.scan
    if scan is None:
        return Table((), tuple(_row(prediction, place, size, ()) for place, size in enumerate(sizes)))
    groups = _groups(prediction, scan.array, sizes)
    rows = (
        _row(prediction, place, size, tuple(_values(channel) for channel in group) if size else ())
        for place, (size, group) in enumerate(zip(sizes, groups, strict=True))
    )
    return Table(channels(scan), tuple(rows))


def voxels(prediction: Prediction) -> list[int]:
    """How many each label of the table has."""
    array, count = prediction.target.array, len(prediction.table.labels)
    if not prediction.table.exclusive:
        return [sum(int(np.count_nonzero(plane == 1)) for plane in _planes(region)) for region in array]
    sizes = np.zeros(count + 1, np.int64)
    for plane in _planes(array[0]):  # whole, the numbers would be copied at eight bytes each
        sizes += np.bincount(plane.ravel(), minlength=count + 1)[: count + 1]
    return sizes[1:].tolist()


def volumes_ml(prediction: Prediction) -> dict[str, float]:
    """Millilitres of each label, as they are written; empty for images without a physical size."""
    sizes = voxels(prediction)
    rows = [_row(prediction, place, size, ()) for place, size in enumerate(sizes)]
    return {row.label.name: rounded(row.volume_ml) for row in rows if row.volume_ml is not None}


def channels(scan: Volume) -> tuple[Channel, ...]:
    """What each channel of a scan measures, as far as its files say so: Hounsfield units of CT and uptake of PET; MR
    and files without a modality have no unit."""
    source = scan.source
    modalities = source.notes.get(MODALITIES) or (source.modality,) * len(scan.array)
    held = source.notes.get(VALUES) or (str(source.notes.get("values", "")),) * len(scan.array)
    names = scan.channels or ("",) * len(scan.array)
    return tuple(
        Channel(name, modality, *_quantity(modality, values))
        for name, modality, values in zip(names, modalities, held, strict=True)
    )


def text(value: float) -> str:
    """A measured number as it is written everywhere.

    Example:
        >>> text(1234.56789), text(0.00012345678), text(-1024.0)
        ('1234.57', '0.000123457', '-1024')
    """
    return f"{value:.{DIGITS}g}"


def rounded(value: float) -> float:
    """The number that `text` stands for."""
    return float(text(value))


def _quantity(modality: str, values: str) -> tuple[str, str]:
    if modality == "CT" and values in ("", "HU"):
        return "HU", "HU"
    if modality == "PT" and values in UPTAKE:
        return ("" if values == "BQML" else values), UPTAKE[values]
    return "", ""


def _row(prediction: Prediction, place: int, size: int, values: tuple[Values, ...]) -> Row:
    target = prediction.target
    voxel_ml = abs(float(np.linalg.det(target.affine[:3, :3]))) / 1000
    return Row(prediction.table.labels[place], size, size * voxel_ml if target.unit == "mm" else None, values)


def _groups(prediction: Prediction, scan: np.ndarray, sizes: list[int]) -> Iterator[np.ndarray]:
    """(C, n) of each label: the scan's values at its voxels."""
    if prediction.table.exclusive:
        yield from _sorted_by_class(prediction.target.array[0], scan, sizes)
        return
    for place in range(len(sizes)):
        yield scan[:, prediction.mask(place)]


def _sorted_by_class(numbers: np.ndarray, scan: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    """(C, n) for each class 1, 2, ...: plane by plane, values are sorted by class and put behind what earlier planes
    have, so that no label costs a pass over the scan."""
    held = scratch.zeros((len(scan), 1, 1, sum(sizes)), scan.dtype)[:, 0, 0]
    groups = np.split(held, np.cumsum(sizes)[:-1], axis=1)
    filled = [0] * len(sizes)
    axis = _outermost(numbers)
    for classes, values in zip(np.moveaxis(numbers, axis, 0), np.moveaxis(scan, axis + 1, 0), strict=True):
        flat = classes.ravel()
        if not flat.any():
            continue
        ordered = values.reshape(len(scan), -1)[:, np.argsort(flat, kind="stable")]
        ends = np.cumsum(np.bincount(flat, minlength=len(sizes) + 1))
        for place in np.flatnonzero(np.diff(ends[: len(sizes) + 1])):
            piece = ordered[:, ends[place] : ends[place + 1]]
            groups[place][:, filled[place] : filled[place] + piece.shape[1]] = piece
            filled[place] += piece.shape[1]
    return groups


def _values(found: np.ndarray) -> Values:
    """Of (n,) values, which are put into another order."""
    mean = found.mean(dtype=np.float64)
    squares = (np.square(part - mean).sum() for part in np.array_split(found, -(-len(found) // PART)))
    return Values(
        mean=float(mean),
        sd=float(np.sqrt(sum(squares) / len(found))),
        min=float(found.min()),
        max=float(found.max()),
        median=float(np.median(found, overwrite_input=True)),
    )


def _planes(array: np.ndarray) -> Iterator[np.ndarray]:
    """Slices along the axis whose neighbours are farthest apart in memory."""
    for plane in np.moveaxis(array, _outermost(array), 0):
        yield plane
        scratch.let_go(array)


def _outermost(array: np.ndarray) -> int:
    return int(np.argmax(np.abs(array.strides)))
