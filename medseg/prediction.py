"""`Prediction`: what the engine hands to outputs, metrics and report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from medseg.labels import LabelTable
from medseg.volume import Volume


@dataclass(frozen=True, eq=False)
class Prediction:
    """Labels of one case on the grid of its scan.

    Attributes:
        case: id of the case.
        table: what the classes mean.
        target: coded as `LabelTable.encode` does: (1, I, J, K) class numbers, or (R, I, J, K) of 0 and 1. Its affine
            and source are those of the scan, so outputs can refer to the original instances.
        provenance: model name, weights' sha256, software version, ... as text.
    """

    case: str
    table: LabelTable
    target: Volume
    provenance: Mapping[str, str] = field(default_factory=dict)

    def painted(self) -> Volume:
        """Label map (1, I, J, K) with the numbers of the table."""
        return self.target.with_array(self.table.paint(self.target.array)[None])

    def mask(self, position: int) -> np.ndarray:
        """Boolean (I, J, K) of `table.labels[position]`."""
        return self.table.mask(self.target.array, position)
