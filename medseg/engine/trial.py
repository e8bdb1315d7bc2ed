"""Training steps on made-up data, done for the memory that they take."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import lightning_fabric
import torch
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor

from medseg.config import Recipe
from medseg.engine import device as devices
from medseg.engine import groups, memory, stages, step
from medseg.engine.memory import MIB
from medseg.engine.run import build_loss, build_network
from medseg.labels import LabelTable
from medseg.plan import Plan, Sizes


def measurable(device: torch.device, precision: str) -> bool:
    """Whether peaks can be measured there, and the steps be done."""
    if device.type == "cuda":
        return True
    return device.type == "cpu" and (precision == "32" or devices.has_bf16(device)) and stages.forget_peak()


class Peaks(NamedTuple):
    """Bytes that the two parts of a step take at most; the second is the same for all patches."""

    gradient: float
    update: float


class Trial:
    """What a recipe's training steps are made of, and how much memory these take above what was there before it. The
    compiler, which needs minutes and saves memory, is left out."""

    def __init__(self, recipe: Recipe, table: LabelTable, plan: Plan, device: torch.device):
        if device.type == "cpu":
            devices.tune_allocator()
        devices.give_back()
        self._device, self._before = device, self._now(device)
        eager = recipe.train.model_copy(update={"compile": False, "shard": False})
        self._recipe, self._table, self._plan = recipe.model_copy(update={"train": eager}), table, plan
        network = build_network(recipe, plan, table)
        groups.freeze(network, recipe, _say_nothing)
        loss = build_loss(recipe, plan, table)
        self._gradient, self._state = step.set_up(
            _fabric(device, eager.precision), network, loss, self._recipe, plan, table, _say_nothing
        )

    def held(self) -> float:
        """Bytes that stay between steps."""
        devices.give_back()
        return self._now(self._device) - self._before

    def gradients(self) -> float:
        return sum(weight.nbytes for weight in self._state.network.parameters() if weight.requires_grad)

    def peaks(self, sides: Sizes, samples: int) -> Peaks | None:
        """The most bytes that a step takes; None: more than there is."""
        try:
            gradient = self._peak(lambda: self._learn(sides, samples))
            found = Peaks(gradient, self._peak(self._update))
        except (RuntimeError, MemoryError) as error:
            if not memory.ran_out(error):
                raise
            found = None
        self._state.optimiser.zero_grad(set_to_none=True)
        if found is None:
            devices.give_back(after_error=True)
        return found

    def _peak(self, work: Callable[[], None]) -> float:
        """With the holes between blocks that a GPU's allocator has."""
        devices.give_back()
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            work()
            return torch.cuda.max_memory_reserved(self._device) - self._before
        stages.forget_peak()
        work()
        return (stages.peak_mib() or 0.0) * MIB - self._before

    def _learn(self, sides: Sizes, samples: int) -> None:
        computing = self._gradient.computing
        computing.whole.train()
        groups.hold(computing.network, self._recipe.train.freeze)
        images = torch.randn((samples, self._plan.in_channels, *sides), device=self._device)
        self._gradient.once((images, self._targets(sides, samples), ()), at_once=samples)

    def _update(self) -> None:
        whole, limit = self._gradient.computing.whole, self._recipe.train.clip_norm
        self._gradient.fabric.clip_gradients(whole, self._state.optimiser, max_norm=limit, error_if_nonfinite=False)
        self._state.optimiser.step()
        self._state.averaged()

    def _targets(self, sides: Sizes, samples: int) -> Tensor:
        """Labels by chance, (B, 1, i, j, k) where they exclude each other, else (B, R, i, j, k); of classes, one for an
        image or slice. Slices of context have none."""
        count, exclusive = self._table.network_channels, self._table.exclusive
        places = (*sides[:2], sides[2] - 2 * self._plan.context) if self._table.unit == "voxel" else (1, 1, 1)
        shape = (samples, 1 if exclusive else count, *places)
        return torch.randint(count if exclusive else 2, shape, dtype=torch.int32, device=self._device)

    @staticmethod
    def _now(device: torch.device) -> float:
        return torch.cuda.memory_reserved(device) if device.type == "cuda" else memory.resident()


def _fabric(device: torch.device, precision: str) -> lightning_fabric.Fabric:
    """Of one device. Losses in float16 have no scale: where it is too high, a step is passed over, and the first one is
    to make what stays."""
    scaler = torch.amp.GradScaler(device.type, enabled=False) if precision == "16" else None
    mixed = [] if precision == "32" else [MixedPrecision(step.PRECISIONS[precision], device.type, scaler)]
    return lightning_fabric.Fabric(accelerator=device.type, devices=1, plugins=mixed)


def _say_nothing(text: str) -> None:
    pass
