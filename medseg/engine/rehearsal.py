"""How much memory a training step takes, found by doing some; and the largest plan whose steps fit.

A step is a line of two things that are known before: what stays (weights, their average, the optimiser's state,
gradients), and what the network keeps of its samples for the backward pass, which a pass over shapes counts for any
patch. By how much reality exceeds that count (losses, gradients of activations, workspaces, the allocator) differs
between networks, losses, precisions and devices, and hardly with the patch: so a real step of moderate size tells it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from medseg import progress
from medseg.config import Recipe
from medseg.engine import device as devices
from medseg.engine import footprint, memory
from medseg.engine.memory import GIB, MIB, text
from medseg.engine.need import Need
from medseg.engine.step import at_once
from medseg.engine.trial import Peaks, Trial, measurable
from medseg.labels import LabelTable
from medseg.plan import Plan, Sizes, StepMemory

SAMPLE = {"cpu": 192 * MIB, "cuda": GIB}
"""Bytes, as counted, of the step that is tried: about a second on two cores. Below, what libraries take whatever the
patch is hides what grows with it."""
PART = 1 / 8
"""Of the limit: no more is tried at first, for it may be twice that, and take three times what is counted."""
SMALL = 32
"""Sides with which the search for it begins, or the next number that the network takes."""
USUAL = 1.5
"""Reality over count, where no step can be tried."""
MARGIN = {"cpu": 1.4, "cuda": 1.0}
"""On what is foretold of a larger step than was tried. On a GPU, the plan itself is tried in the end."""
LEAST = 0.5
"""Reality over count, where large weights hide it."""
BEYOND = 1.3
"""How much of its limit a step is taken to need that ran out of memory."""


@dataclass(frozen=True)
class Taken:
    """Bytes of a step: all, and of these what does not grow with the samples."""

    total: float
    fixed: float
    how: Literal["measured", "foretold", "estimated"]


def limit(recipe: Recipe) -> float:
    """Bytes that a step may take: what the recipe says, or a share of what there is on the device that trains."""
    wanted = recipe.prepare.memory_gib
    return memory.of_a_step(devices.choose(recipe.train.device)) if wanted == "auto" else wanted * GIB


def largest(
    recipe: Recipe,
    table: LabelTable,
    make: Callable[[Need], Plan],
    *,
    limit: float,
    announce: Callable[[str], None],
) -> Plan:
    """The largest plan whose training steps fit into memory. Where a recipe has both patch and batch, nothing is tried,
    and the plan is said to be too large if it seems to be.

    Args:
        make: the plan for what a step takes; `Need(0, 0)` gives the one that the data would have.
        limit: bytes that it may take.

    Raises:
        Refusal: the smallest does not fit, or the network is made for other patches.
    """
    device = devices.choose(recipe.train.device)
    pinned = "auto" not in (recipe.prepare.patch, recipe.prepare.batch)
    wished = plan = make(Need(0, 0))
    with Rehearsal(recipe, table, plan, device=device, limit=limit, wanted=not pinned) as rehearsal:
        taken = rehearsal.of(plan)
        while taken.total > limit and not pinned:
            voxels = math.prod(plan.patch) * plan.batch
            smaller = make(Need(taken.fixed, max(1.0, taken.total - taken.fixed) / voxels))
            if smaller == plan:  # the recipe leaves no choice
                break
            plan, taken = smaller, rehearsal.of(smaller)
    name = devices.described(device)["name"]
    about = "" if taken.how == "measured" else "about "
    announce(f"plan: a step takes {about}{text(taken.total)} of {text(limit)} ({taken.how}, {name})")
    if hint := _hint(recipe, wished, plan, too_large=taken.total > limit):
        announce(hint)
    found = StepMemory(gib=round(taken.total / GIB, 3), limit_gib=round(limit / GIB, 3), how=taken.how, device=name)
    return plan.model_copy(update={"step_memory": found})


def _hint(recipe: Recipe, wished: Plan, plan: Plan, *, too_large: bool) -> str | None:
    """What to do about it, where memory is what limits the plan."""
    options = recipe.model.options
    saving = next((name for name in ("checkpointing", "use_checkpoint") if getattr(options, name, True) is False), None)
    fewer = at_once(recipe.train, plan.batch) // 2
    ways = [f"train.micro_batch={fewer}"] * (too_large and fewer > 0)
    ways += [f"model.{saving}=true"] if saving else []
    if too_large:
        return f"plan: it may not fit; {' or '.join([*ways, 'a smaller prepare.patch'])} takes less"
    if plan.patch != wished.patch and saving:
        return f"plan: memory limits the patch, which could be {wished.patch}; with {ways[-1]} a step takes less"
    return None


class Rehearsal:
    """Steps of a recipe on made-up data. A context manager, because the network is in memory within it.

    Args:
        plan: any; it tells the channels.
        limit: bytes above which a step is not tried.
        wanted: whether steps are done at all; else all is estimated.
    """

    def __init__(
        self, recipe: Recipe, table: LabelTable, plan: Plan, *, device: torch.device, limit: float, wanted: bool
    ):
        self._recipe, self._table, self._plan, self._device, self._limit = recipe, table, plan, device, limit
        self._wanted = wanted and not recipe.train.shard and measurable(device, recipe.train.precision)
        self._sample = min(SAMPLE.get(device.type, 0), PART * limit)
        self._trial: Trial | None = None
        self._tried: dict[tuple[Sizes, int], Peaks] = {}
        self._factor = USUAL if recipe.train.precision == "32" else USUAL / 2
        self._fixed, self._update = self._estimated_fixed(), 0.0

    def __enter__(self) -> Rehearsal:
        return self

    def __exit__(self, *error: object) -> None:
        self._trial = None
        if self._wanted:
            devices.give_back(after_error=True)

    def of(self, plan: Plan) -> Taken:
        """What a step of a plan takes.

        Raises:
            Refusal: the network's own.
        """
        counted = self._count(plan)
        if self._wanted and self._trial is None:
            self._begin(plan)
        if self._trial is None:
            return Taken(self._fixed + self._factor * counted, self._fixed, "estimated")
        grows = MARGIN[self._device.type] * self._factor * counted
        foretold = max(self._fixed + grows, self._update)
        samples = at_once(self._recipe.train, plan.batch)
        peaks = self._tried.get((plan.patch, samples))
        if peaks is None and self._device.type == "cuda" and foretold <= self._limit:
            peaks = self._trial.peaks(footprint.sides(self._recipe, plan), samples)
            if peaks is None:
                return Taken(max(foretold, BEYOND * self._limit), self._fixed, "foretold")
        if peaks is None:
            return Taken(foretold, self._fixed, "foretold")
        return Taken(max(peaks) + self._buckets(), self._fixed, "measured")

    def _count(self, plan: Plan) -> float:
        one = footprint.kept(self._recipe, plan, out_channels=self._table.network_channels)
        return one * at_once(self._recipe.train, plan.batch)

    def _begin(self, plan: Plan) -> None:
        """Do two moderate steps: the first makes what stays, the second tells by how much the count is wrong."""
        small = self._small(plan)
        sides, samples = footprint.sides(self._recipe, small), at_once(self._recipe.train, small.batch)
        with progress.counting("measuring the memory of a step", total=2) as done:
            trial = Trial(self._recipe, self._table, self._plan, self._device)
            first = trial.peaks(sides, samples)
            done()
            held = trial.held()
            second = first and trial.peaks(sides, samples)
            done()
        if second is None:
            self._wanted = False
            return
        self._trial, alone = trial, held + trial.gradients()
        self._fixed, self._update = alone + self._buckets(), second.update + self._buckets()
        self._tried[small.patch, samples] = second
        self._factor = max(LEAST, (second.gradient - alone) / self._count(small))

    def _small(self, plan: Plan) -> Plan:
        """A plan of as much as shall be tried, or this one, which is smaller."""
        divisor = self._recipe.model.module().divisor(self._recipe.model.options)
        first, second, third = (
            min(side, one * -(-SMALL // one)) for side, one in zip(plan.patch, divisor, strict=True)
        )
        sides = [first, second, third]
        while True:
            small = plan.model_copy(update={"patch": tuple(sides), "batch": min(plan.batch, footprint.BATCH)})
            counted = self._count(small)
            whole = tuple(sides) == plan.patch
            if whole or counted >= self._sample:
                break
            axis = min(range(3), key=lambda axis: sides[axis] / plan.patch[axis])
            sides[axis] = min(2 * sides[axis], plan.patch[axis])
        more = math.ceil(self._sample / counted) if whole else 1
        return small.model_copy(update={"batch": min(plan.batch, small.batch * more)})

    def _estimated_fixed(self) -> float:
        """Weights and gradients, state of the optimiser, average."""
        settings = self._recipe.train
        network, _ = footprint.example(self._recipe, self._plan, out_channels=self._table.network_channels)
        copies = 2 + (2 if settings.optimiser == "adamw" else settings.momentum > 0) + (settings.ema > 0)
        size = sum(weight.nbytes for weight in network.parameters())
        return copies * size / (settings.devices if settings.shard else 1)

    def _buckets(self) -> float:
        """Gradients are sent round between several devices in a copy."""
        return self._trial.gradients() if self._trial and self._recipe.train.devices > 1 else 0.0
