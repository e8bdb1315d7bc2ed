"""The training loop, top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import lightning_fabric
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from medseg import interrupts
from medseg.config import Recipe, TrainSettings
from medseg.data.cache import PreparedCase
from medseg.data.split import Split
from medseg.engine import (
    checkpoint,
    curriculum,
    epoch,
    groups,
    journal,
    loggers,
    schedule,
    shard,
    step,
    validate,
    watch,
)
from medseg.engine import device as devices
from medseg.engine.batches import Batches, count_workers, numbers
from medseg.engine.display import TrainingDisplay
from medseg.engine.held_out import HeldOut
from medseg.engine.run import Run
from medseg.engine.samples import Samples
from medseg.engine.state import Keeper, Position, State, started
from medseg.interrupts import Interrupted
from medseg.labels import LabelTable
from medseg.losses import Loss
from medseg.plan import Plan
from medseg.refusal import Refusal


@dataclass(frozen=True)
class Parts:
    """What the loop needs, built and handed in."""

    recipe: Recipe
    plan: Plan
    table: LabelTable
    run: Run
    network: nn.Module
    loss: Loss
    samples: Samples
    validation: Sequence[PreparedCase]
    announce: Callable[[str], None]
    data: str = ""
    """A digest of the prepared cases."""
    slices: Split | None = None
    """Given when slices of one case stand on both sides of the split."""


def fit(parts: Parts, fabric: lightning_fabric.Fabric) -> Position:
    """Train until the last epoch, an early stop or an interrupt.

    Every draw depends on (seed, step, sample) alone and the learning rate on the step alone, so a run that was killed
    and resumed from its last checkpoint goes on exactly as if it had not been, wherever in an epoch that was.

    Raises:
        Interrupted: one of `interrupts.SIGNALS` arrived, and the state is saved; or another process tells why.
        Refusal: the loss is not a number any more, or disk or memory are full. The last good state is kept.
    """
    settings = parts.recipe.train
    gradient, state = step.set_up(
        fabric, parts.network, parts.loss, parts.recipe, parts.plan, parts.table, parts.announce
    )
    keeper = Keeper(parts.run.folder, fabric, minutes=settings.save_minutes, data=parts.data)
    total = settings.epochs * settings.steps
    if started(parts.run.folder):
        keeper.restore(state, parts.announce)
        parts.announce(_where(state.position, total, settings.patience))
    position = state.position
    batches = _batches(parts, fabric, position.step, total)
    measure = validate.measure(parts.table)
    display = TrainingDisplay(
        measure,
        epochs=settings.epochs,
        steps=settings.steps,
        done_steps=position.step,
        shown=fabric.is_global_zero,
    )
    _say_what_mixes(parts, fabric, position)
    begun = time.monotonic() - (position.history[-1]["seconds"] if position.history else 0)
    with (
        loggers.opened(
            parts.run,
            settings.loggers if fabric.is_global_zero else (),
            done=len(position.history),
            announce=parts.announce,
        ) as listeners,
        display,
        interrupts.requests() as asked,
        batches,
    ):
        while True:
            if position.step // settings.steps > len(position.history):  # also where a run was stopped just before
                pace = batches.pace()
                entry = _end_of_epoch(parts, fabric, state)
                entry |= epoch.speed(parts, fabric, pace)
                entry["seconds"] = round(time.monotonic() - begun, 1)
                display.epoch(entry["epoch"], entry["loss"], entry.get(measure), position.best, pace)
                if fabric.is_global_zero:
                    journal.log(parts.run, position.history)
                    if complaint := batches.complaint(pace):
                        parts.announce(complaint)
                    epoch.tell(parts, position.history, listeners)
                if entry["epoch"] % settings.save_every == 0 or _over(position, settings):
                    keeper.save(state)
            if _over(position, settings):
                return position
            value, stop, due = _step(parts, gradient, state, batches, lambda: (asked(), keeper.due()))
            display.step(value)
            if stop or due:
                keeper.save(state)
            if stop:
                raise Interrupted(stop)


def _step(
    parts: Parts,
    gradient: step.Gradient,
    state: State,
    batches: Batches,
    requests: Callable[[], tuple[int, bool]],
) -> tuple[float, int, bool]:
    """One optimiser step: its loss, the signal that asks to stop (0: none), and whether a checkpoint is due; all
    processes answer alike."""
    settings, position, optimiser, fabric = parts.recipe.train, state.position, state.optimiser, gradient.fabric
    for group in optimiser.param_groups:
        group["lr"] = schedule.learning_rate(position.step, settings) * group["scale"]
    computing, samples = gradient.computing, next(batches)
    computing.whole.train()
    groups.hold(computing.network, settings.freeze)
    wanted = _at_once(parts, position)
    chance = (parts.recipe.seed * 1_000_003 + position.step) * fabric.world_size + fabric.global_rank
    chance %= 2**63  # torch takes no larger ones, and somebody's seed is the time in nanoseconds
    losses, fits, at_once = gradient.of(samples, at_once=wanted, seed=chance, where=f"training step {position.step}")
    if at_once < wanted:
        position.micro_batch = at_once
        _say_what_mixes(parts, fabric, position)
    norm = fabric.clip_gradients(computing.whole, optimiser, max_norm=settings.clip_norm, error_if_nonfinite=False)
    facts = torch.cat((torch.stack((losses.sum(), _whole(norm).to(losses))), fits.flatten()))
    value, length, *counts = batches.meanwhile(facts)
    finite = math.isfinite(value) and (math.isfinite(length) or step.scale_can_fall(fabric))
    failed, stop, due = _agreed(fabric, not finite, *requests())
    if failed:
        kept = str(parts.run.folder)
        refusal = step.not_finite(
            samples, losses, length, at_once=at_once, step=position.step, kept=kept, precision=settings.precision
        )
        raise _told_by_one(fabric, refusal, first=not math.isfinite(value))
    if not optimiser.state:  # made now, and should not have to fit between what the gradient left
        devices.give_back()
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    state.averaged()
    position.step += 1
    position.loss_sum += value
    position.overlap = [a + b for a, b in zip(position.overlap or [0.0] * len(counts), counts, strict=True)]
    return value, stop, bool(due)


def _at_once(parts: Parts, position: Position) -> int:
    """Samples that are computed at once."""
    wanted = step.at_once(parts.recipe.train, parts.plan.batch)
    return min(wanted, position.micro_batch or wanted)


def _say_what_mixes(parts: Parts, fabric: lightning_fabric.Fabric, position: Position) -> None:
    samples = parts.plan.batch * parts.recipe.train.accumulate
    at_once = _at_once(parts, position)
    reasons = step.mixing(parts.recipe, parts.network, parts.table)
    if at_once < samples * fabric.world_size and reasons:
        parts.announce(
            f"a step of {samples * fabric.world_size} samples, {at_once} at once, is not the same as with all at once: "
            + "; ".join(reasons)
        )


def _whole(norm: Tensor | None) -> Tensor:
    """The norm of all gradients, which a divided network has in parts."""
    if isinstance(norm, DTensor):
        return norm.full_tensor()
    return torch.zeros(()) if norm is None else norm


def _agreed(fabric: lightning_fabric.Fabric, *answers: int) -> list[int]:
    """The largest answer of any process to each question: they stop together and save together, or those that go on
    would wait for the others."""
    if fabric.world_size == 1:
        return list(answers)
    told = fabric.all_reduce(torch.tensor(answers, dtype=torch.int32, device=fabric.device), reduce_op="max")
    return [int(answer) for answer in told.tolist()]


def _told_by_one(fabric: lightning_fabric.Fabric, refusal: Refusal, *, first: bool) -> BaseException:
    """What each process raises where all stop: one tells why, for all. `first`: this one is to blame; the gradients of
    the others are spoilt by its own."""
    if fabric.world_size == 1:
        return refusal
    told: list[tuple[bool, Refusal]] = [(first, refusal)] * fabric.world_size
    torch.distributed.all_gather_object(told, (first, refusal))
    return max(told, key=lambda one: one[0])[1] if fabric.is_global_zero else Interrupted(0)


def _over(position: Position, settings: TrainSettings) -> bool:
    return position.step >= settings.epochs * settings.steps or _patience_over(position, settings.patience)


def _where(position: Position, total: int, patience: int) -> str:
    """What a run that was started before has still to do."""
    if position.step >= total:
        return "the training is complete; --resume with more train.epochs would go on"
    if _patience_over(position, patience):
        return f"the training stopped early at step {position.step}, after {patience} validations that were no better"
    return f"going on after step {position.step} of {total}"


def _batches(parts: Parts, fabric: lightning_fabric.Fabric, first_step: int, total: int) -> Batches:
    """The samples of each step, which are all batches that it adds up."""
    settings, device = parts.recipe.train, fabric.device
    size = parts.plan.batch * settings.accumulate
    wanted = numbers(first_step, total, size=size, rank=fabric.global_rank, world=fabric.world_size)
    workers = count_workers(settings.workers, device=device, steps=total - first_step, processes=settings.devices)
    return Batches(parts.samples, wanted, device=device, vary_there=device.type == "cuda", workers=workers)


def _end_of_epoch(parts: Parts, fabric: lightning_fabric.Fabric, state: State) -> dict[str, Any]:
    """Validate where it is time, and enter the epoch into the history."""
    settings, position = parts.recipe.train, state.position
    number = len(position.history) + 1
    rate = schedule.learning_rate(position.step - 1, settings)
    entry: dict[str, Any] = {"epoch": number, "loss": position.loss_sum / settings.steps, "lr": rate}
    if parts.table.unit == "voxel":
        entry |= watch.taught(position.overlap, parts.table.names)
    position.loss_sum, position.overlap = 0.0, []
    position.history.append(entry)
    if number % settings.validate_every == 0 or number == settings.epochs:
        _validate(parts, fabric, state.kept, entry, position)
        if warned := watch.warnings(position.history, epoch.present(parts), epochs=settings.epochs):
            entry["warnings"] = warned
    return entry


def _validate(
    parts: Parts, fabric: lightning_fabric.Fabric, network: nn.Module, entry: dict[str, Any], position: Position
) -> None:
    """Measure the network, and keep its weights if they are the best so far."""
    measure = validate.measure(parts.table)
    examples = epoch.examples(parts, entry["epoch"])
    settings = parts.recipe.predict.model_copy(update={"mirror": ()})
    held_out = HeldOut(
        parts.validation, parts.plan, parts.table, settings, together=parts.recipe.train.shard, slices=parts.slices
    )
    score, per_label = held_out.measure(network, fabric, show=examples.draw)
    entry[measure] = score
    entry[f"{measure}_per_label"] = {
        name: (None if math.isnan(value) else round(value, 4))
        for name, value in zip(parts.table.names, per_label, strict=True)
    }
    # what learns from coarse patches is not given up
    position.since_best += position.step >= curriculum.whole_from(parts.recipe.train)
    if math.isnan(score):  # there is nothing to choose by, the latest is kept
        why = "no label in any validation case" if measure == "dice" else "all validation cases are of one class"
        parts.announce(f"{why}: {measure} is undefined, and the latest weights are kept")
        entry[measure] = None
    if entry[measure] is None or score > position.best:
        position.best, position.since_best = max(position.best, entry[measure] or 0.0), 0
        tensors = shard.whole(network.state_dict())
        if fabric.is_global_zero:
            facts = {"epoch": entry["epoch"], measure: entry[measure]}
            checkpoint.save(parts.run.path("weights.safetensors"), tensors, facts)
            examples.keep_as_best()


def _patience_over(position: Position, patience: int) -> bool:
    return patience > 0 and position.since_best >= patience
