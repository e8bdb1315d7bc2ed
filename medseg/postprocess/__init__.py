"""Clean-up of predicted labels: one file a step with `Options` and `apply`; here is what they share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from medseg.labels import LabelTable
from medseg.plugins import nearest
from medseg.refusal import Refusal


def channels(target: np.ndarray, table: LabelTable, labels: tuple[str, ...]) -> Iterator[tuple[np.ndarray, list[int]]]:
    """The channels (I, J, K) of a network target (see `LabelTable.encode`) that hold labels, and the labels' values in
    them, in the order of their names.

    Args:
        labels: names; empty for all.

    Raises:
        Refusal: a name that is not in the table.
    """
    for name in labels:
        if name not in table.names:
            raise Refusal(
                f"postprocess label {name}",
                found=f"'{name}'",
                needed="the name of a label of this task",
                remedy=nearest(name, table.names),
            )
    positions = [table.names.index(name) for name in labels or table.names]
    if table.exclusive:
        yield target[0], [position + 1 for position in positions]
    else:
        yield from ((target[position], [1]) for position in positions)
