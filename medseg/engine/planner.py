"""How the work on one scan is cut up, before a network sees any of it: what memory it takes, and which tiles are worth
a network's while."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from medseg.config import Chosen, PredictSettings
from medseg.engine import budget, plausible, tiles
from medseg.engine import device as devices
from medseg.engine.forecast import Forecast, Task
from medseg.engine.forward import forward
from medseg.engine.keep import Wanted
from medseg.engine.members import Member
from medseg.engine.memory import Limits
from medseg.engine.need import Need, measure
from medseg.engine.segment import Layout, count_tiles, tiling
from medseg.engine.skipping import over_air
from medseg.labels import LabelTable
from medseg.plan import Plan
from medseg.transforms.prepare import Slices, Undo
from medseg.volume import Volume


@dataclass(frozen=True)
class Planner:
    """What decides how the work on any scan is cut up.

    Attributes:
        model: of the recipe of the first member; the others have the same layers.
        exact: whether the allocator keeps no freed blocks at first, see `device.tune_allocator`.
    """

    members: tuple[Member, ...]
    model: Chosen
    table: LabelTable
    settings: PredictSettings
    device: torch.device
    limits: Limits
    exact: bool

    @property
    def plan(self) -> Plan:
        return self.members[0].plan

    @property
    def passes(self) -> list[tuple[int, ...]]:
        """Axes that are mirrored, of each pass; see `tiles.flips`."""
        return tiles.flips(self.settings.mirror, self.plan.orientation)

    @property
    def answers(self) -> int:
        """Of all members and mirrored passes, for each tile."""
        return len(self.members) * len(self.passes)

    @cached_property
    def need(self) -> Need:
        """Of memory, as the allocator is set at first."""
        return self._measured(exact=self.exact)

    @cached_property
    def exact_need(self) -> Need:
        """The same where it keeps no freed blocks."""
        return self._measured(exact=True)

    def _measured(self, *, exact: bool) -> Need:
        """By a forward pass of the first member."""
        network = self.members[0].network
        return measure(  # of the network itself: other back ends compile for one size of tile
            forward(network, passes=self.passes, precision=self.settings.precision, device=self.device),
            channels=self.plan.in_channels,
            tile=self.plan.patch,
            context=self.plan.context,
            divisor=self.model.module().divisor(self.model.options),
            exact=exact,
            casts=0 if self.settings.precision == "32" else sum(one.nbytes // 2 for one in network.parameters()),
            device=self.device,
        )

    def image_size(self, undo: Undo) -> int:
        """Bytes of what a member sees."""
        return 4 * self.plan.in_channels * math.prod(undo.prepared)

    def task(self, undo: Undo, wanted: Wanted) -> Task:
        """What decides how the work on a scan is cut up, before anything of it is made."""
        kept = wanted.numbers(self.table)
        channels, exclusive = self.table.network_channels, self.table.exclusive
        return Task(
            undo,
            self.plan.orientation,
            self._tiling(undo),
            self.need,
            channels,
            self.device,
            images=(self.image_size(undo),) * len(self.members),
            results=budget.result_sizes(undo, channels, exclusive=exclusive, kept=tuple(kept.values())),
            kept=kept.get("probabilities", channels if wanted.draw else 0),
            entropy="entropy" in kept,
            disputed="disagreement" in kept,
            judged=plausible.footprint(undo, self.plan.in_channels) if wanted.certainty else 0,
            several=len(self.members) > 1,
            batch=budget.most(self.settings),
        )

    def course(
        self,
        undo: Undo,
        boxes: Sequence[Slices] | None,
        wanted: Wanted,
        tell: Callable[[Forecast], None] | None = None,
    ) -> budget.Course:
        """How the work is cut up. Where there is no room for holes in memory, from here on none are left.

        Args:
            boxes, tell: see `budget.Course`.

        Raises:
            Refusal: no way to cut it up stays within the limits of memory.
        """
        task = self.task(undo, wanted)
        devices.give_back()  # what is kept of the last scan, and of measuring, would be counted twice
        if self.limits.host is None:
            roomy = budget.roomy(task, self.limits, boxes=boxes)
            if devices.tune_allocator(exact=not roomy) and not roomy:
                task = replace(task, need=self.exact_need)
        return budget.Course(task, self.limits, boxes=boxes, tell=tell)

    def worthwhile(self, scan: Volume, undo: Undo, layout: Layout) -> tuple[tiles.Tiling, dict[str, Any]]:
        """The tiles that are worth a network's while, and facts about the others."""
        places = self._tiling(undo)
        total = count_tiles(places, undo, layout)
        if not self.settings.skip_air:
            return places, {"tiles": total}
        plans = [member.plan for member in self.members]
        skipping, warning = over_air(scan, undo, plans, self.table.network_channels, exclusive=self.table.exclusive)
        if skipping and self.settings.fit_body:
            places = self._tiling(undo, skipping.box)
        places = replace(places, skipping=skipping)
        seen = count_tiles(places, undo, layout)
        return places, {
            "tiles": seen,
            "tiles skipped": max(0, total - seen),
            **({"warnings": [warning]} if warning else {}),
        }

    def of_classes(self, undo: Undo) -> tuple[int, int]:
        """Tiles of one answer of a classifier, and bytes that its work on a scan takes beside what is held already."""
        count = math.prod(len(side) for side in self._tiling(undo).corners)
        return count, self.image_size(undo) + self.need.of(self.plan.patch)

    def _tiling(self, undo: Undo, box: Sequence[slice] | None = None) -> tiles.Tiling:
        return tiling(undo.prepared, self.plan, self.settings, box)
