"""`predict.json`: what became of each case, whole at any time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg import atomic, measurements
from medseg.boundary import parsing
from medseg.dicom.objects import NOTE_OF_CHECK
from medseg.engine.load import CHOICE
from medseg.engine.runner import Outcome
from medseg.prediction import Classification, Prediction
from medseg.volume import Volume


class Record:
    """The file, which is written anew after each case, so that a batch that is killed leaves one of what was done.

    Of a file that is there already, cases stay until they are predicted again; where another model made them, or the
    same one otherwise, their provenance stands beside them.
    """

    def __init__(self, path: Path, provenance: Mapping[str, str]):
        """
        Raises:
            Refusal: there is a file of this name that is no record.
        """
        self._path = path
        self._provenance = _text(dict(provenance))
        self._cases = _former(path, dict(provenance))

    def keep(self, outcome: Outcome) -> None:
        """Add what became of a case."""
        self._cases.pop(outcome.case, None)
        # as text: thousands of cases are not made text thousands of times
        self._cases[outcome.case] = _text(outcome.to_json())
        self.write()

    def write(self) -> None:
        cases = ",\n".join(self._cases.values())
        with atomic.replacing(self._path) as temporary:
            text = f'{{\n"provenance": {self._provenance},\n"cases": [\n{cases}\n]\n}}\n'
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # names of files need not be text


def _former(path: Path, provenance: dict[str, str]) -> dict[str, str]:
    """What an earlier batch said of each case."""
    if not path.exists():
        return {}
    with parsing(path, needed="the record of an earlier `medseg predict`", remedy="move the file elsewhere"):
        record = json.loads(path.read_text(encoding="utf-8"))
        other = {} if record["provenance"] == provenance else {"provenance": record["provenance"]}
        return {case["case"]: _text(other | case) for case in record["cases"]}


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
