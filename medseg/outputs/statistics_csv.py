"""Volumes of the labels, and what the scan measures inside them, as a table (.csv): a row for each label."""

from __future__ import annotations

import csv
from pathlib import Path

from medseg import codes, measurements
from medseg.atomic import replacing
from medseg.measurements import Channel, Row, Values
from medseg.prediction import Prediction
from medseg.settings import Settings

SUFFIX = ".statistics.csv"
WRITES = "labels"
READ_BACK_BY = None


class Options(Settings):
    """Nothing to choose."""


def write(prediction: Prediction, path: Path, options: Options) -> None:
    """Columns: case; label; code (scheme:value, of what the label is, and of its side after a +) and meaning; voxels;
    volume_ml; and mean, sd, min, max and median of each channel of the scan, with the unit where there is one: mean_HU,
    mean_SUVbw_g/ml, or just mean. A label that was not found has a row too, with 0 voxels and no values."""
    table = measurements.measure(prediction)
    measured = [_column(name, channel) for channel in table.channels for name in Values._fields]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["case", "label", "code", "meaning", "voxels", "volume_ml", *measured])
        for row in table.rows:
            numbers = _numbers(row) or [""] * len(measured)
            writer.writerow([prediction.case, row.label.name, *_coded(row), row.voxels, _volume(row), *numbers])


def _column(name: str, channel: Channel) -> str:
    words = dict.fromkeys((channel.name, name, channel.quantity, channel.unit))  # HU is its own unit
    return "_".join(word for word in words if word)


def _coded(row: Row) -> tuple[str, str]:
    coded = codes.of(row.label)
    parts = [coded.kind, *([coded.side] if coded.side else [])]
    return "+".join(f"{part.scheme}:{part.value}" for part in parts), ", ".join(part.meaning for part in parts)


def _volume(row: Row) -> str:
    return "" if row.volume_ml is None else measurements.text(row.volume_ml)


def _numbers(row: Row) -> list[str]:
    return [measurements.text(value) for values in row.values for value in values]
