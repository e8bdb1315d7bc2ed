"""The cases that stand worst, drawn for a report: while all cases stream by, or afterwards from their files."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from medseg import progress, report
from medseg.engine.inputs import Pairing
from medseg.engine.load import load_target
from medseg.engine.scores import Score, Scores
from medseg.labels import LabelTable
from medseg.prediction import Prediction
from medseg.readers import read
from medseg.refusal import Refusal

MOST = 6
"""Cases with pictures in a report; each takes some 0.2 MB."""
BY = "dice"


class Worst:
    """The `most` cases of the lowest mean Dice over the labels for which it is defined, ties by name.

    A case without any defined Dice comes after all others. Drawn is only what is on the list when it comes, so that no
    scan is kept.
    """

    def __init__(self, most: int = MOST):
        self._most = most
        self._kept: list[tuple[float, str, report.Drawn]] = []

    def offer(self, case: str, rows: Sequence[Score], draw: Callable[[], report.Drawn]) -> None:
        """A case with its scores. `draw` is called if it belongs on the list, as far as is known by now."""
        place = (_standing(rows), case)
        if len(self._kept) == self._most:
            if place >= self._kept[-1][:2]:
                return
            self._kept.pop()
        self._kept.append((*place, draw()))
        self._kept.sort(key=lambda one: one[:2])

    @property
    def drawn(self) -> list[report.Drawn]:
        """The worst first."""
        return [one for _, _, one in self._kept]


def of_files(
    pairs: Sequence[Pairing], scores: Scores, table: LabelTable, *, resample: bool = False
) -> tuple[list[report.Drawn], list[str]]:
    """The worst of the cases whose scans are known, the worst first; and a remark for each that cannot be drawn."""
    rows: dict[str, list[Score]] = {}
    for row in scores.rows:
        rows.setdefault(row.case, []).append(row)
    known = [pair for pair in pairs if pair.scan is not None and pair.case in rows]
    worst = sorted(known, key=lambda pair: (_standing(rows[pair.case]), pair.case))[:MOST]
    pictures, remarks = [], []
    with progress.counting("pictures", total=len(worst)) as done:
        for pair in worst:
            try:
                pictures.append(_of_files(pair, table, resample))
            except Refusal as refusal:
                remarks.append(f"no picture of {pair.case}: {refusal}")
            done()
    return pictures, remarks


def _of_files(pair: Pairing, table: LabelTable, resample: bool) -> report.Drawn:
    assert pair.scan is not None  # others are not drawn
    scan = read(pair.scan)
    truth = load_target(pair.truth, scan, read)
    found = load_target(pair.predicted, scan, read, resample=resample)
    target = found.with_array(table.encode(found.array[0]))
    return report.drawn(report.overlay(scan, Prediction(pair.case, table, target), truth))


def _standing(rows: Sequence[Score]) -> float:
    values = [row.values.get(BY, math.nan) for row in rows]
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.inf
