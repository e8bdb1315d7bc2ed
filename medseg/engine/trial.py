"""Training steps on made-up data, done for the memory that they take."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from medseg.config import Recipe
from medseg.engine import device as devices
from medseg.engine import groups, memory, schedule, stages
from medseg.engine.memory import MIB
from medseg.engine.networks import answers
from medseg.engine.run import build_loss, build_network
from medseg.engine.state import Position, State, average
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
    """Network, loss and optimiser of a recipe, and how much memory they take above what was there before it."""

    def __init__(self, recipe: Recipe, table: LabelTable, plan: Plan, device: torch.device):
        if device.type == "cpu":
            devices.tune_allocator()
        devices.give_back()
        self._device, self._before = device, self._now(device)
        self._recipe, self._table, self._channels = recipe, table, plan.in_channels
        network = build_network(recipe, plan, table).to(device)
        groups.freeze(network, recipe, lambda text: None)
        optimiser = schedule.optimiser(groups.trained(network, recipe, plan, table), recipe.train)
        self._state = State(network, optimiser, average(network, recipe.train.ema), Position())
        self._loss = build_loss(recipe, plan, table)

    def held(self) -> float:
        """Bytes that stay between steps."""
        devices.give_back()
        return self._now(self._device) - self._before

    def gradients(self) -> float:
        return sum(weight.nbytes for weight in self._state.network.parameters() if weight.requires_grad)

    def peaks(self, sides: Sizes, samples: int) -> Peaks | None:
        """The most bytes that a step takes; None: more than there is."""
        try:
            gradient = self._peak(lambda: self._gradient(sides, samples))
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

    def _gradient(self, sides: Sizes, samples: int) -> None:
        settings, network = self._recipe.train, self._state.network
        groups.hold(network.train(), settings.freeze)
        images = torch.randn((samples, self._channels, *sides), device=self._device)
        with devices.autocast(self._device, settings.precision):
            outputs = answers(network(images))
        outputs = [output.float() for output in outputs]
        self._loss(outputs, self._target(outputs[0])).backward()

    def _update(self) -> None:
        nn.utils.clip_grad_norm_(self._state.network.parameters(), self._recipe.train.clip_norm)
        self._state.optimiser.step()
        self._state.averaged()

    def _target(self, output: Tensor) -> Tensor:
        """Labels by chance: (B, 1, i, j, k) where they exclude each other, else (B, R, i, j, k)."""
        exclusive, channels = self._table.exclusive, output.shape[1]
        shape = (len(output), 1 if exclusive else channels, *output.shape[2:])
        return torch.randint(channels if exclusive else 2, shape, dtype=torch.int32, device=self._device)

    @staticmethod
    def _now(device: torch.device) -> float:
        return torch.cuda.memory_reserved(device) if device.type == "cuda" else memory.resident()
