"""Which maps of a scan are kept beside its labels, and what that takes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from medseg import scratch
from medseg.labels import LabelTable
from medseg.refusal import Refusal
from medseg.transforms.kept import UNCERTAINTY, Certainty, Draw, Kept
from medseg.transforms.prepare import Undo

MAPS = ("probabilities", *UNCERTAINTY)


@dataclass(frozen=True, eq=False)
class Wanted:
    """Maps by name, scores of single voxels, and what probabilities promise; see `transforms.kept.Kept`."""

    maps: frozenset[str] = frozenset()
    draw: Draw | None = None
    certainty: bool = False

    @classmethod
    def of(cls, maps: Collection[str], draw: Draw | None, *, certainty: bool, answers: int) -> Wanted:
        """
        Args:
            answers: of all members and mirrored passes.

        Raises:
            Refusal: no such map, or the disagreement of a single answer.
        """
        unknown = sorted(set(maps) - set(MAPS))
        if unknown:
            raise Refusal("maps", found=unknown[0], needed=f"some of {', '.join(MAPS)}", remedy="choose among these")
        if "disagreement" in maps and answers < 2:
            raise Refusal(
                "disagreement",
                found="a single network and no mirrored passes: one answer",
                needed="several answers that can disagree",
                remedy="predict with the folds of a cross-validation (--with RUN), or mirrored: --quality best, or "
                "--set 'mirror=[anterior-posterior]'",
            )
        return cls(frozenset(maps), draw, certainty)

    def numbers(self, table: LabelTable) -> dict[str, int]:
        """Of each map, numbers of four bytes a voxel."""
        return {name: len(table.labels) if name == "probabilities" else 1 for name in MAPS if name in self.maps}

    def arrays(self, table: LabelTable, undo: Undo, axis: int, temperature: float) -> Kept:
        """Where they go; they will be filled along a canonical axis."""
        slowest = undo.permutation[axis]
        made = {
            name: scratch.zeros((numbers, *undo.shape), np.float32, slowest=slowest)
            for name, numbers in self.numbers(table).items()
        }
        certainty = self.draw.certainty if self.draw else None
        if self.certainty and certainty is None:
            certainty = Certainty(table.network_channels, exclusive=table.exclusive)
        return Kept(**made, temperature=temperature, draw=self.draw, certainty=certainty)
