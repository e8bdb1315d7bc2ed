"""Volumes of the labels, what the scan measures inside them, and how the result came about (.json)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medseg import codes, measurements
from medseg.atomic import replacing
from medseg.dicom import objects
from medseg.measurements import Channel, Row
from medseg.prediction import Prediction
from medseg.settings import Settings

SUFFIX = ".statistics.json"
WRITES = "labels"
READ_BACK_BY = None


class Options(Settings):
    """Nothing to choose."""


def write(prediction: Prediction, path: Path, options: Options) -> None:
    """Keys: case; input (file or folder, modality, UIDs of a DICOM scan, and
    the series of further channels); check (what the check of the series said;
    null where none was made); provenance; quality (verdict, score and reasons,
    told without the truth; null where it was not judged); grid; labels. A
    label has name, number, code, side, voxels, volume_ml and values: for each
    channel of the scan quantity, unit, mean, sd, min, max and median; none if
    it was not found."""
    table, target = measurements.measure(prediction), prediction.target
    found = {
        "case": prediction.case,
        "input": _input(prediction),
        "check": target.source.notes.get(objects.NOTE_OF_CHECK),
        "provenance": dict(prediction.provenance),
        "quality": prediction.quality and prediction.quality.to_json(),
        "grid": {
            "shape": list(target.shape),
            "spacing": [measurements.rounded(side) for side in target.spacing_mm],
            "unit": target.unit,
        },
        "labels": [_label(row, table.channels) for row in table.rows],
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(found, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


def _input(prediction: Prediction) -> dict[str, Any]:
    source = prediction.target.source
    return {
        "path": source.path.name,
        "modality": source.modality,
        "study_uid": source.notes.get("study_uid"),
        "series_uid": source.notes.get("series_uid"),
        "others": source.notes.get(objects.NOTE_OF_OTHERS),
        "instances": list(dict.fromkeys(instance.sop_instance_uid for instance in source.instances)),
    }


def _label(row: Row, channels: tuple[Channel, ...]) -> dict[str, Any]:
    coded = codes.of(row.label)
    return {
        "name": row.label.name,
        "number": row.label.index,
        "code": vars(coded.kind),
        "side": vars(coded.side) if coded.side else None,
        "voxels": row.voxels,
        "volume_ml": None if row.volume_ml is None else measurements.rounded(row.volume_ml),
        "values": [
            vars(channel) | {name: measurements.rounded(value) for name, value in values._asdict().items()}
            for channel, values in zip(channels, row.values, strict=False)  # no values where nothing was found
        ],
    }
