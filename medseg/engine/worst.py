"""The cases that stand worst, drawn for a report while all cases stream by."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from medseg import report
from medseg.engine.scores import Score

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
        values = [row.values.get(BY, math.nan) for row in rows]
        defined = [value for value in values if not math.isnan(value)]
        place = (sum(defined) / len(defined) if defined else math.inf, case)
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
