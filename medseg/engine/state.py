"""All that training changes, and how it is kept: in a checkpoint to go on from, and the one before it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning_fabric
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from medseg.engine import checkpoint, shard
from medseg.engine import device as devices
from medseg.refusal import Refusal

LAST, FORMER = "last.safetensors", "former.safetensors"
"""In a run folder."""


@dataclass
class Position:
    """How far training has come."""

    step: int = 0
    best: float = -1.0
    since_best: int = 0
    loss_sum: float = 0.0
    """Of the steps of the epoch so far."""
    overlap: list[float] = field(default_factory=list)
    """Likewise, of the patches of the first process; see `watch.overlaps`."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """An entry for each epoch that was dealt with: validated where it is its turn, and logged."""
    micro_batch: int = 0
    """Samples that are computed at once since memory ran out; 0: it has not."""


@dataclass
class State:
    """All that training changes. The learning rate and every draw are functions of the step and no state."""

    network: nn.Module
    """Not wrapped by the strategy."""
    optimiser: torch.optim.Optimizer
    average: AveragedModel | None
    position: Position

    @property
    def kept(self) -> nn.Module:
        """What is validated, and saved if it is the best: the average, if there is one."""
        return self.average.module if self.average else self.network

    def averaged(self) -> None:
        """Let the average follow the weights."""
        if self.average:
            self.average.update_parameters(self.network)
            _copy_whole_numbers(self.network, self.average.module)


def average(network: nn.Module, decay: float) -> AveragedModel | None:
    """Moving average of the weights, and of the statistics of batch normalisation."""
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True) if decay else None


def _copy_whole_numbers(network: nn.Module, average: nn.Module) -> None:
    """Tables of indices and counters have no average: one would be cut off to other whole numbers."""
    for own, kept in zip(network.buffers(), average.buffers(), strict=True):
        if not own.is_floating_point():
            kept.copy_(own)


def started(folder: Path) -> bool:
    """Whether a run folder holds something to go on from."""
    return any((folder / name).exists() for name in (LAST, FORMER))


class Keeper:
    """Saves the state of a run, and knows when it last did.

    Args:
        minutes: after which it is due again; 0 = never.
        data: a digest of the prepared cases.
    """

    def __init__(self, folder: Path, fabric: lightning_fabric.Fabric, *, minutes: float, data: str):
        self._folder, self._fabric, self._data = folder, fabric, data
        self._seconds = 60 * minutes or float("inf")
        self._saved = time.monotonic()

    def due(self) -> bool:
        """By this process's clock, so that several must agree."""
        return time.monotonic() - self._saved >= self._seconds

    def save(self, state: State) -> None:
        """Write a checkpoint and keep the former one. All processes must call it together, and all return when it is
        written.

        Raises:
            Refusal: the disk is full; what was saved before is intact.
        """
        moments, numbers = checkpoint.optimiser_tensors(state.optimiser)
        tensors = {f"network.{name}": value for name, value in state.network.state_dict().items()}
        tensors |= {f"optimiser.{name}": value for name, value in moments.items()}
        if state.average:
            tensors |= {f"average.{name}": value for name, value in state.average.state_dict().items()}
        tensors = shard.whole(tensors)
        if self._fabric.is_global_zero:
            facts = {
                "position": vars(state.position),
                "optimiser": numbers,
                "scaler": _scaler_state(self._fabric),
                "processes": self._fabric.world_size,
                "computed_by": devices.repeating(self._fabric.device),
                "data": self._data,
            }
            checkpoint.save(self._folder / LAST, tensors, facts, former=self._folder / FORMER)
        self._fabric.barrier()  # a process that ended sooner would have the launcher kill the one that writes
        self._saved = time.monotonic()

    def restore(self, state: State, announce: Callable[[str], None]) -> None:
        """Make `state` what it was when it was saved.

        Raises:
            Refusal: no checkpoint is whole, or it is of another number of processes.
        """
        processes = self._fabric.world_size
        with self._fabric.rank_zero_first():  # which puts the former one in place of a damaged one
            tensors, facts = checkpoint.latest(self._folder / LAST, self._folder / FORMER, announce)
        if facts["processes"] != processes:
            raise Refusal(
                self._folder,
                found=f"a run of {facts['processes']} processes, and {processes} now",
                needed="as many: they decide which samples a step sees",
                remedy="start it as it was started before",
            )
        part = {
            name: {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
            for name in ("network", "optimiser", "average")
        }
        shard.fill(state.network, part["network"])
        moments = shard.moments(state.optimiser, part["optimiser"])
        checkpoint.restore_optimiser(state.optimiser, moments, facts["optimiser"])
        if state.average:
            state.average.load_state_dict(part["average"])
        if facts["scaler"]:
            self._fabric.strategy.precision.load_state_dict(facts["scaler"])
        state.position = Position(**facts["position"])
        if facts.get("data", self._data) != self._data:
            announce(
                "images, label maps or how they are prepared have changed since; training goes on with the new ones"
            )
        if changed := _changed(facts.get("computed_by", {}), devices.repeating(self._fabric.device)):
            announce(f"{changed}: from here on, the last bits are not those of a run that was never stopped")


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What computes otherwise than before, for people; nothing of what is not known of both."""
    return ", ".join(
        f"{name} {now[name]}, not {before[name]}" for name in before if now.get(name, before[name]) != before[name]
    )


def _scaler_state(fabric: lightning_fabric.Fabric) -> dict[str, Any]:
    """Loss scale of float16 training; nothing otherwise."""
    return dict(fabric.strategy.precision.state_dict())
