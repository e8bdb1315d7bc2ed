"""`Pair`: two masks of one structure in one case, and what several metrics want of them, computed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import cc3d
import numpy as np

from medseg import surface
from medseg.surface import Distances, Flat, Kind


class Voxels(NamedTuple):
    """How many there are in the truth, in the prediction, and in both."""

    truth: int
    predicted: int
    both: int


class Parts(NamedTuple):
    """Connected components of a mask: (I, J, K) of their numbers from 1, and how many there are."""

    numbers: np.ndarray
    total: int


@dataclass(frozen=True, eq=False)
class Pair:
    """Two masks of one structure.

    Attributes:
        truth, predicted: boolean (I, J, K), cut to the smallest box around both, which does not change any metric.
        spacing_mm: (3,) voxel size along I, J, K; of a photograph, pixels.
        flat: axes along which the whole image has one voxel, so that there are no neighbours.
        label: name of the structure.
        unit: "px" for photographs.
    """

    truth: np.ndarray
    predicted: np.ndarray
    spacing_mm: np.ndarray
    flat: Flat = (False, False, False)
    label: str = ""
    unit: Literal["mm", "px"] = "mm"

    @classmethod
    def of(
        cls,
        truth: np.ndarray,
        predicted: np.ndarray,
        *,
        spacing_mm: np.ndarray,
        label: str = "",
        unit: Literal["mm", "px"] = "mm",
    ) -> Pair:
        """From boolean masks (I, J, K) of a whole image."""
        flat = tuple(size == 1 for size in truth.shape)
        box = _box(truth | predicted)
        return cls(truth[box], predicted[box], np.asarray(spacing_mm, np.float64), flat, label, unit)

    @cached_property
    def voxels(self) -> Voxels:
        masks = self.truth, self.predicted, self.truth & self.predicted
        return Voxels(*(int(np.count_nonzero(mask)) for mask in masks))

    @property
    def empty(self) -> Literal["both", "one", "none"]:
        """Which of the masks hold nothing."""
        if self.voxels.truth and self.voxels.predicted:
            return "none"
        return "one" if self.voxels.truth or self.voxels.predicted else "both"

    @property
    def voxel_ml(self) -> float:
        return float(np.prod(self.spacing_mm)) / 1000

    def distances(self, kind: Kind) -> Distances:
        """Between the two surfaces, in mm; both masks must hold something."""
        if kind not in self._distances:
            self._distances[kind] = surface.distances(
                self.truth, self.predicted, self.spacing_mm, flat=self.flat, kind=kind
            )
        return self._distances[kind]

    @cached_property
    def _distances(self) -> dict[Kind, Distances]:
        return {}

    @cached_property
    def components(self) -> tuple[Parts, Parts]:
        """Of the truth and of the prediction, by all 26 neighbours (8 in a flat image)."""
        truth, predicted = (_parts(mask) for mask in (self.truth, self.predicted))
        return truth, predicted


def _parts(mask: np.ndarray) -> Parts:
    # a rim, without which cc3d reserves too little for lines of voxels (1 0 1) and fails
    numbers, total = cc3d.connected_components(np.pad(mask, 1), connectivity=26, return_N=True)
    return Parts(numbers[1:-1, 1:-1, 1:-1], int(total))


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """Smallest box around what is there; nothing has an empty one."""
    box = []
    for axis in range(3):
        occupied = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1) if len(occupied) else slice(0, 0))
    return tuple(box)
