"""The measure that weights are chosen by, of all validation cases, by all processes of a training together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lightning_fabric
import torch
from torch import nn

from medseg.config import PredictSettings
from medseg.data.cache import PreparedCase
from medseg.data.split import Split
from medseg.engine import validate
from medseg.labels import LabelTable
from medseg.plan import Plan


@dataclass(frozen=True)
class HeldOut:
    """Validation cases and how they are measured.

    Attributes:
        settings: of prediction.
        together: a divided network computes only where all processes do, so each looks at all cases; otherwise each
            takes its share.
        slices: given when slices of one case stand on both sides of the split.
    """

    cases: Sequence[PreparedCase]
    plan: Plan
    table: LabelTable
    settings: PredictSettings
    together: bool
    slices: Split | None

    def measure(
        self, network: nn.Module, fabric: lightning_fabric.Fabric, *, show: validate.Show
    ) -> tuple[float, list[float]]:
        """Mean Dice (or AUROC) and that of each label, nan where undefined: the same numbers in every process. All must
        call it together.

        Args:
            show: see `validate.dice_sums`; called by one process for each case.
        """
        share = self.cases if self.together else self.cases[fabric.global_rank :: fabric.world_size]
        if validate.measure(self.table) == "dice":
            seen = show if fabric.is_global_zero or not self.together else None
            return self._dice(network, fabric, share, seen)
        return self._auroc(network, fabric, share)

    def _dice(
        self,
        network: nn.Module,
        fabric: lightning_fabric.Fabric,
        share: Sequence[PreparedCase],
        show: validate.Show | None,
    ) -> tuple[float, list[float]]:
        sums = validate.dice_sums(network, share, **self._how(fabric), show=show)
        if self.together:  # batch statistics differ between processes, and all must decide alike
            return validate.mean_dice(fabric.broadcast(sums))
        return validate.mean_dice(fabric.all_reduce(sums.float(), reduce_op="sum"))

    def _auroc(
        self, network: nn.Module, fabric: lightning_fabric.Fabric, share: Sequence[PreparedCase]
    ) -> tuple[float, list[float]]:
        """AUROC is no mean over cases: what was found is gathered, and measured at once."""
        told = validate.class_scores(network, share, **self._how(fabric))
        if self.together:
            told = fabric.broadcast(told)
        elif fabric.world_size > 1:
            parts: list[list[validate.Told]] = [[]] * fabric.world_size
            torch.distributed.all_gather_object(parts, told)
            told = [one for part in parts for one in part]
        values = validate.aurocs(told)
        defined = [value for value in values if not math.isnan(value)]
        return (sum(defined) / len(defined) if defined else math.nan), values

    def _how(self, fabric: lightning_fabric.Fabric) -> dict[str, Any]:
        """What both measures are told."""
        return {
            "plan": self.plan,
            "table": self.table,
            "settings": self.settings,
            "device": fabric.device,
            "split": self.slices,
        }
