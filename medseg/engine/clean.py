"""What becomes of a network's labels before anybody sees them: unwanted ones go, and the recipe's steps are applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medseg.config import Chosen
from medseg.engine import region, stages
from medseg.labels import LabelTable
from medseg.refusal import Refusal
from medseg.transforms import photograph
from medseg.transforms.kept import Kept
from medseg.volume import Volume


@dataclass(frozen=True)
class Clean:
    """
    Attributes:
        wanted: labels that are kept; empty: all.
        photographs: what the network says of the darkness around a photograph means nothing.
        steps: of the recipe.
    """

    table: LabelTable
    wanted: Sequence[str]
    photographs: bool
    steps: Sequence[Chosen]

    def up(self, target: np.ndarray, kept: Kept, scan: Volume, valid: np.ndarray | None) -> np.ndarray:
        """The labels of a scan; maps are changed in place.

        Raises:
            Refusal: a step needs millimetres, and the scan has none.
        """
        if self.wanted:
            with stages.stage("clean-up"):
                region.keep(target, kept.probabilities, self.table, self.wanted)
        if self.photographs:
            with stages.stage("clean-up"):
                inside = photograph.enhanced_part(photograph.lit(scan.array) if valid is None else valid)
                target = target * inside
                for one in kept.maps.values():
                    one *= inside
        for step in self.steps:
            if scan.unit != "mm" and step.module().NEEDS_MM:
                raise Refusal(
                    scan.source.path,
                    found="an image without a physical size",
                    needed=f"millimetres for the clean-up step {step.name}",
                    remedy="leave that step out of the recipe",
                )
            with stages.stage("clean-up"):
                target = step.module().apply(target, table=self.table, spacing_mm=scan.spacing_mm, options=step.options)
        return target
