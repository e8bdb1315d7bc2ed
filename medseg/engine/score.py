"""`Score`: the numbers of one label in one case."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """What metrics say of one label in one case.

    Attributes:
        values: numbers by name; nan = undefined, inf = a distance to nothing.
        voxels: of the label in the truth and in the prediction.
        voxel_ml: nan for photographs, which have no size in millimetres.
    """

    case: str
    patient: str
    label: str
    values: dict[str, float]
    voxels: tuple[int, int] = (0, 0)
    voxel_ml: float = math.nan

    @property
    def size(self) -> float:
        """In the truth, in `size_unit`."""
        return self.voxels[0] * (self.voxel_ml if self.size_unit == "ml" else 1)

    @property
    def size_unit(self) -> str:
        return "px" if math.isnan(self.voxel_ml) else "ml"
