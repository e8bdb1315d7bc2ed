"""`predict.json`: what became of each case, whole at any time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg import atomic, measurements
from medseg.dicom.objects import NOTE_OF_CHECK
from medseg.engine.load import CHOICE
from medseg.engine.runner import Outcome
from medseg.prediction import Classification, Prediction
from medseg.volume import Volume


class Record:
    """The file, which is written anew after each case, so that a batch that is killed leaves one of what was done."""

    def __init__(self, path: Path, provenance: Mapping[str, str]):
        self._path = path
        self._provenance = _text(dict(provenance))
        self._cases: list[str] = []

    def keep(self, outcome: Outcome) -> None:
        """Add what became of a case."""
        self._cases.append(_text(outcome.to_json()))  # as text: thousands of cases are not made text thousands of times
        self.write()

    def write(self) -> None:
        cases = ",\n".join(self._cases)
        with atomic.replacing(self._path) as temporary:
            text = f'{{\n"provenance": {self._provenance},\n"cases": [\n{cases}\n]\n}}\n'
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # names of files need not be text


def _text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def facts(prediction: Prediction | Classification, scan: Volume) -> dict[str, Any]:
    """What the record says of a result, and of the scan that it was made from."""
    of_scan = {"megavoxels": round(scan.array.size / 1e6, 3), **_reading(scan)}
    if isinstance(prediction, Prediction):
        quality = {"quality": prediction.quality.to_json()} if prediction.quality else {}
        return {"volume_ml": measurements.volumes_ml(prediction), **quality, **of_scan, **prediction.facts}
    return chances(prediction) | of_scan


def _reading(scan: Volume) -> dict[str, str]:
    """Which series was taken, and what the check of it found."""
    names = {CHOICE: "series", NOTE_OF_CHECK: "check of the series"}
    return {name: scan.source.notes[key] for key, name in names.items() if scan.source.notes.get(key)}


def chances(classification: Classification) -> dict[str, Any]:
    """The probability of each class; of slices, the highest and how many are decided so."""
    names, found = classification.table.names, classification.probabilities
    if classification.table.unit == "image":
        return {"probability": {name: round(float(row[0]), 4) for name, row in zip(names, found, strict=True)}}
    decided = classification.decisions.sum(axis=1)
    return {
        "slices": found.shape[1],
        "highest probability": {name: round(float(row.max()), 4) for name, row in zip(names, found, strict=True)},
        "slices decided so": {name: int(count) for name, count in zip(names, decided, strict=True)},
    }
